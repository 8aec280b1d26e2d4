/**
 * The stages of a canary: people go over a few at a time, each stage is judged on what was measured, and whoever fails sends everybody home. Keeps true: what
 * routers were told is what the last finished step set; a stage passes only when everything that judges it is known; a failing metric ends it at any time.
 */
import type { StageControl } from '../plan/model/canary';
import { beforeSwitch, judgedNow, lastStage, metricsOf, slim, verdictOf } from '../plan/model/canary';
import { holdsBack } from '../plan/model/health';
import { commandsFor } from '../plan/model/render';
import { insist } from './back';
import { keepBeside } from './beside';
import { failed } from './failure';
import { passGate, passWindow } from './gates';
import { dwell } from './pairEnd';
import { keepParts, pairArgs, pairState } from './pairRun';
import { work } from './pairProof';
import type { Run } from './run';
import { nowIso } from './run';
import { canaryOf, report } from './stageReport';
import { lookNow, waitForHealth } from './watcher';

// Who is over ------------------------------------------------------------------------------------------------------------

/** null = everybody is where the writes are. */
type Asked = { readonly percent: number; readonly keys: readonly string[] } | null;

function tell(run: Run, share: Asked, stage: string) {
  const canary = canaryOf(run);
  const { salt, moves } = canary.control;
  const args = { ...pairArgs(run), number: canary.changes, stage };
  const said =
    share === null ? 'everybody is where the writes are' : `${share.percent} percent, ${share.keys.length} keys`;
  return run.ask(
    'setShare',
    { ...args, share: share === null ? null : { salt, moves, ...share } },
    `${stage}: ${said}`,
  );
}

/** Sends this stage's people over. Interruptible: who is told twice hears the same. */
async function raise(run: Run, stage: StageControl): Promise<void> {
  const canary = canaryOf(run);
  canary.changes += 1;
  const { percent, keys } = stage;
  // Before it is asked for: from here on there may be something to take back.
  canary.share = { percent, keys: keys.length };
  const heard = await work(run, stage.name, () => tell(run, { percent, keys }, stage.name));
  if (heard !== null && heard !== 'closed') report(run, { routers: heard });
  run.show();
}

const HOME = 'home';

/** Everybody is where the writes are: the first thing of every way back, and what comes after the switch. Tried until it is so. */
export async function sendHome(run: Run): Promise<void> {
  const { canary } = run.state;
  if (!canary || canary.share === null) return;
  canary.changes += 1;
  await insist(run, HOME, () => tell(run, null, HOME), ['retry']);
  canary.share = null;
  run.show();
}

/** Beside the stages that send reads over: they go only while green is proven to be near. */
export async function keepReads(run: Run): Promise<void> {
  const { canary } = run.state;
  if (canary?.control.moves !== 'reads') return;
  const wanted = (): boolean =>
    !run.settled && canary.share !== null && run.state.phase !== 'pause' && pairState(run).direction === 'forward';
  let fresh = true;
  await keepBeside(run, {
    due: () => (wanted() ? 'reads' : null),
    ask: () => {
      const { maxReadLagMs } = canary.control;
      const args = { ...pairArgs(run), maxReadLagMs, known: fresh, maxMs: run.state.settings.watchMs };
      return run.ask('keepReads', args, 'send reads over only while green is near');
    },
    take: (seen) => {
      fresh = seen.fresh;
      pairState(run).evidence['reads'] = { ...seen };
    },
    lost: (error) => {
      pairState(run).evidence['reads'] = { fresh: false, lagMs: null, because: failed(error).code };
    },
  });
}

// One stage --------------------------------------------------------------------------------------------------------------

function forget(run: Run, { name }: StageControl): void {
  const { [name]: _, ...answers } = run.state.inbox.answers ?? {};
  run.state.inbox = { ...run.state.inbox, answers };
}

/** What is not known well enough for the stage to be over, by its conditions' names. */
function unknown(run: Run): string[] {
  const { conditions } = run.state;
  return judgedNow(run.state.canary)
    .filter((c) => {
      const read = conditions[c.name]?.readings ?? 0;
      return holdsBack(c, conditions[c.name]) || (c.count !== undefined && !c.dryRun && read < c.count);
    })
    .map((c) => c.name);
}

