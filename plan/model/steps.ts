/**
 * A plan as a value: what is shown by `plan`, run by the workflow and repeated by `report`.
 * Every step carries, before it runs, the exact SQL, the locks, the risk and its way back.
 */

export const PHASES = [
  'preflight',
  'expand',
  'backfill',
  'build',
  'validate',
  'gate',
  'contract',
  'hold',
  'cleanup',
] as const;
export type Phase = (typeof PHASES)[number];

/** Phases of a data migration. */
export const DATA_PHASES = [
  'preflight',
  'snapshot',
  'schema',
  'copy',
  'build',
  'follow',
  'verify',
  'gate',
  'finish',
] as const;
export type DataPhase = (typeof DATA_PHASES)[number];

/** Steps of a blue-green; each is a phase of its own. */
export const BLUE_GREEN_STEPS = [
  ...(['guardrails', 'backup_blue', 'create_green', 'apply_change', 'sync', 'validate_green'] as const),
  ...(['performance_check', 'gate', 'pause', 'fence', 'catch_up', 'reverse', 'switch_traffic', 'probe'] as const),
  ...(['resume', 'monitor', 'hold', 'decommission'] as const),
] as const;
export type BlueGreenStep = (typeof BLUE_GREEN_STEPS)[number];

/** Of a canary: a blue-green with stages before its switch, and the last one after it. People see the stages' names. */
export const CANARY_STEPS = BLUE_GREEN_STEPS.flatMap((step): readonly (BlueGreenStep | 'stages' | 'full')[] =>
  step === 'gate' ? ['stages', step] : step === 'resume' ? [step, 'full'] : [step],
);
/** Of either. */
export type PairStep = (typeof CANARY_STEPS)[number];
/** And those of the way back. */
export type BlueGreenPhase = PairStep | 'switch_back' | 'decommission_green';

/** Of a run of any kind. */
export type RunPhase = Phase | DataPhase | BlueGreenPhase;

/** The phases that a run of this kind goes through, in their order. */
export function phasesOf(kind: string): readonly RunPhase[] {
  if (kind === 'data-migration') return DATA_PHASES;
  return isPair(kind) ? pairSteps(kind) : PHASES;
}

export const isPair = (kind: string): kind is 'blue-green' | 'canary' => kind === 'blue-green' || kind === 'canary';
export const pairSteps = (kind: string): readonly PairStep[] => (kind === 'canary' ? CANARY_STEPS : BLUE_GREEN_STEPS);

/** Weakest first, as in Postgres' manual. */
export const LOCK_MODES = [
  'ACCESS SHARE',
  'ROW SHARE',
  'ROW EXCLUSIVE',
  'SHARE UPDATE EXCLUSIVE',
  'SHARE',
  'SHARE ROW EXCLUSIVE',
  'EXCLUSIVE',
  'ACCESS EXCLUSIVE',
] as const;
export type LockMode = (typeof LOCK_MODES)[number];

export type Risk = 'low' | 'medium' | 'high';
export type RiskTable = Readonly<Record<'dataLoss' | 'downtime' | 'performance' | 'rollback', Risk>>;
export type Work = 'metadata' | 'scan' | 'build' | 'batches' | 'rewrite';
export type Held = 'brief' | 'scan' | 'rewrite' | 'batch';

export interface PlannedLock {
  /** `schema.table`, quoted where needed, for people. */
  readonly relation: string;
  readonly mode: LockMode;
  readonly blocks: 'nothing' | 'schema changes' | 'writes' | 'reads and writes';
  readonly held: Held;
}

export interface Estimate {
  /** low, high */
  readonly seconds: readonly [number, number];
  readonly bytes: readonly [number, number];
  readonly rows: number | null;
}

/** A relation by its two unquoted names. */
export interface RelationName {
  readonly schema: string;
  readonly name: string;
}

export interface LockTarget {
  readonly relation: RelationName;
  readonly mode: LockMode;
}

/**
 * One transaction under the lock ladder. Statements run in order; `lockFirst` is taken before them with LOCK TABLE in the given order
 * (first waits up to lock_timeout, later ones NOWAIT). The record that the step is done commits in the same transaction.
 */
export interface TransactionRun {
  readonly kind: 'transaction';
  readonly lockFirst: readonly LockTarget[];
  readonly statements: readonly string[];
  /** True when a statement scans or builds (VALIDATE, ANALYZE): no blocking lock is held, so it may take long. */
  readonly long: boolean;
  /** Settings for the transaction, as `SET LOCAL name = value` (names and values unquoted). */
  readonly settings?: Readonly<Record<string, string>>;
}

