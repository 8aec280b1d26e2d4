/**
 * The way back of a blue-green: before the switch everything that was made is dropped; after it the writes go back to blue by the same switch with the
 * sides swapped, and then the same. Keeps true: every write made on green is on blue before anything is dropped.
 */
import { ERRORS } from '../plan/model/errors';
import type { Cause } from '../plan/model/state';
import { insist, stay } from './back';
import { Back } from './failure';
import { askHelp, askPeople } from './gates';
import { manualGate } from './gateRules';
import { keepParts, pairArgs, pairState, syncArgs } from './pairRun';
import { proveRows } from './pairProof';
import { switchOver, Undone } from './pairSwitch';
import type { Run } from './run';
import { nowIso } from './run';
import { endStage } from './stageReport';
import { sendHome } from './stages';

/** After the switch a person may be asked first. Answers false when it stays. */
async function mayGoBack(run: Run): Promise<boolean> {
  const s = run.state;
  const rules = manualGate('switch_back', s.control?.gates['switch_back']);
  if (rules === null) return true;
  const { switch_back: _, ...others } = s.inbox.gates;
  s.inbox = { ...s.inbox, gates: others };
  try {
    await askPeople(run, rules, 'the writes would go back to blue');
  } catch (error) {
    if (!(error instanceof Back)) throw error;
  }
  return s.inbox.gates['switch_back']?.verdict === 'approved';
}

/** The same switch with the sides swapped, and the same proof. Tried until it works or a person leaves green as it is. */
async function switchBack(run: Run): Promise<boolean> {
  const s = run.state;
  const startedAt = nowIso();
  s.phase = 'switch_back';
  run.show('rolling_back');
  for (;;) {
    try {
      await proveRows(run, 'green', true);
      await switchOver(run, { from: 'green', purpose: 'back' }, true);
      break;
    } catch (error) {
      if (!(error instanceof Undone) && !(error instanceof Back)) throw error;
      const cause = error instanceof Undone ? error.cause_ : error.back;
      s.lastError = { code: cause.code, message: cause.message, hint: cause.hint };
      if ((await askHelp(run, 'switch_back', ['retry', 'skip'], cause)) === 'skip') return false;
      run.show('rolling_back');
    }
  }
  s.contractedAt = null;
  pairState(run).heldSince = null;
  const evidence = { ...pairState(run).switches.at(-1) };
  await keepParts(run, [
    { id: 'switch_back', phase: 'switch_back', status: 'done', startedAt, endedAt: nowIso(), attempts: 1, evidence },
  ]).catch(() => undefined);
  return true;
}

export async function goBackPair(run: Run, cause: Cause): Promise<boolean> {
  const s = run.state;
  const pair = pairState(run);
  const before = s.status;
  const phase = s.phase;
  run.settled = true;
  // A cancel after the way back was given up takes nothing back: what is left to do is done.
  if (s.marks.includes('finished')) return false;
  s.cause = cause;
  s.waiting = null;
  s.live = null;
  s.step = null;
  if (s.control === null || s.control.mode === 'dry-run') return true;
  if (s.begun === 0) {
    // Cancelled in the middle of the guardrails: it may have claimed the name. A server that is away has nothing of it.
    if (s.marks.includes('preparing'))
      await run.ask('abandonPair', syncArgs(run, 0), 'free the name').catch(() => undefined);
    return true;
  }
  // People first: what they are sent to is about to go, and a stage that failed must not be seen by anybody for longer.
  endStage(run);
  if (s.canary || pair.writable !== 'blue') run.show('rolling_back');
  await sendHome(run);
  if (pair.writable !== 'blue') {
    if (!(await mayGoBack(run)) || !(await switchBack(run))) {
      s.phase = phase;
      stay(run, before);
      return false;
    }
  }
  s.phase = 'decommission_green';
  s.step = 'decommission_green';
  run.show('rolling_back');
  const startedAt = nowIso();
  pair.direction = null;
  const taken = await insist(
    run,
    'decommission_green',
    () => run.ask('takeBackPair', syncArgs(run, 0), 'drop what was made on green and what replicates'),
    ['retry'],
  );
  const left = taken?.left ?? [];
  if (left.length > 0) s.measured['cannotBeTakenBack'] = left;
  const subject = { database: s.database, migration: s.name };
  const status = left.length === 0 ? 'rolled_back' : 'failed';
  await insist(run, 'record', async () => {
    await keepParts(run, [
      ...[{ id: 'decommission_green', phase: 'decommission_green' as const, status: 'done' as const, startedAt }].map(
        (one) => ({ ...one, endedAt: nowIso(), attempts: 1, evidence: { left } }),
      ),
    ]);
    await run.ask('finishGreen', { ...pairArgs(run), status }, 'record it on green');
    const { code, message } = cause;
    await run.ask(
      'finish',
      { ...subject, status, strict: false, cause: { code, message }, of: 'own' },
      'record that it was taken back',
    );
  });
  s.step = null;
  s.updatedAt = nowIso();
  s.lastError =
    s.lastError ??
    (cause.code === 'RolledBack' ? null : { code: cause.code, message: cause.message, hint: ERRORS.RolledBack.hint });
  return true;
}
