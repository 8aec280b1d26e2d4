/**
 * Workflow `dataMigration`: one JSON object in, a target that holds every row once (or nothing of ours) out. Its nine phases are walked from the
 * start every time and what is marked as done is passed over, as in schemaMigration, whose parts it uses.
 */
import { CancellationScope, makeContinueAsNewFunc, workflowInfo } from '@temporalio/workflow';
import { isProblem } from '../plan/model/errors';
import type { DataMigrationPlan } from '../plan/model/dataMigration';
import { copyControlOf } from '../plan/model/dataMigration';
import type { Cause, RunState } from '../plan/model/state';
import { newState } from '../plan/model/state';
import type { DataPhase } from '../plan/model/steps';
import { DATA_PHASES } from '../plan/model/steps';
import { validateDataMigration } from '../plan/model/validate';
import { insist } from './back';
import { copyArgs, copyState, copyTables, openSnapshot, withSnapshot } from './dataCopy';
import { besideOver, endFollowing, follow, goBeside, verifyLive } from './dataStream';
import { Back, causeOf, failProblem } from './failure';
import { passGate, passWindow } from './gates';
import { interruptible } from './interruptible';
import { backup, hooks, measureBaselines, persist } from './phases';
import { Run, nowIso } from './run';
import type { Road, RunResult } from './schemaMigration';
import { runToItsEnd } from './schemaMigration';

function begin(start: unknown): RunState {
  let plan: DataMigrationPlan;
  try {
    plan = validateDataMigration(start);
  } catch (error) {
    if (isProblem(error)) throw failProblem(error);
    throw error;
  }
  const { workflowId: id, startTime } = workflowInfo();
  const { name, target: database } = plan;
  return {
    ...newState({ id, name, database, kind: 'data-migration' }, startTime.toISOString()),
    copy: {
      control: copyControlOf(plan),
      epoch: 0,
      lost: [],
      tables: 0,
      bytes: 0,
      queue: [],
      copied: 0,
      rows: 0,
      bytesDone: 0,
      quarantined: [],
    },
  };
}

async function open(run: Run, start: unknown): Promise<void> {
  const s = run.state;
  if (s.marks.includes('opened')) return;
  const opened = await run.ask('openData', { start }, 'read the configuration of both connections');
  s.control = opened.control;
  s.environment = opened.environment;
  s.settings = opened.settings;
  copyState(run).control = opened.copy;
  s.marks.push('opened');
  run.becomeReady();
  run.show('running');
}

async function preflight(run: Run, start: unknown): Promise<void> {
  const s = run.state;
  if (!s.marks.includes('prepared')) {
    if (!s.marks.includes('preparing')) s.marks.push('preparing');
    const facts = await interruptible(run, () =>
      run.ask('prepareData', { start }, 'preflight: both servers, tables, roles, claim'),
    );
    if (facts === 'closed') return;
    s.checksum = facts.checksum;
    if (facts.plan) s.planned = facts.plan;
    copyState(run).tables = facts.tables;
    s.marks.push('prepared');
  }
  if (s.control?.mode === 'dry-run') return;
  await backup(run);
  await measureBaselines(run);
}

/** Interruptible work on both databases that may need a new snapshot. */
const step = <T>(run: Run, name: string, work: () => Promise<T>): Promise<T | 'closed' | null> =>
  persist(run, name, () => interruptible(run, () => withSnapshot(run, work)));

const SAMPLED = 'rows are counted, the content of one in 16 is compared';

async function verify(run: Run): Promise<void> {
  const s = run.state;
  if (copyState(run).control.verify === 'none') {
    s.measured['warnings'] = ['verify: none: nothing says that the rows are equal'];
    return;
  }
  const verified = await step(run, 'verify', () =>
    run.ask('verifyCopy', copyArgs(run), 'compare counts and fingerprints'),
  );
  if (verified === 'closed' || verified === null) return;
  s.proof = [...verified.different, ...verified.shown].slice(0, 50).map((one) => ({
    table: one.table,
    column: '*',
    rows: one.targetRows,
    remaining: Math.abs((one.sourceRows ?? 0) - one.targetRows),
    ranges: 1,
    fingerprintOld: one.fingerprintSource ?? 'unknown',
    fingerprintNew: one.fingerprintTarget,
    equal: one.equal,
    differing: one.equal ? 0 : 1,
  }));
  const sampled = copyState(run).control.verify === 'sample';
  s.measured['verified'] = { tables: verified.tables, rows: verified.rows, ...(sampled ? { sample: SAMPLED } : {}) };
  const warnings = [...(verified.warnings ?? []), ...(sampled ? [`verify: sample: ${SAMPLED}`] : [])];
  if (warnings.length > 0) s.measured['warnings'] = warnings.slice(0, 50);
  if (verified.different.length > 0)
    throw new Back(
      causeOf(
        'ProofFailed',
        `tables differ from the source: ${verified.different
          .slice(0, 5)
          .map(({ table }) => table)
          .join(', ')}`,
      ),
    );
}