/** CREATE INDEX CONCURRENTLY; an invalid leftover of that name on that table is dropped concurrently and built again. */
export interface CreateIndexRun {
  readonly kind: 'create-index';
  /** Schema of the index = schema of its table. */
  readonly index: RelationName;
  readonly table: RelationName;
  /** Exactly what is sent: CREATE [UNIQUE] INDEX CONCURRENTLY ... without IF NOT EXISTS. */
  readonly statement: string;
  readonly unique: boolean;
  /** SQL condition: where it does not hold the run has nothing to do. For ways back of steps that never happened. */
  readonly onlyWhen?: string;
}

/** DROP INDEX CONCURRENTLY IF EXISTS. */
export interface DropIndexRun {
  readonly kind: 'drop-index';
  readonly index: RelationName;
}

/** A statement that refuses transactions and was allowed by name (VACUUM FULL and the like). */
export interface AutocommitRun {
  readonly kind: 'autocommit';
  readonly statement: string;
}

/**
 * Fills columns of existing rows in batches over ranges. SQL fragments use alias `t` for the table.
 * One batch: UPDATE <table> AS t SET <set> WHERE <range of t> AND (<pending>).
 */
export interface BackfillRun {
  readonly kind: 'backfill';
  readonly table: RelationName;
  /** `"col" = expression over t` */
  readonly set: readonly string[];
  /** Predicate over t: true where the row still needs work. Must become false once done (idempotence). */
  readonly pending: string;
  /** Keyset columns in order (a unique, not-null key), or null = ctid ranges. */
  readonly key: readonly KeyColumn[] | null;
  /** The batch must not fire the user's triggers (session_replication_role = replica; our sync trigger is ENABLE ALWAYS). */
  readonly quiet: boolean;
  readonly settings?: Readonly<Record<string, string>>;
  /** For messages: the column that is filled, as `table.column`. */
  readonly column: string;
  /** Where the values that are written over go, in the same statement; needs `key`. Left out: nobody needs them. */
  readonly keep?: KeptValues;
  /** As in CreateIndexRun. */
  readonly onlyWhen?: string;
}

/** A table of ours: k1.. (the key), `was`, `filled`. */
export interface KeptValues {
  readonly table: RelationName;
  /** The column whose values are kept. */
  readonly column: string;
}

export interface KeyColumn {
  readonly name: string;
  /** Postgres type as format_type() prints it, for casts of range bounds. */
  readonly type: string;
}

/** The user's own UPDATE / DELETE in keyset batches. Fragments use the statement's own alias. */
export interface DmlRun {
  readonly kind: 'dml';
  readonly verb: 'update' | 'delete';
  readonly table: RelationName;
  readonly key: readonly KeyColumn[] | null;
  /** One batch with $RANGE where the range predicate goes, over alias `alias`. */
  readonly statement: string;
  /** The row predicate of the statement over `alias` ("true" when none). */
  readonly where: string;
  readonly alias: string;
  /** Keep the old rows in this table (made by an expand step) in the same transaction; null = not archived. */
  readonly archive: RelationName | null;
  /** Keep the rows as an UPDATE left them here, in the same statement. */
  readonly written?: RelationName;
  /** Of the rows that are kept, by name: a partition may have them in another order, and other statements may add some. */
  readonly columns?: readonly string[];
  readonly settings?: Readonly<Record<string, string>>;
}

/** INSERT ... SELECT over a big source table, by ranges of the source's key: each range once, with its checkpoint. */
export interface InsertSelectRun {
  readonly kind: 'insert-select';
  readonly target: RelationName;
  readonly source: RelationName;
  readonly key: readonly KeyColumn[] | null;
  /** With $RANGE where the range predicate goes, over alias `alias`. */
  readonly statement: string;
  readonly alias: string;
  readonly settings?: Readonly<Record<string, string>>;
}

export interface ProofCheck {
  /** `table.column` for people. */
  readonly column: string;
  /** Predicate over t: the row was not filled. */
  readonly remaining: string;
  /** Predicate over t: new image differs from the transform of the old (record_image_ne). */
  readonly differing: string;
  /** record expressions over t whose fingerprints are compared: old through the transform, and new. */
  readonly oldImage: string;
  readonly newImage: string;
}

/** Reads the whole table by ranges and refuses (ProofFailed, keys into pgshift.differences) unless every check is 0. */
export interface ProofRun {
  readonly kind: 'proof';
  readonly table: RelationName;
  readonly key: readonly KeyColumn[] | null;
  readonly checks: readonly ProofCheck[];
  /** 'refuse' = ProofFailed. 'report' = rows that cannot go back: listed, rollback asks for approval first. */
  readonly onDiffer: 'refuse' | 'report';
  readonly settings?: Readonly<Record<string, string>>;
  /** What the sentence to a person says, e.g. "rows have no valid value for the new type". */
  readonly message?: string;
  /** As in CreateIndexRun. */
  readonly onlyWhen?: string;
}

/** Fails with DuplicateRows (keys listed) when `columns` are not unique among rows where `where` holds. */
export interface DuplicatesRun {
  readonly kind: 'duplicates';
  readonly table: RelationName;
  /** Expressions over t, as the unique index will have them. */
  readonly columns: readonly string[];
  readonly where: string | null;
  readonly nullsNotDistinct: boolean;
}

