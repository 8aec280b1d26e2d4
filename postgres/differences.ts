/** Keys of rows that do not fit, in pgshift.differences: the only place where they are written. Errors carry counts alone. */
import type { Session } from './session';

export interface Difference {
  /** `{column: text}`: the row's key, or `{ctid}`. */
  readonly key: Readonly<Record<string, string | null>>;
  readonly column: string | null;
  readonly reason: string;
}

export interface DifferenceList {
  readonly migration: string;
  readonly step: string;
  readonly table: string;
  /** transform, duplicate, proof, way-back */
  readonly rule: string;
}

/** Keys beyond this many are counted, not listed. */
export const LISTED = 1_000;

/** Replaces what this step listed under this rule: a repeated attempt lists the same rows once. */
export async function writeDifferences(
  session: Session,
  list: DifferenceList,
  differences: readonly Difference[],
): Promise<void> {
  await session.run(
    `WITH gone AS (DELETE FROM pgshift.differences WHERE migration_name = $1 AND step_id = $2 AND rule = $4 AND table_name = $3)
     INSERT INTO pgshift.differences (migration_name, step_id, table_name, rule, key, column_name, reason)
     SELECT $1, $2, $3, $4, d.key, d."column", d.reason
       FROM jsonb_to_recordset($5::jsonb) AS d(key jsonb, "column" text, reason text)`,
    [list.migration, list.step, list.table, list.rule, JSON.stringify(differences.slice(0, LISTED))],
  );
}
