/**
 * The way forward: the nine phases in their order, each gate, window, hook and step once. Walks from the start every time (also after a
 * continue-as-new) and passes over what is marked as done: where it stands is data, not a place in the code.
 */
import { PERFORMANCE, needsBaseline } from '../plan/model/health';
import type { Hook } from '../plan/model/plan';
import type { PlanFacts, StepFact, StepsOutcome } from '../plan/model/state';
import type { StepReport } from '../plan/model/status';
import type { Phase, RunPhase } from '../plan/model/steps';
import { PHASES } from '../plan/model/steps';
import { formatCount } from '../plan/model/values';
import { Back, causeOf, failed, isCancellation } from './failure';
import { askHelp, passGate, passWindow } from './gates';
import { TimedOut, interruptible } from './interruptible';
import type { Run } from './run';
import { nowIso } from './run';
import { everyCondition, sidesOf, untilSure } from './watcher';

/** More steps than this in a phase share activities, so that a plan of a thousand statements stays small in history. */
const SINGLY = 25;
/** `mode: safe`: at most this much of blocked writes in all. */
const SAFE_BLOCKED_MS = 5 * 60_000;

const marked = (run: Run, mark: string): boolean => run.state.marks.includes(mark);
const subject = (run: Run) => ({ database: run.state.database, migration: run.state.name });

/** Work with the answers to its failure: take back, or ask a person and do it again. Answers null when a person said skip. */
export async function persist<T>(
  run: Run,
  target: string,
  work: () => Promise<T>,
  takes: readonly ('retry' | 'skip')[] = ['retry'],
): Promise<T | null> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Back || isCancellation(error) || !(error instanceof Error)) throw error;
      const problem =
        error instanceof TimedOut ? causeOf('Timeout', 'the run took longer than its timeout') : failed(error);
      const { code, message, hint } = problem;
      run.state.lastError = { code, message, hint };
      run.state.live = null;
      const ask = run.state.contractedAt !== null || run.state.control?.onFailure === 'pause';
      if (!ask) throw new Back({ code, message, hint, by: null, cancelled: false });
      if ((await askHelp(run, target, takes, problem)) === 'skip') return null;
      run.show('running');
    }
  }
}

// Steps ------------------------------------------------------------------------------------------------------------------

function nextSteps(run: Run, phase: Phase): readonly StepFact[] {
  const { facts, done, control } = run.state;
  const steps = facts?.steps ?? [];
  const inPhase = steps.filter((step) => step.phase === phase).length;
  const size = inPhase <= SINGLY ? 1 : Math.ceil(inPhase / SINGLY);
  const chunk: StepFact[] = [];
  for (const step of steps.slice(done)) {
    const gated = control?.gates[step.id] !== undefined;
    if (step.phase !== phase || chunk.length === size || (gated && chunk.length > 0)) break;
    chunk.push(step);
  }
  return chunk;
}

const pausable = (chunk: readonly StepFact[]): boolean =>
  chunk.every((step) => step.work !== 'metadata' && step.phase !== 'contract');

function keep(run: Run, outcome: StepsOutcome, count: number): void {
  const s = run.state;
  // The state is passed on whole by a continue-as-new: a plan of a thousand statements keeps its worst locks only.
  const kept = s.steps.length < 100 ? 30 : 1;
  const worst = (report: StepReport) => [...report.locks].sort((a, b) => b.heldMs - a.heldMs).slice(0, kept);
  s.steps = [...s.steps, ...outcome.steps.map((report) => ({ ...report, locks: worst(report) }))];
  s.proof = [...s.proof, ...outcome.proofs];
  s.done += count;
  s.blockedWritesMs += outcome.blockedWritesMs;
  const throttled = (s.measured['throttledMs'] ?? {}) as Record<string, number>;
  for (const [reason, ms] of Object.entries(outcome.throttledMs)) throttled[reason] = (throttled[reason] ?? 0) + ms;
  s.measured['throttledMs'] = throttled;
  s.step = null;
  s.live = null;
  s.lastError = null;
}

const titleOf = (chunk: readonly StepFact[]): string => {
  const [first, ...more] = chunk;
  if (!first) return '';
  if (more.length > 0) return `${first.id} to ${more.at(-1)?.id ?? ''}`;
  return `${first.id} ${first.title || first.action}${first.rows ? ` (~${formatCount(first.rows)} rows)` : ''}`;
};

