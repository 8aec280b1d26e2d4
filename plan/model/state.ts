/**
 * Everything that a run of `schemaMigration` knows, as one versioned JSON object: what a continue-as-new passes on, and what status,
 * progress and report are made of. Ids and counts only: SQL, plans and rows stay in the database. Pure.
 */
import type { ConditionState, HealthEvent } from './health';
import type { Inbox } from './inbox';
import { emptyInbox } from './inbox';
import type { SchemaMigrationPlan } from './plan';
import type { CopyControl } from './dataMigration';
import type { CanaryState } from './canary';
import type { PairState } from './pairState';
import type {
  CatalogDiff,
  LastError,
  Proof,
  RowProgress,
  RunStatus,
  StepReport,
  TableProgress,
  WaitingFor,
} from './status';
import type { Dependent, Finding, Phase, Risk, RunPhase, Step, Work } from './steps';
import { isPair } from './steps';
import type { ShownTablesPlan } from './tablesPlan';

/** The plan without what only the planner reads: small, and without SQL. */
export interface Control extends Omit<
  SchemaMigrationPlan,
  'kind' | 'sql' | 'sqlFile' | 'transforms' | 'allow' | 'archive' | 'versions' | 'labels' | 'description'
> {
  readonly kind: 'schema-migration' | 'data-migration' | 'blue-green' | 'canary';
}

export function controlOf(plan: SchemaMigrationPlan): Control {
  const { sql: _1, sqlFile: _2, transforms: _3, allow: _4, archive: _5, versions: _6, labels: _7, ...rest } = plan;
  const { description: _8, ...control } = rest;
  return control;
}

/** What the worker's environment says about timing; injected, so that tests need not wait. */
export interface Settings {
  readonly heartbeatMs: number;
  /** A watch returns at the latest after this. */
  readonly watchMs: number;
  /** Continue as new at this many events, also when the server does not ask for it; null = when it asks. */
  readonly continueAsNewEvents: number | null;
}

export interface StepFact {
  readonly id: string;
  readonly phase: Phase;
  readonly action: string;
  /** Empty when a plan has so many steps that titles would not fit. */
  readonly title: string;
  readonly work: Work;
  readonly seconds: readonly [number, number];
  readonly rows: number | null;
  /** `table` or `table.column` of batches, for the progress table. */
  readonly table: string | null;
  readonly undo: boolean;
  readonly lossless: boolean;
  /** Why it cannot be taken back; null = it can, or there is nothing to take back. */
  readonly because: string | null;
}

/** What is known of the plan once it was made against the live catalogue. */
export interface PlanFacts {
  readonly checksum: string;
  readonly serverVersion: number;
  readonly risk: Risk;
  readonly steps: readonly StepFact[];
  readonly keepsOld: boolean;
  readonly warnings: number;
  readonly estimate: { readonly seconds: readonly [number, number]; readonly bytes: readonly [number, number] };
  /** Of a dry run alone. */
  readonly plan?: {
    readonly steps: readonly Omit<Step, 'run' | 'undo'>[];
    readonly findings: readonly Finding[];
    readonly dependents: readonly Dependent[];
  };
}

/** What one activity says of the steps that it ran. */
export interface StepsOutcome {
  readonly steps: readonly StepReport[];
  readonly proofs: readonly Proof[];
  readonly throttledMs: Readonly<Record<string, number>>;
  /** Sum over locks that make writers wait. */
  readonly blockedWritesMs: number;
}

export interface Cause {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly by: string | null;
  /** The change is taken back because Temporal's cancel asked for it. */
  readonly cancelled: boolean;
}

/** Live numbers of the running activity. */
export interface Live extends RowProgress {
  readonly step: string;
  readonly attempt: number;
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  readonly waitingFor: string | null;
  /** Of a copy: the tables that run, and the last ones that ended. */
  readonly tables?: readonly TableProgress[];
}

