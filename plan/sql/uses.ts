/**
 * What the statements that the database has seen say about the plan: positional INSERT, COPY without columns and SELECT * notice a new
 * column or a new order, though Postgres does not. Only with pg_stat_statements; the texts are normalised, so no value is in them.
 */
import { shownRelation } from '../model/quote';
import type { StatementUse, Table } from '../model/catalog';
import type { RelationName } from '../model/steps';
import type { PlanBuilder } from './context';

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const named = (table: RelationName): string => `(?:"?${escape(table.schema)}"?\\s*\\.\\s*)?"?${escape(table.name)}"?`;

export interface PositionalUse {
  readonly kind: 'INSERT without columns' | 'COPY without columns' | 'SELECT *';
  readonly calls: number;
}

/** Uses of the table that depend on the number or order of its columns. */
export function positionalUses(statements: readonly StatementUse[], table: RelationName): PositionalUse[] {
  const insert = new RegExp(
    `\\binsert\\s+into\\s+${named(table)}(?:\\s+as\\s+\\w+)?\\s+(?:values|select|table)\\b`,
    'i',
  );
  const copy = new RegExp(`\\bcopy\\s+${named(table)}\\s+(?:from|to)\\b`, 'i');
  const star = new RegExp(
    `\\bselect\\s+(?:distinct\\s+)?(?:\\w+\\s*\\.\\s*)?\\*[\\s\\S]*\\bfrom\\s+(?:only\\s+)?${named(table)}(?![\\w"])`,
    'i',
  );
  return statements.flatMap((use): PositionalUse[] => {
    if (insert.test(use.text)) return [{ kind: 'INSERT without columns', calls: use.calls }];
    if (copy.test(use.text)) return [{ kind: 'COPY without columns', calls: use.calls }];
    return star.test(use.text) ? [{ kind: 'SELECT *', calls: use.calls }] : [];
  });
}

/** One warning for each table whose columns change in number or order. */
export function catalogueFindings(builder: PlanBuilder): void {
  const seen = new Set<string>();
  for (const draft of builder.drafts) {
    if (!['add_column', 'hide_column', 'swap_column', 'swap_columns', 'drop_column'].includes(draft.action)) continue;
    const [lock] = draft.run.kind === 'transaction' ? draft.run.lockFirst : [];
    if (!lock) continue;
    const name = shownRelation(lock.relation);
    const table = builder.overlay.base.tables.find(
      (t) => t.schema === lock.relation.schema && t.name === lock.relation.name,
    );
    if (!table || seen.has(name)) continue;
    seen.add(name);
    warn(builder, draft.of, table, draft.action);
  }
}

function warn(builder: PlanBuilder, of: PlanBuilder['drafts'][number]['of'], table: Table, action: string): void {
  const uses = positionalUses(builder.overlay.base.statements, table);
  if (uses.length === 0) return;
  const kinds = [...new Set(uses.map((use) => use.kind))].join(', ');
  const calls = uses.reduce((n, use) => n + use.calls, 0);
  const what =
    action === 'add_column'
      ? 'gets one more column'
      : action.startsWith('swap')
        ? 'changes the order of its columns'
        : 'loses a column';
  builder.context(of).finding({
    rule: 'positional_use',
    level: 'warning',
    message: `${shownRelation(table)} ${what}, and clients use it by position: ${kinds} (${calls} calls in pg_stat_statements)`,
    alternative: 'name the columns in these statements first',
    relation: shownRelation(table),
  });
}