async function runChunk(run: Run, phase: Phase, chunk: readonly StepFact[]): Promise<void> {
  const s = run.state;
  const first = chunk[0]?.id ?? phase;
  const outcome = await persist(run, first, async () => {
    for (;;) {
      const closes = pausable(chunk) ? await passWindow(run, phase) : null;
      s.step = first;
      s.begun = Math.max(s.begun, s.done + chunk.length);
      run.show('running');
      const answer = await interruptible(
        run,
        () => {
          const { throttle, lockTimeout, lockBudget, searchPath } = run.options();
          const options = { throttle, lockTimeout, lockBudget, searchPath };
          const baselineMs = s.baselines['appP95'] ?? null;
          return run.ask(
            'runSteps',
            { ...subject(run), ids: chunk.map((c) => c.id), options, baselineMs },
            titleOf(chunk),
          );
        },
        closes,
      ).catch((error: unknown) => {
        // The steps' own rows say so: a person ran the script of the way back. Nothing of this chunk has run.
        if (!(error instanceof Error) || failed(error).code !== 'NotNow') throw error;
        s.begun = s.done;
        const cause = causeOf('RolledBack', 'it was taken back by a script');
        throw new Back({ ...cause, by: null, cancelled: false });
      });
      if (answer !== 'closed') return answer;
    }
  });
  if (!outcome) return;
  keep(run, outcome, chunk.length);
  if (s.control?.mode === 'safe' && s.contractedAt === null && s.blockedWritesMs > SAFE_BLOCKED_MS)
    throw new Back(causeOf('HealthFailed', 'mode safe: writes were blocked for more than 5 minutes in all'));
}

async function steps(run: Run, phase: Phase): Promise<void> {
  for (;;) {
    const chunk = nextSteps(run, phase);
    const first = chunk[0];
    if (!first) return;
    await passGate(run, first.id);
    await runChunk(run, phase, chunk);
    if (run.mustContinue()) await run.renew();
  }
}

// Hooks ------------------------------------------------------------------------------------------------------------------

export async function hooks(run: Run, when: 'before' | 'after', phase: RunPhase): Promise<void> {
  const at = `${when}:${phase}`;
  const list: readonly Hook[] = run.state.control?.hooks[at] ?? [];
  for (const [i, hook] of list.entries()) {
    const mark = `hook:${at}:${i}`;
    if (marked(run, mark)) continue;
    const idempotencyKey = `${run.state.id}/${run.state.startedAt}/${at}/${i}`;
    const call = () =>
      interruptible(run, () =>
        run.ask('runHook', { ...subject(run), hook, at, phase, idempotencyKey }, `hook ${at} ${hook.name}`),
      );
    if (hook.onFail === 'stop') await persist(run, hook.name, call, ['retry', 'skip']);
    else
      await call().catch((error: unknown) => {
        if (error instanceof Back || isCancellation(error)) throw error;
        const { code, message, hint } = failed(error);
        run.state.lastError = { code, message: `hook ${hook.name} (ignored): ${message}`, hint };
      });
    run.state.marks.push(mark);
  }
}

// Phases -----------------------------------------------------------------------------------------------------------------

/** Facts as the workflow keeps them: steps in the order of their phases. */
function inOrder(facts: PlanFacts): PlanFacts {
  const rank = (step: StepFact): number => PHASES.indexOf(step.phase);
  return { ...facts, steps: [...facts.steps].sort((a, b) => rank(a) - rank(b)) };
}

export async function preflight(run: Run, start: unknown): Promise<void> {
  const s = run.state;
  if (!marked(run, 'prepared')) {
    if (!marked(run, 'preparing')) s.marks.push('preparing');
    const facts = await interruptible(run, () =>
      run.ask('prepare', { start }, 'preflight: catalogue, steps, checks, claim'),
    );
    if (facts === 'closed') return;
    s.facts = inOrder(facts);
    s.marks.push('prepared');
  }
  if (s.control?.mode === 'dry-run') return;
  await backup(run);
  await measureBaselines(run);
}

export async function backup(run: Run): Promise<void> {
  const s = run.state;
  const wanted = s.control?.backup ?? (s.control?.mode === 'safe' ? 'pg-dump' : 'none');
  const method = typeof wanted === 'object' ? wanted.method : wanted;
  if (method === 'none' || marked(run, 'backup')) return;
  const made = await persist(run, 'backup', () =>
    interruptible(run, () => run.ask('backup', { ...subject(run), backup: wanted }, 'backup by pg_dump')),
  );
  if (made && made !== 'closed') s.measured['backup'] = made;
  s.marks.push('backup');
}