/** Its time, and then until everything that judges it is known, or a person goes on without. */
async function judged(run: Run, stage: StageControl): Promise<void> {
  const canary = canaryOf(run);
  const key = `stage:${stage.name}`;
  for (;;) {
    const since = run.state.opened[key] ?? nowIso();
    run.state.opened[key] = since;
    const answered = (): boolean => run.state.inbox.answers?.[stage.name] !== undefined;
    await dwell(run, () => Date.parse(since) + stage.durationMs, `stage ${stage.name} ends`, {
      status: 'running',
      early: answered,
    });
    if (!answered() && unknown(run).length > 0) await untilKnown(run, stage, answered);
    if (run.state.inbox.answers?.[stage.name] !== 'retry') return;
    // Again from the beginning: nothing that reads for it may be under way when its counts go.
    forget(run, stage);
    canary.judging = false;
    await lookNow(run);
    begin(run, stage);
    canary.judging = true;
  }
}

function untilKnown(run: Run, stage: StageControl, answered: () => boolean): Promise<void> {
  return waitForHealth(
    run,
    {
      reason: `stage ${stage.name} is not known to be well: ${unknown(run).join(', ')}`,
      evidence: { stage: canaryOf(run).stages.map(slim).at(-1) ?? null },
      commands: [
        ...commandsFor(run.state, 'skip', { target: stage.name }),
        ...commandsFor(run.state, 'retry', { target: stage.name }),
      ],
    },
    () => answered() || unknown(run).length === 0,
  );
}

/** Its clock and its readings from the beginning. */
function begin(run: Run, stage: StageControl): void {
  const { conditions, opened } = run.state;
  for (const { name } of stage.analysis) delete conditions[name];
  delete opened[`stage:${stage.name}`];
}

async function runStage(run: Run, index: number, stage: StageControl, raises: boolean): Promise<void> {
  const s = run.state;
  const canary = canaryOf(run);
  const mark = `stage:${stage.name}`;
  if (s.marks.includes(mark)) return;
  canary.at = index;
  run.show('running');
  if (!s.marks.includes(`${mark}:told`)) {
    if (raises) {
      // A gate of the plan's map is waited for before the stage, its own one after it.
      if (!stage.gated) await passGate(run, stage.name);
      await passWindow(run, stage.name);
    }
    begin(run, stage);
    report(run, {});
    if (raises) await raise(run, stage);
    s.marks.push(`${mark}:told`);
  }
  canary.judging = true;
  await judged(run, stage);
  if (stage.gated) {
    await lookNow(run);
    report(run, {});
    await passGate(run, stage.name);
    // What nobody knows any more since the person was asked is waited for again.
    await judged(run, stage);
  }
  // What is read from here on belongs to no stage; what was read is told before it is judged.
  canary.judging = false;
  await lookNow(run);
  const skipped = s.inbox.answers?.[stage.name] === 'skip';
  const metrics = metricsOf(stage.analysis, s.conditions, s.baselines);
  report(run, { endedAt: nowIso(), metrics, verdict: verdictOf(stage.analysis, s.conditions), skipped });
  forget(run, stage);
  s.marks.push(mark);
  await record(run, stage);
}

async function record(run: Run, { name }: StageControl): Promise<void> {
  const seen = canaryOf(run).stages.find((one) => one.name === name);
  if (!seen) return;
  const { startedAt, endedAt, ...evidence } = slim(seen);
  await keepParts(run, [
    {
      id: `stage.${name}`,
      phase: run.state.phase === 'full' ? 'full' : 'stages',
      status: 'done',
      startedAt,
      endedAt: endedAt ?? nowIso(),
      attempts: 1,
      evidence,
    },
  ]);
}

/** Step `stages`: those before the writes go over. */
export async function stagesBefore(run: Run): Promise<void> {
  for (const [index, stage] of beforeSwitch(canaryOf(run).control).entries()) {
    await runStage(run, index, stage, true);
    await run.clear();
    if (run.mustContinue()) await run.renew();
  }
}

/** Before the pause: the gate and the window of the last stage, which is the switch. */
export async function passLastStage(run: Run): Promise<void> {
  const stage = lastStage(canaryOf(run).control);
  if (stage === null) return;
  if (!stage.gated) await passGate(run, stage.name);
  await passWindow(run, stage.name);
}

/** Step `full`: the writes are on green; nobody is sent anywhere any more, and it is judged as any other stage. */
export async function stageAfter(run: Run): Promise<void> {
  const canary = canaryOf(run);
  await sendHome(run);
  const stage = lastStage(canary.control);
  if (stage !== null) await runStage(run, canary.control.stages.length - 1, stage, false);
}