async function work(run: Run, phase: DataPhase, start: unknown): Promise<void> {
  const s = run.state;
  switch (phase) {
    case 'preflight':
      return preflight(run, start);
    case 'snapshot':
      s.begun = 1;
      // What the increments begin behind is read before the rows are.
      if (copyState(run).control.incremental)
        await persist(run, 'snapshot', () =>
          interruptible(run, () => run.ask('observeBounds', copyArgs(run), 'where the increments begin')),
        );
      await persist(run, 'snapshot', () => interruptible(run, () => openSnapshot(run, null)));
      return;
    case 'schema':
      await step(run, 'schema', () => run.ask('makeSchema', copyArgs(run), 'make tables and what they need'));
      return;
    case 'copy':
      return copyTables(run);
    case 'build': {
      const built = await step(run, 'build', () =>
        run.ask('buildRest', copyArgs(run), 'foreign keys, triggers, positions, views'),
      );
      if (built !== null && built !== 'closed') {
        const { counts, ...rest } = built;
        s.measured['built'] = rest;
        if (counts) s.measured['mapped'] = counts;
      }
      return;
    }
    case 'follow':
      return follow(run);
    case 'verify':
      return copyState(run).control.streaming || copyState(run).control.incremental ? verifyLive(run) : verify(run);
    case 'finish':
      await endFollowing(run);
      await persist(run, 'finish', () =>
        run.ask('closeSnapshot', { ...copyArgs(run), finished: true }, 'let the snapshot go'),
      );
      summarise(run);
      return;
    // A gate is waited for before the phase that it names.
    case 'gate':
      return;
  }
}

function summarise(run: Run): void {
  const { tables, copied, rows, bytesDone, quarantined } = copyState(run);
  const skipped = quarantined.filter((one) => one.skipped).map(({ table, code }) => ({ table, code }));
  run.state.measured['copy'] = {
    tables,
    copied,
    rows,
    bytes: bytesDone,
    skipped: skipped.slice(0, 50),
    skippedTables: skipped.length,
  };
}

async function phase(run: Run, name: DataPhase, start: unknown): Promise<void> {
  const s = run.state;
  const mark = `phase:${name}`;
  if (s.marks.includes(mark)) return;
  const dry = s.control?.mode === 'dry-run';
  const goesOn = copyState(run).control.streaming ?? copyState(run).control.incremental;
  if (name !== 'gate' && (name !== 'follow' || goesOn)) s.phase = name;
  if (!dry) await passGate(run, name);
  if (!dry) await passWindow(run, name);
  if (!dry) await hooks(run, 'before', name);
  s.step = name;
  run.show('running');
  await work(run, name, start);
  s.step = null;
  s.live = null;
  if (!dry) await hooks(run, 'after', name);
  s.marks.push(mark);
}

async function forward(run: Run, start: unknown): Promise<void> {
  for (const name of DATA_PHASES) {
    await phase(run, name, start);
    if (run.state.control?.mode === 'dry-run') return;
    await run.clear();
    if (run.mustContinue()) await run.renew();
  }
}

/** Everything that was made in the target is dropped, the snapshot let go, the end recorded. Nothing interrupts it. */
async function goBack(run: Run, cause: Cause): Promise<boolean> {
  const s = run.state;
  run.settled = true;
  s.cause = cause;
  s.waiting = null;
  s.live = null;
  s.step = 'way back';
  run.show('rolling_back');
  await besideOver(run);
  if (s.begun > 0) {
    await insist(
      run,
      'way back',
      () => run.ask('takeBackCopy', copyArgs(run), 'drop what was made, let the snapshot go'),
      ['retry'],
    );
    s.begun = 0;
  }
  if ((s.marks.includes('preparing') || s.marks.includes('prepared')) && s.control?.mode !== 'dry-run') {
    const { code, message } = cause;
    const subject = { database: s.database, migration: s.name };
    await insist(run, 'record', () =>
      run.ask(
        'finish',
        { ...subject, status: 'rolled_back', strict: false, cause: { code, message }, of: 'own' },
        'record that it was taken back',
      ),
    );
  }
  s.step = null;
  s.updatedAt = nowIso();
  return true;
}

const ROAD: Road = { open, forward, goBack };

/** One argument for people: the plan. The second one is the state that a continue-as-new passes on. */
export async function dataMigration(start: unknown, resumed?: RunState): Promise<RunResult> {
  const state = resumed ?? begin(start);
  const again = makeContinueAsNewFunc<typeof dataMigration>();
  const run = new Run(state, (next) => again(start, next));
  void CancellationScope.nonCancellable(() => goBeside(run));
  return runToItsEnd(run, start, ROAD);
}
