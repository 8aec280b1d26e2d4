/**
 * What the engine needs to know to run a step, and what it answers. Shared by every file of postgres/ and by the activities that call
 * them. Knows no Temporal: cancellation is an AbortSignal, a heartbeat is a callback.
 */
import type { LockHeld, Proof, RowProgress } from '../plan/model/status';
import type { Step } from '../plan/model/steps';

/** A database by its connection's name. `url` is a secret: make it with `target()`, which hides it from logs and JSON. */
export interface Target {
  readonly name: string;
  readonly url: string;
  /** Read-only standbys whose lag the throttle watches. */
  readonly replicas: readonly Target[];
}

export function target(name: string, url: string, replicas: readonly Target[] = []): Target {
  const made = { name, replicas } as { name: string; replicas: readonly Target[]; url: string };
  Object.defineProperty(made, 'url', { value: url, enumerable: false });
  return made;
}

/** Milliseconds, bytes and counts: the plan's throttle after parsing. null = that brake is off. */
export interface ThrottleLimits {
  readonly maxReplicationLagMs: number | null;
  readonly maxReplicationLagBytes: number | null;
  readonly maxLockWaitMs: number | null;
  readonly maxWalBytesPerSecond: number | null;
  readonly maxArchiveBacklog: number | null;
  readonly waitForAutovacuum: boolean;
  /** Absolute ms, or a ratio against the measured baseline. */
  readonly appP95: { readonly ms: number } | { readonly ratio: number; readonly baselineMs: number } | null;
  readonly batchTargetMs: number;
  readonly batchMin: number;
  readonly batchMax: number;
  readonly parallel: number;
  /** How often the brakes are read. */
  readonly everyMs: number;
}

export interface StepOptions {
  readonly lockTimeoutMs: number;
  readonly lockBudgetMs: number;
  /** null = `throttle: none`. */
  readonly throttle: ThrottleLimits | null;
  readonly searchPath: readonly string[];
  /** The application's p95, ms, from elsewhere (Prometheus); null = not known, which stops the work. Default: pg_stat_statements. */
  readonly appP95?: () => Promise<number | null>;
}

/** Called as often as the engine likes; the caller turns it into heartbeats. Small: never a row's value. */
export interface StepProgress extends RowProgress {
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  /** What it waits for just now, for people: "lock on public.payment held by pid 4711 (idle in transaction, 12 s)". */
  readonly waitingFor: string | null;
}

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export interface StepContext {
  readonly target: Target;
  /** Name of the migration (row in pgshift.migrations). */
  readonly migration: string;
  /** Workflow id, for application_name and logs. */
  readonly workflowId: string;
  readonly step: Step;
  readonly options: StepOptions;
  /** Aborted on cancel, pause and tune: the engine ends its current batch (or cancels its statement) and throws AbortError. */
  readonly signal: AbortSignal;
  readonly progress: (progress: StepProgress) => void;
  readonly log: Log;
}

export interface StepOutcome {
  /** 'already' = the record said done before this attempt: nothing was sent. */
  readonly status: 'done' | 'already';
  readonly rows: number;
  readonly batches: number;
  readonly attempts: number;
  readonly seconds: number;
  readonly locks: readonly LockHeld[];
  readonly proofs: readonly Proof[];
  /** Milliseconds spent waiting, by brake. */
  readonly throttledMs: Readonly<Record<string, number>>;
}
