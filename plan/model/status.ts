/** What comes back: status, progress, report, as the contract has them. Pure types and the enums they use. */
import type { StageReport } from './canary';
import type { LockMode, Step, Finding, Dependent } from './steps';
import type { Kind } from './plan';
import type { SwitchMeasured } from './pairState';
import type { Side } from './traffic';

export const RUN_STATUSES = [
  'pending',
  'running',
  'waiting',
  'paused',
  'holding',
  'rolling_back',
  'completed',
  'failed',
  'rolled_back',
  'cancelled',
] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

export interface WaitingFor {
  readonly type: 'gate' | 'window' | 'lock' | 'throttle' | 'health' | 'pause' | 'person';
  readonly gate: string | null;
  readonly since: string;
  readonly until: string | null;
  readonly reason: string;
  readonly evidence: Readonly<Record<string, unknown>>;
  /** Exact lines to paste. */
  readonly commands: readonly string[];
}

export interface Approval {
  readonly gate: string;
  readonly by: string;
  readonly at: string;
  readonly verdict: 'approved' | 'rejected' | 'expired' | 'opened';
  readonly reason: string | null;
  readonly via: 'cli' | 'signal' | 'update' | 'api' | 'health';
}

export interface LastError {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

export interface Status {
  readonly id: string;
  readonly name: string;
  readonly database: string;
  readonly kind: Kind;
  readonly mode: string;
  readonly status: RunStatus;
  /** As people see it: of a canary's stage its name. */
  readonly phase: string;
  readonly step: string | null;
  readonly attempt: number;
  readonly startedAt: string;
  readonly updatedAt: string;
  readonly endedAt: string | null;
  readonly waitingFor: WaitingFor | null;
  readonly approvals: readonly Approval[];
  readonly lastError: LastError | null;
  readonly wayBack: {
    readonly possible: boolean;
    readonly lossless: boolean;
    readonly until: string | null;
    readonly how: string;
  };
  /** Of a blue-green or a canary: the side that takes writes; none = both are fenced; null = not known. */
  readonly writableSide?: Side | 'none' | null;
  /** The last 5 refused signals. */
  readonly messages: readonly {
    readonly at: string;
    readonly name: string;
    readonly code: string;
    readonly message: string;
  }[];
}

/** How far work over rows is; an estimate is the planner's. */
export interface RowProgress {
  readonly rowsDone: number;
  readonly rowsTotal: number;
  readonly estimated: boolean;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly rowsPerSecond: number;
  readonly etaSeconds: number | null;
  readonly batchRows: number;
  readonly throttledBy: string | null;
}

/** `throttledBy` of work that rests between its batches: slowed, and never stopped. */
export const FOR_WRITERS = 'clients that write';

/** As far as work that has said nothing yet. */
export const NO_ROWS: RowProgress = {
  rowsDone: 0,
  rowsTotal: 0,
  estimated: true,
  bytesDone: 0,
  bytesTotal: 0,
  rowsPerSecond: 0,
  etaSeconds: null,
  batchRows: 0,
  throttledBy: null,
};

export interface TableProgress extends RowProgress {
  readonly table: string;
  readonly state: 'waiting' | 'running' | 'done' | 'quarantined';
}

export interface Progress {
  readonly phase: string;
  readonly percent: number;
  readonly etaSeconds: number | null;
  readonly tables: readonly TableProgress[];
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
}

export interface LockHeld {
  readonly relation: string;
  readonly mode: LockMode;
  readonly waitedMs: number;
  readonly heldMs: number;
}

export interface StepReport {
  readonly id: string;
  readonly status: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly attempts: number;
  readonly rows: number;
  readonly locks: readonly LockHeld[];
  /** What was seen, of a step of a blue-green. */
  readonly evidence?: Readonly<Record<string, unknown>>;
}

/** One column's proof. Fingerprints are order-independent 64-bit sums as text. */
export interface Proof {
  readonly table: string;
  readonly column: string;
  readonly rows: number;
  readonly remaining: number;
  readonly ranges: number;
  readonly fingerprintOld: string;
  readonly fingerprintNew: string;
  readonly equal: boolean;
  readonly differing: number;
}

export interface CatalogDiff {
  readonly asked: readonly string[];
  readonly other: readonly string[];
}

export interface Report extends Status {
  readonly steps: readonly StepReport[];
  readonly proof: readonly Proof[];
  readonly longestLock: (LockHeld & { readonly step: string }) | null;
  readonly health: readonly {
    readonly name: string;
    readonly verdict: string;
    readonly at: string;
    readonly value: number | null;
  }[];
  readonly catalogDiff: CatalogDiff;
  readonly measured: Readonly<Record<string, unknown>>;
  /** Of a blue-green: the last switch, and all of them (drills, undone ones, the way back). */
  readonly switch?: SwitchMeasured | null;
  readonly switches?: readonly SwitchMeasured[];
  /** Of a canary: the stages that were begun. */
  readonly stages?: readonly StageReport[];
  /** Of a dry run: the plan itself. */
  readonly plan?: {
    readonly steps: readonly Step[];
    readonly findings: readonly Finding[];
    readonly dependents: readonly Dependent[];
  };
}