/** What a data migration knows of its copy: counts and ranges of table numbers; the list itself lies in pgshift.copy_tables of the target. */
export interface CopyState {
  control: CopyControl;
  /** Number of the snapshot; a new one begins when the holder or the source died. */
  epoch: number;
  /** Why the snapshots before this one ended. */
  lost: string[];
  tables: number;
  bytes: number;
  /** Pieces of work that are not done, in the order in which they are begun. */
  queue: Piece[];
  copied: number;
  rows: number;
  bytesDone: number;
  /** Tables that failed, with the code; skipped ones stay listed. */
  quarantined: Quarantined[];
  /** Of a stream: the change that it stopped at. */
  held?: { readonly table: string; readonly code: string; readonly message: string; readonly lsn: string } | null;
}

/** Tables by their numbers in pgshift.copy_tables; a big one alone has its name. */
export interface Piece {
  readonly from: number;
  readonly to: number;
  readonly label: string;
}

export interface Quarantined {
  readonly no: number;
  readonly table: string;
  readonly code: string;
  readonly message: string;
  readonly skipped: boolean;
}

export interface RunState {
  readonly version: 1;
  readonly id: string;
  readonly name: string;
  readonly database: string;
  readonly kind: 'schema-migration' | 'rollback' | 'data-migration' | 'blue-green' | 'canary';
  control: Control | null;
  environment: string;
  settings: Settings;
  facts: PlanFacts | null;
  status: RunStatus;
  /** Where it really is; status shows `gate` while one waits. */
  phase: RunPhase;
  step: string | null;
  attempt: number;
  /** How many of facts.steps are done, and how many may have left something (done + the one that runs). */
  done: number;
  begun: number;
  /** What needs doing once: `gate:contract`, `hook:before:expand:0`, `baseline`, ... */
  marks: string[];
  /** Gates and windows that were opened for waiting, with the time: an expiry counts from there, also over a continue-as-new. */
  opened: Record<string, string>;
  baselines: Record<string, number | null>;
  conditions: Record<string, ConditionState>;
  startedAt: string;
  updatedAt: string;
  endedAt: string | null;
  /** When contract had committed: from here on the hold's clock runs. */
  contractedAt: string | null;
  /** Milliseconds of work so far, for `timeout`. */
  spentMs: number;
  blockedWritesMs: number;
  inbox: Inbox;
  /** What a health condition said when it paused the run; null = it did not. */
  unwell: string | null;
  waiting: WaitingFor | null;
  lastError: LastError | null;
  cause: Cause | null;
  live: Live | null;
  steps: StepReport[];
  proof: Proof[];
  health: HealthEvent[];
  catalogDiff: CatalogDiff;
  measured: Record<string, unknown>;
  /** Of a data migration, and of the sync of a blue-green. */
  copy?: CopyState;
  /** Of a dry run of a data migration. */
  planned?: ShownTablesPlan;
  /** Of a blue-green, and of a canary. */
  pair?: PairState;
  canary?: CanaryState;
  /** Of a run without planned steps. */
  checksum?: string;
}

export const DEFAULT_SETTINGS: Settings = { heartbeatMs: 10_000, watchMs: 3_600_000, continueAsNewEvents: null };

export function newState(of: Pick<RunState, 'id' | 'name' | 'database' | 'kind'>, now: string): RunState {
  return {
    version: 1,
    ...of,
    control: null,
    environment: 'development',
    settings: DEFAULT_SETTINGS,
    facts: null,
    status: 'pending',
    phase: isPair(of.kind) ? 'guardrails' : 'preflight',
    step: null,
    attempt: 0,
    done: 0,
    begun: 0,
    marks: [],
    opened: {},
    baselines: {},
    conditions: {},
    startedAt: now,
    updatedAt: now,
    endedAt: null,
    contractedAt: null,
    spentMs: 0,
    blockedWritesMs: 0,
    inbox: emptyInbox,
    unwell: null,
    waiting: null,
    lastError: null,
    cause: null,
    live: null,
    steps: [],
    proof: [],
    health: [],
    catalogDiff: { asked: [], other: [] },
    measured: {},
  };
}
