/**
 * The search attributes that every run writes. A start with one that the namespace does not know is refused and an upsert of one
 * fails the workflow task for ever, so a worker looks before it takes work and says exactly what to type.
 */
import { Problem } from '../plan/model/errors';

export type SearchAttributeType = 'Keyword' | 'Bool';

/** Name -> type, as `temporal operator search-attribute create` takes them. */
export const SEARCH_ATTRIBUTES: Readonly<Record<string, SearchAttributeType>> = {
  MigrationName: 'Keyword',
  MigrationDatabase: 'Keyword',
  MigrationKind: 'Keyword',
  MigrationPhase: 'Keyword',
  MigrationStatus: 'Keyword',
  MigrationEnvironment: 'Keyword',
  MigrationRisk: 'Keyword',
  NeedsApproval: 'Bool',
};

/** What is needed of a Connection or NativeConnection. */
export interface OperatorConnection {
  readonly operatorService: {
    listSearchAttributes(request: {
      namespace: string;
    }): Promise<{ customAttributes?: Record<string, unknown> | null }>;
  };
}

/** The missing ones; empty = all there. */
export async function missingSearchAttributes(connection: OperatorConnection, namespace: string): Promise<string[]> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return Object.keys(SEARCH_ATTRIBUTES).filter((name) => !Object.hasOwn(customAttributes ?? {}, name));
}

/** The lines that create them. */
export const createLines = (names: readonly string[], namespace: string): string[] =>
  names.map(
    (name) =>
      `temporal operator search-attribute create --namespace ${namespace} --name ${name} --type ${SEARCH_ATTRIBUTES[name] ?? 'Keyword'}`,
  );

/** Throws InvalidConfig (exit 2) whose hint is the exact lines to run when the namespace lacks some of them. */
export async function checkSearchAttributes(connection: OperatorConnection, namespace: string): Promise<void> {
  const missing = await missingSearchAttributes(connection, namespace);
  if (missing.length === 0) return;
  throw new Problem('InvalidConfig', `namespace ${namespace} lacks search attributes: ${missing.join(', ')}`, {
    hint: `run:\n${createLines(missing, namespace).join('\n')}`,
    details: { missing, commands: createLines(missing, namespace) },
  });
}
