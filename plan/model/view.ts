/** The state of a run as people and machines see it: the queries status, progress and report. Pure. */
import { lastStage, slim, stageOf } from './canary';
import type { PairState } from './pairState';
import { lastSwitch } from './pairState';
import type { CopyState, PlanFacts, RunState, StepFact } from './state';
import { FOR_WRITERS, NO_ROWS } from './status';
import type { Progress, Report, Status, StepReport, TableProgress, WaitingFor } from './status';
import type { RunPhase } from './steps';
import { phasesOf } from './steps';
import type { ShownTablesPlan } from './tablesPlan';

const WAITS_IN_GATE: readonly WaitingFor['type'][] = ['gate', 'window'];

/** The stage of a canary that runs, also while its gate waits; null = none does. */
const stageShown = ({ canary, phase }: RunState): string | null =>
  canary && (phase === 'stages' || phase === 'full') ? (stageOf(canary)?.name ?? null) : null;

/** The phase that people see: a stage's name, or `gate` while a gate or a window waits, wherever it stands. */
export function shownPhase(s: RunState): string {
  const stage = stageShown(s);
  if (stage !== null) return stage;
  return s.waiting && WAITS_IN_GATE.includes(s.waiting.type) && s.status !== 'rolling_back' ? 'gate' : s.phase;
}

/** The road of this run for people, and how far it is. */
export function roadShown(s: RunState): readonly { readonly name: string; readonly behind: boolean }[] {
  const phases: readonly RunPhase[] = phasesOf(s.kind);
  const reached = phases.indexOf(s.phase);
  return phases.flatMap((phase, i) => {
    const behind = i < reached || s.status === 'completed';
    const { canary } = s;
    if (phase === 'full' && canary) return [{ name: lastStage(canary.control)?.name ?? phase, behind }];
    if (phase !== 'stages' || !canary) return [{ name: phase as string, behind }];
    return canary.control.stages.slice(0, -1).map(({ name }, n) => ({ name, behind: behind || n < canary.at }));
  });
}

export function wayBackOf(s: RunState, untilMs: number | null): Status['wayBack'] {
  const until = untilMs === null ? null : new Date(untilMs).toISOString();
  if (['rolled_back', 'cancelled', 'failed'].includes(s.status))
    return { possible: false, lossless: true, until: null, how: 'nothing is left to take back' };
  if (s.pair) return pairWayBack(s, s.pair, until);
  if (s.kind === 'data-migration')
    return s.status === 'completed'
      ? { possible: false, lossless: false, until: null, how: 'the copy is complete; the source is as it was' }
      : { possible: true, lossless: true, until: null, how: 'drop what was made in the target' };
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
  const swaps = s.contractedAt !== null && (s.facts?.keepsOld ?? false);
  const how = swaps ? 'swap back; what was written since is kept' : 'drop what was added';
  if (s.status === 'completed')
    return { possible: true, lossless, until, how: `workflow rollback, with a gate: ${how}` };
  return { possible: true, lossless, until, how };
}

function pairWayBack(s: RunState, pair: PairState, until: string | null): Status['wayBack'] {
  if (s.status === 'completed' || pair.noWayBack !== null)
    return {
      possible: false,
      lossless: false,
      until: null,
      how: pair.noWayBack ?? 'the way back was given up with the decommissioning',
    };
  if (s.contractedAt === null)
    return { possible: true, lossless: true, until: null, how: 'drop what was made; blue goes on as it is' };
  return { possible: true, lossless: true, until, how: 'switch back to blue; every write made on green is there' };
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
    ...(s.pair ? { writableSide: s.pair.writable } : {}),
  };
}

/** What the running step said last that it waits for. */
function waitingLive(s: RunState): WaitingFor | null {
  const live = s.live;
  if (!live || s.step !== live.step) return null;
  const reason = live.waitingFor ?? (live.throttledBy === FOR_WRITERS ? null : live.throttledBy);
  if (reason === null) return null;
  return {
    type: live.waitingFor === null ? 'throttle' : 'lock',
    gate: null,
    since: s.updatedAt,
    until: null,
    reason,
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
  if (s.copy) return copyProgressOf(s, s.copy);
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

/** Bytes of the copy are nearly all of the work; what comes after them is worth a tenth. */
function copyProgressOf(s: RunState, copy: CopyState): Progress {
  const phases = phasesOf(s.kind);
  const ended = s.status === 'completed';
  const behind = phases.indexOf(s.phase) > phases.indexOf(s.pair ? 'sync' : 'copy');
  const total = s.live?.bytesTotal ?? copy.bytes;
  const part = behind ? 1 : total > 0 ? Math.min(1, (s.live?.bytesDone ?? 0) / total) : 0;
  const aside = copy.quarantined.map(({ table }): TableProgress => ({
    table,
    ...NO_ROWS,
    state: 'quarantined',
  }));
  const shown = s.live?.tables ?? [];
  return {
    phase: shownPhase(s),
    percent: ended ? 100 : Math.min(99, Math.floor(part * 90)),
    etaSeconds: ended ? 0 : (s.live?.etaSeconds ?? null),
    tables: [...shown, ...aside.filter(({ table }) => !shown.some((one) => one.table === table)).slice(0, 20)],
    lagBytes: s.live?.lagBytes ?? s.pair?.lag.bytes ?? null,
    lagMs: s.live?.lagMs ?? s.pair?.lag.ms ?? null,
  };
}

export function longestLock(steps: readonly StepReport[]): Report['longestLock'] {
  let longest: Report['longestLock'] = null;
  for (const step of steps)
    for (const lock of step.locks) if (!longest || lock.heldMs > longest.heldMs) longest = { ...lock, step: step.id };
  return longest;
}

const REPORT_MAX = 60_000;

export interface RunReport extends Omit<Report, 'plan'> {
  readonly plan?: PlanFacts['plan'] | ShownTablesPlan;
  /** What was too large for an answer lies in schema pgshift of that database: `<database>/<name>`. */
  readonly reportRef?: string;
}

/** The report, without what would make it larger than an answer may be. */
export function reportOf(s: RunState, untilMs: number | null = null): RunReport {
  const full = wholeReport(s, untilMs);
  const fits = (report: RunReport): boolean => JSON.stringify(report).length <= REPORT_MAX;
  if (fits(full)) return full;
  const reportRef = `${s.database}/${s.name}`;
  const short = { reportRef, steps: full.steps.map((step) => ({ ...step, locks: [] })) };
  const { plan: _, ...rest } = { ...full, ...short, ...(full.stages ? { stages: full.stages.map(slim) } : {}) };
  return fits(rest) ? rest : { ...rest, steps: [], proof: [] };
}

function wholeReport(s: RunState, untilMs: number | null): RunReport {
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
    ...(s.pair ? { switch: lastSwitch(s.pair), switches: s.pair.switches } : {}),
    ...(s.canary ? { stages: s.canary.stages } : {}),
    ...(s.facts?.plan ? { plan: s.facts.plan } : s.planned ? { plan: s.planned } : {}),
  };
}
