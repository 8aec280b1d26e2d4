/**
 * Everything that a run of `schemaMigration` knows, as one versioned JSON object: what a continue-as-new passes on, and what status,
 * progress and report are made of. Ids and counts only: SQL, plans and rows stay in the database. Pure.
 */
import type { ConditionState, HealthEvent } from './health';
import type { Inbox } from './inbox';
import { emptyInbox } from './inbox';
import type { SchemaMigrationPlan } from './plan';
import type {
  CatalogDiff,
  LastError,
  Progress,
  Proof,
  Report,
  RunStatus,
  Status,
  StepReport,
  TableProgress,
  WaitingFor,
} from './status';
import type { Dependent, Estimate, Finding, Phase, Risk, Step, Work } from './steps';

/** The plan without what only the planner reads: small, and without SQL. */
export type Control = Omit<
  SchemaMigrationPlan,
  'sql' | 'sqlFile' | 'transforms' | 'allow' | 'archive' | 'versions' | 'labels' | 'description'
>;

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
export interface Live {
  readonly step: string;
  readonly attempt: number;
  readonly rowsDone: number;
  readonly rowsTotal: number;
  readonly estimated: boolean;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly rowsPerSecond: number;
  readonly etaSeconds: number | null;
  readonly batchRows: number;
  readonly throttledBy: string | null;
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  readonly waitingFor: string | null;
}