export async function measureBaselines(run: Run): Promise<void> {
  const s = run.state;
  const conditions = everyCondition(run).filter((c) => needsBaseline(c));
  const throttle = s.control?.throttle;
  const appP95 = throttle !== undefined && throttle !== 'none' && throttle.appP95.endsWith('x');
  if (marked(run, 'baseline') || (conditions.length === 0 && !appP95)) return;
  const measured = await persist(run, 'baseline', () =>
    interruptible(run, () =>
      run.ask(
        'baseline',
        { ...subject(run), conditions, appP95, ...sidesOf(run) },
        'baseline: the median of five readings',
      ),
    ),
  );
  if (measured && measured !== 'closed') s.baselines = measured;
  const built = s.baselines[PERFORMANCE.name];
  if (built !== undefined) s.measured['baselineTransactionsPerSecond'] = built;
  if (appP95 && (s.baselines['appP95'] ?? null) === null)
    throw new Back(
      causeOf(
        'PreflightFailed',
        'throttle.appP95: the latency of the application cannot be measured (pg_stat_statements)',
      ),
    );
  s.marks.push('baseline');
}

async function hold(run: Run): Promise<void> {
  const s = run.state;
  for (;;) {
    const ends = run.holdEnds() ?? 0;
    const early = s.inbox.endHold !== null;
    if ((early || ends <= Date.now()) && !run.isPaused()) return;
    const tunings = s.inbox.tunings;
    const paused = run.isPaused();
    await run.wait({
      status: 'holding',
      waiting: run.waitsForResume(),
      until: () => (s.inbox.endHold !== null && !paused) || s.inbox.tunings !== tunings || run.isPaused() !== paused,
      // The clock runs on through a pause; only its end waits for resume.
      timeoutMs: paused && ends <= Date.now() ? null : Math.max(1, ends - Date.now()),
      summary: 'the hold ends',
    });
  }
}

/** Contract has committed: the name is used, and the hold's clock starts. */
async function contracted(run: Run): Promise<void> {
  const s = run.state;
  if (s.contractedAt !== null) return;
  const strict = s.control?.mode === 'safe';
  const status = s.facts?.keepsOld || hasSteps(run, 'cleanup') ? 'contracted' : 'completed';
  const finished = await persist(run, 'contract', () =>
    run.ask('finish', { ...subject(run), status, strict, cause: null, of: 'own' }, `record that it is ${status}`),
  );
  s.contractedAt = nowIso();
  if (finished) s.catalogDiff = finished.catalogDiff;
  if (finished) s.measured = { ...s.measured, ...finished.measured };
  if (status === 'completed') s.marks.push('finished');
}

const hasSteps = (run: Run, phase: Phase): boolean =>
  run.state.facts?.steps.some((step) => step.phase === phase) ?? false;

function isNeeded(run: Run, phase: Phase): boolean {
  const { control, facts } = run.state;
  if (phase === 'hold') return facts?.keepsOld ?? false;
  if (phase === 'preflight' || phase === 'contract' || hasSteps(run, phase)) return true;
  const hooked = [`before:${phase}`, `after:${phase}`].some((at) => (control?.hooks[at] ?? []).length > 0);
  return hooked || control?.gates[phase] !== undefined;
}

async function phase(run: Run, name: Phase, start: unknown): Promise<void> {
  const mark = `phase:${name}`;
  if (marked(run, mark)) return;
  if (isNeeded(run, name)) {
    run.state.phase = name;
    const dry = run.state.control?.mode === 'dry-run';
    if (!dry) await passGate(run, name);
    if (!dry && (hasSteps(run, name) || name === 'hold')) await passWindow(run, name);
    if (name === 'contract' || name === 'cleanup') await untilSure(run);
    if (!dry) await hooks(run, 'before', name);
    if (name === 'preflight') await preflight(run, start);
    else if (name === 'hold') await hold(run);
    else await steps(run, name);
    if (name === 'contract') await contracted(run);
    if (!dry) await hooks(run, 'after', name);
  }
  run.state.marks.push(mark);
}

/** From wherever the run stands to its end. @throws Back, or a failure of preflight that wrote nothing. */
export async function forward(run: Run, start: unknown): Promise<void> {
  for (const name of PHASES) {
    await phase(run, name, start);
    if (run.state.control?.mode === 'dry-run') return;
    await run.clear();
    if (run.mustContinue()) await run.renew();
  }
}
