/**
 * A table's map, compiled: everything as SQL over the source's row (alias ROW) or the target's row (alias t). Types alone, and the names in that
 * SQL.
 */
import type { RelationName } from '../../plan/model/steps';
import type { LoadControl } from '../../plan/model/dataMigration';
import type { HashMethod } from '../rowHash';
import type { TableColumn } from './tables';

/** The source's row: no plan calls its own tables so. */
export const ROW = 'pgshift_row';
/** What came over, in the target's session. */
export const STAGE = 'pg_temp.pgshift_stage';

export interface SpecColumn {
  /** The target's name, and what is known of it. */
  readonly name: string;
  readonly to: TableColumn;
  /** As it travels: an expression over ROW. */
  readonly sql: string;
  /** Its type on the way. */
  readonly stage: string;
  /** What is put into the target: over s, the stage. */
  readonly put: string;
  /** What is compared: over the travelling value (`source`, where $ stands for it) and over t. */
  readonly image: { readonly source: string; readonly target: string };
  /** The source's column that comes over as it is; null = computed. */
  readonly from: string | null;
  /** Its text is the value: neither a cast nor a filler comes between. */
  readonly plain: boolean;
  /** The source's columns that it is made of. */
  readonly reads: readonly string[];
  /** Its place in the plan. */
  readonly path: string;
}

export interface SpecRule {
  readonly column: string;
  /** email, phone, date, range, sql, lookup. */
  readonly rule: string;
  /** Over ROW: a row is refused where it is false. */
  readonly sql: string;
  readonly reason: string;
  readonly path: string;
}

export interface SpecDedupe {
  /** Over ROW. */
  readonly key: readonly string[];
  readonly keep: 'first' | 'last' | 'merge';
  /** ORDER BY items over ROW, complete: two rows never tie. */
  readonly order: string;
}

export interface Spec {
  readonly source: RelationName;
  readonly target: RelationName;
  readonly targetPartitioned: boolean;
  readonly columns: readonly SpecColumn[];
  readonly where: string | null;
  readonly whereReads: readonly string[];
  /** Over ROW: the same rows every time. */
  readonly sample: string | null;
  readonly rules: readonly SpecRule[];
  readonly dedupe: SpecDedupe | null;
  /** jsonb over ROW: what the quarantine calls the row. */
  readonly key: string;
  /** The target's unique key, by which rows are found again; null = there is none. */
  readonly conflict: readonly string[] | null;
  readonly load: LoadControl;
  /** Each row's key is written down with its load: for the way back among rows that are not ours, and for the proof. */
  readonly tracked: boolean;
  readonly method: HashMethod;
}