export interface RunState {
  readonly version: 1;
  readonly id: string;
  readonly name: string;
  readonly database: string;
  readonly kind: 'schema-migration' | 'rollback';
  control: Control | null;
  environment: string;
  settings: Settings;
  facts: PlanFacts | null;
  status: RunStatus;
  /** Where it really is; status shows `gate` while one waits. */
  phase: Phase;
  step: string | null;
  attempt: number;
  /** How many of facts.steps are done, and how many may have left something (done + the one that runs). */
  done: number;
  begun: number;
  /** What needs doing once: `gate:contract`, `hook:before:expand:0`, `baseline`, ... */
  marks: string[];
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
  waiting: WaitingFor | null;
  lastError: LastError | null;
  cause: Cause | null;
  live: Live | null;
  steps: StepReport[];
  proof: Proof[];
  health: HealthEvent[];
  catalogDiff: CatalogDiff;
  measured: Record<string, unknown>;
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
    phase: 'preflight',
    step: null,
    attempt: 0,
    done: 0,
    begun: 0,
    marks: [],
    baselines: {},
    conditions: {},
    startedAt: now,
    updatedAt: now,
    endedAt: null,
    contractedAt: null,
    spentMs: 0,
    blockedWritesMs: 0,
    inbox: emptyInbox,
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

const WAITS_IN_GATE: readonly WaitingFor['type'][] = ['gate', 'window'];

/** The phase that people see: `gate` while a gate or a window waits, wherever it stands. */
export const shownPhase = (s: RunState): Phase =>
  s.waiting && WAITS_IN_GATE.includes(s.waiting.type) && s.status !== 'rolling_back' ? 'gate' : s.phase;

export function wayBackOf(s: RunState, untilMs: number | null): Status['wayBack'] {
  const until = untilMs === null ? null : new Date(untilMs).toISOString();
  if (['rolled_back', 'cancelled', 'failed'].includes(s.status))
    return { possible: false, lossless: true, until: null, how: 'nothing is left to take back' };
  const begun = s.facts?.steps.slice(0, s.begun) ?? [];
  const fixed = begun.find((step) => step.because !== null && step.phase !== 'cleanup');
  if (fixed) return { possible: false, lossless: false, until: null, how: `${fixed.id}: ${fixed.because ?? ''}` };
  if (begun.some((step) => step.phase === 'cleanup'))
    return {
      possible: false,
      lossless: false,
      until: null,
      how: 'the old shape is gone; see the backup or the archive',
    };
  const lossless = begun.every((step) => !step.undo || step.lossless);
  const how = s.contractedAt === null ? 'drop what was added' : 'swap back; what was written since is kept';
  return { possible: true, lossless, until, how };
}

export function statusOf(s: RunState, untilMs: number | null = null): Status {
  const step = s.step ?? s.facts?.steps[s.done]?.id ?? null;
  return {
    id: s.id,
    name: s.name,
    database: s.database,
    kind: s.kind,
    mode: s.control?.mode ?? 'production',
    status: s.status,
    phase: shownPhase(s),
    step: s.endedAt === null ? step : null,
    attempt: s.live && s.live.step === s.step ? s.live.attempt : s.attempt,
    startedAt: s.startedAt,
    updatedAt: s.updatedAt,
    endedAt: s.endedAt,
    waitingFor: s.waiting ?? waitingLive(s),
    approvals: s.inbox.approvals,
    lastError: s.lastError,
    wayBack: wayBackOf(s, untilMs),
    messages: s.inbox.refused,
  };
}

/** What the running step said last that it waits for. */
function waitingLive(s: RunState): WaitingFor | null {
  const live = s.live;
  if (!live || s.step !== live.step || (live.waitingFor === null && live.throttledBy === null)) return null;
  return {
    type: live.waitingFor === null ? 'throttle' : 'lock',
    gate: null,
    since: s.updatedAt,
    until: null,
    reason: live.waitingFor ?? live.throttledBy ?? '',
    evidence: {},
    commands: [],
  };
}

const middle = (step: StepFact): number => Math.max((step.seconds[0] + step.seconds[1]) / 2, 0.05);

function tableOf(s: RunState, step: StepFact, index: number): TableProgress {
  const live = s.live && s.live.step === step.id ? s.live : null;
  const done = index < s.done;
  const report = s.steps.find((r) => r.id === step.id);
  const total = live?.rowsTotal ?? step.rows ?? 0;
  const rowsDone = done ? (report?.rows ?? total) : (live?.rowsDone ?? 0);
  return {
    table: step.table ?? step.id,
    rowsDone,
    rowsTotal: done ? Math.max(rowsDone, live?.rowsTotal ?? rowsDone) : total,
    estimated: done ? false : (live?.estimated ?? true),
    bytesDone: live?.bytesDone ?? 0,
    bytesTotal: live?.bytesTotal ?? 0,
    rowsPerSecond: done ? 0 : (live?.rowsPerSecond ?? 0),
    etaSeconds: done ? 0 : (live?.etaSeconds ?? null),
    batchRows: live?.batchRows ?? 0,
    throttledBy: done ? null : (live?.throttledBy ?? null),
    state: done ? 'done' : index === s.done && s.step !== null ? 'running' : 'waiting',
  };
}

/** Weighted by the plan's estimates; live numbers are as old as the last report of the running step. */
export function progressOf(s: RunState): Progress {
  const steps = s.facts?.steps ?? [];
  const whole = steps.reduce((sum, step) => sum + middle(step), 0);
  const ended = s.status === 'completed' || (steps.length > 0 && s.done >= steps.length);
  let behind = 0;
  let ahead = 0;
  steps.forEach((step, i) => {
    const live = s.live?.step === step.id && s.live.rowsTotal > 0 ? s.live.rowsDone / s.live.rowsTotal : 0;
    const part = i < s.done ? 1 : i === s.done ? Math.min(live, 1) : 0;
    behind += middle(step) * part;
    if (part < 1) ahead += (s.live?.step === step.id ? s.live.etaSeconds : null) ?? middle(step) * (1 - part);
  });
  return {
    phase: shownPhase(s),
    percent: ended ? 100 : whole === 0 ? 0 : Math.min(99, Math.floor((behind / whole) * 100)),
    etaSeconds: ended ? 0 : steps.length === 0 ? null : Math.ceil(ahead),
    tables: steps.flatMap((step, i) => (step.table === null ? [] : [tableOf(s, step, i)])),
    lagBytes: s.live?.lagBytes ?? null,
    lagMs: s.live?.lagMs ?? null,
  };
}

export function longestLock(steps: readonly StepReport[]): Report['longestLock'] {
  let longest: Report['longestLock'] = null;
  for (const step of steps)
    for (const lock of step.locks) if (!longest || lock.heldMs > longest.heldMs) longest = { ...lock, step: step.id };
  return longest;
}

export function reportOf(
  s: RunState,
  untilMs: number | null = null,
): Omit<Report, 'plan'> & { plan?: PlanFacts['plan'] } {
  const begun = s.facts?.steps.slice(s.steps.length) ?? [];
  const rest = begun.map((step, i): StepReport => ({
    id: step.id,
    status: s.step === step.id && i === 0 ? 'running' : 'pending',
    startedAt: null,
    endedAt: null,
    attempts: 0,
    rows: 0,
    locks: [],
  }));
  return {
    ...statusOf(s, untilMs),
    steps: [...s.steps, ...rest],
    proof: s.proof,
    longestLock: longestLock(s.steps),
    health: s.health,
    catalogDiff: s.catalogDiff,
    measured: { ...s.measured, blockedWritesMs: Math.round(s.blockedWritesMs) },
    ...(s.facts?.plan ? { plan: s.facts.plan } : {}),
  };
}