/** Watches a hidden object during the hold: any use seen is logged and shown. */
export interface ArchiveRun {
  readonly kind: 'archive';
  readonly table: RelationName;
  /** Column to keep with the key, or null = the whole table. */
  readonly column: string | null;
  /** What that column is called in the archive: its name before it was hidden. */
  readonly as?: string;
  readonly key: readonly KeyColumn[] | null;
  /** `schema.table` to write to, or a directory for pg_dump. */
  readonly to: { readonly table: RelationName } | { readonly directory: string };
}

export type StepRun =
  | TransactionRun
  | CreateIndexRun
  | DropIndexRun
  | AutocommitRun
  | BackfillRun
  | DmlRun
  | InsertSelectRun
  | ProofRun
  | DuplicatesRun
  | ArchiveRun;

export interface WayBack {
  /** What will be sent, for people (the statements of `undo` joined). */
  readonly statement: string;
  readonly lossless: boolean;
}

export interface Step {
  /** `<phase>.<n>`, n counted from 1 in each phase. */
  readonly id: string;
  readonly phase: Phase;
  /** snake_case verb and noun: add_column, create_index, swap_column, ... */
  readonly action: string;
  /** One line for people: "add column payment.amount (numeric(14,4))". */
  readonly title: string;
  /** Exactly what will be sent (batches: one batch with its range as $1, $2). */
  readonly statement: string;
  /** The user's statement it comes from (1-based) and its line; null for pgshift's own. */
  readonly from: { readonly statement: number; readonly line: number } | null;
  readonly transactional: boolean;
  readonly locks: readonly PlannedLock[];
  readonly work: Work;
  readonly estimate: Estimate;
  readonly risk: RiskTable;
  readonly wayBack: WayBack | null;
  /** Why there is no way back. */
  readonly because: string | null;
  readonly run: StepRun;
  /** Taken in order when the step is taken back; each idempotent, and right when the step never happened. */
  readonly undo: readonly StepRun[];
}

export interface Finding {
  readonly rule: string;
  readonly level: 'error' | 'warning' | 'info';
  readonly file: string | null;
  readonly line: number;
  readonly column: number;
  /** 1-based number of the user's statement. */
  readonly statement: number;
  readonly relation: string | null;
  readonly message: string;
  readonly alternative: string | null;
  /** Named under `allow`. An error that is not allowed refuses the plan. */
  readonly allowed: boolean;
}

export interface Dependent {
  /** view, rule, trigger, policy, function, publication, index, constraint, statistics, generated column ... */
  readonly type: string;
  readonly name: string;
  readonly of: string;
  readonly handled: 'recreated' | 'moved' | 'refused' | 'kept';
}

/**
 * Counted by preflight on the live database before the first step: the planner sees no rows. One row, one bigint; reads only; run under
 * the plan's searchPath. More than 0 = the run ends with `code`, `$COUNT` in the message replaced by the number.
 */
export interface PreCheck {
  readonly count: string;
  readonly code: 'TransformMissing' | 'DuplicateRows' | 'TransformFailed' | 'PreflightFailed';
  readonly message: string;
  readonly hint: string;
  /** `schema.table.column` for people. */
  readonly column: string;
  readonly statement: number;
  readonly line: number;
}

export interface SchemaPlan {
  readonly kind: 'schema-migration';
  readonly name: string;
  readonly database: string;
  readonly mode: 'dry-run' | 'safe' | 'production';
  /** sha256 of the SQL text as given, hex. */
  readonly checksum: string;
  /** As server_version_num: 180006. */
  readonly serverVersion: number;
  readonly runnable: boolean;
  readonly risk: { readonly overall: Risk } & RiskTable;
  readonly estimate: { readonly seconds: readonly [number, number]; readonly bytes: readonly [number, number] };
  readonly steps: readonly Step[];
  readonly findings: readonly Finding[];
  readonly dependents: readonly Dependent[];
  /** What the catalogue will differ by when all is done, one line per object, as catalogDiff prints lines. Empty when not known. */
  readonly asked: readonly string[];
  /** Questions for preflight; none when left out. */
  readonly preChecks?: readonly PreCheck[];
  /** Is anything old kept after contract (then there is a hold)? */
  readonly keepsOld: boolean;
}

export const lockRank = (mode: LockMode): number => LOCK_MODES.indexOf(mode);

/** What a lock mode makes others wait for. */
export function blocks(mode: LockMode): PlannedLock['blocks'] {
  const rank = lockRank(mode);
  if (rank === lockRank('ACCESS EXCLUSIVE')) return 'reads and writes';
  if (rank >= lockRank('SHARE')) return 'writes';
  if (rank >= lockRank('SHARE UPDATE EXCLUSIVE')) return 'schema changes';
  return 'nothing';
}
