/**
 * One switch as the workflow sees it: made ready while clients work, then one activity from pause to resume, and what the guard rows say when that
 * activity did not come to its end. Keeps true: nothing interrupts it between the pause and the resume; an attempt that was undone is tried again later,
 * as often as the plan says, before anybody asks what to do.
 */
import { CancellationScope, sleep } from '@temporalio/workflow';
import type { SwitchOutcome } from '../activities/types';
import { switchLimits } from '../plan/model/blueGreen';
import type { SwitchPurpose } from '../plan/model/pairState';
import type { Side } from '../plan/model/traffic';
import { otherSide } from '../plan/model/traffic';
import { insist } from './back';
import { Back, causeOf, failed, isCancellation } from './failure';
import { interruptible } from './interruptible';
import { keepParts, pairArgs, pairState } from './pairRun';
import type { Run } from './run';
import { nowIso } from './run';

/** What another try may well do better. */
const WORTH_ANOTHER: readonly string[] = [
  ...[
    'SwitchOverran',
    'TrafficFailed',
    'LockBudgetSpent',
    'LockTimeout',
    'Deadlock',
    'GuardrailFailed',
    'PreflightFailed',
  ],
  ...['Unreachable', 'ServerRestarting', 'FenceBroken', 'Timeout', 'StepFailed', 'NotNow'],
];
const PREFIX: Readonly<Record<SwitchPurpose, string>> = { switch: '', drill: 'drill.', back: 'back.' };
const SHOWN = 20;

interface Asked {
  readonly from: Side;
  readonly purpose: SwitchPurpose;
}

const nonCancellable = <T>(fn: () => Promise<T>): Promise<T> => CancellationScope.nonCancellable(fn);

function keep(run: Run, { from, purpose }: Asked, outcome: SwitchOutcome, attempts: number): void {
  const pair = pairState(run);
  const { pausedMs, fenceLsn, appliedLsn, clientErrors, because } = outcome;
  const direction = from === 'blue' ? 'forward' : 'reverse';
  pair.switches = [
    ...pair.switches,
    {
      purpose,
      direction,
      pausedMs,
      fenceLsn,
      appliedLsn,
      clientErrors,
      at: nowIso(),
      attempts,
      outcome: outcome.outcome,
      because,
    } as const,
  ].slice(-SHOWN);
  if (outcome.outcome === 'switched') {
    pair.writable = otherSide(from);
    // What replicates now is the way back.
    pair.direction = direction === 'forward' ? 'reverse' : 'forward';
  } else pair.writable = from;
  pair.trouble = [];
}

/** From pause to resume, and whatever it takes to know how it ended. */
async function once(run: Run, asked: Asked): Promise<SwitchOutcome> {
  const pair = pairState(run);
  const { from, purpose } = asked;
  const number = pair.tries;
  const back = purpose === 'drill' && from === 'green' ? 'drill.back.' : PREFIX[purpose];
  const args = { ...pairArgs(run), from, purpose, number, prefix: back };
  const began = Date.now();
  try {
    return await run.ask('switchOver', args, `switch from ${from} to ${otherSide(from)}: pause to resume`);
  } catch (error) {
    const { code, message, hint } = failed(error);
    run.state.lastError = { code, message, hint };
    pair.writable = null;
    run.show();
    const settled = await settle(run, args);
    const because = settled.outcome === 'undone' ? `${code}: ${message}` : null;
    return { ...settled, pausedMs: Date.now() - began, because, code };
  }
}

/** Tried until it is known: clients may be waiting. */
async function settle(run: Run, args: Parameters<Run['ask']>[1] & object): Promise<SwitchOutcome> {
  for (let tried = 1; ; tried += 1) {
    try {
      return await run.ask('settleSwitch', args as never, 'what the guard rows say: finish forward, or undo');
    } catch (error) {
      const { code, message, hint } = failed(error);
      run.state.lastError = { code, message, hint };
      if (tried < 5) await sleep(500);
      // Somebody has to look: a server is gone for good, or a row was changed by hand.
      else {
        const settled = await insist(run, 'switch', () => run.ask('settleSwitch', args as never, 'settle the switch'), [
          'retry',
        ]);
        if (settled) return settled;
      }
    }
  }
}

async function ready(run: Run, asked: Asked, shielded: boolean): Promise<void> {
  const pair = pairState(run);
  const args = { ...pairArgs(run), ...asked, number: pair.tries, prefix: '' };
  const ask = () => run.ask('prepareSwitch', args, `make the switch from ${asked.from} ready`);
  const seen = shielded ? await ask() : await interruptible(run, ask);
  if (seen === 'closed') return;
  pair.evidence['ready'] = { ...seen };
}

/** One try. Before the pause a person may still interrupt it (not on the way back). */
async function attempt(run: Run, asked: Asked, shielded: boolean, number: number): Promise<SwitchOutcome> {
  const s = run.state;
  const pair = pairState(run);
  pair.tries += 1;
  if (asked.purpose !== 'back') s.phase = 'pause';
  s.step = asked.purpose === 'back' ? 'switch_back' : 'pause';
  try {
    await ready(run, asked, shielded);
  } catch (error) {
    if (error instanceof Back || isCancellation(error) || !(error instanceof Error)) throw error;
    const { code, message, hint } = failed(error);
    s.lastError = { code, message, hint };
    // Clients have not noticed anything; what was made ready is used by the next try.
    return {
      outcome: 'undone',
      pausedMs: 0,
      fenceLsn: null,
      appliedLsn: null,
      clientErrors: 0,
      because: `${code}: ${message}`,
      code,
      parts: [],
    };
  }
  run.show();
  const outcome = await nonCancellable(() => once(run, asked));
  keep(run, asked, outcome, number);
  if (outcome.outcome === 'switched') s.lastError = null;
  if (asked.purpose !== 'back') s.phase = outcome.outcome === 'switched' ? 'resume' : 'sync';
  s.step = null;
  run.show();
  await nonCancellable(async () => {
    const switched = outcome.outcome === 'switched';
    const said = switched
      ? 'take down the walls of the writable side and the old direction'
      : 'take down what the attempt left';
    await insist(run, 'after the switch', () => run.ask('afterSwitch', { ...pairArgs(run), switched }, said), [
      'retry',
    ]);
    await keepParts(run, outcome.parts).catch(() => undefined);
  });
  return outcome;
}

/**
 * Switches, in as many tries as the plan gives. `shielded`: on the way back nothing interrupts and the waits are short. Throws Back (or fails) when the
 * tries are spent: then `from` takes the writes and everything goes on as before.
 */
export async function switchOver(run: Run, asked: Asked, shielded = false): Promise<void> {
  const s = run.state;
  const { attempts } = pairState(run).control.switch;
  const { retryAfterMs } = switchLimits(pairState(run).control);
  for (let number = 1; ; number += 1) {
    const outcome = await attempt(run, asked, shielded, number);
    if (outcome.outcome === 'switched') return;
    const code = outcome.code ?? 'SwitchOverran';
    const cause = causeOf('SwitchOverran', `the switch was undone: ${outcome.because ?? code}`);
    s.lastError = { code, message: cause.message, hint: s.lastError?.hint ?? cause.hint };
    if (number >= attempts || !WORTH_ANOTHER.includes(code)) throw new Undone({ ...cause, code });
    const until = Date.now() + (shielded ? Math.min(retryAfterMs, 5_000) : retryAfterMs);
    await run.wait({
      status: s.status === 'rolling_back' ? 'rolling_back' : 'waiting',
      waiting: {
        type: 'throttle',
        gate: null,
        since: nowIso(),
        until: new Date(until).toISOString(),
        reason: `try ${number} of ${attempts} was undone (${outcome.because ?? code}); the next one comes then`,
        evidence: { pausedMs: outcome.pausedMs },
        commands: [],
      },
      until: () => false,
      timeoutMs: until - Date.now(),
      summary: 'the next try of the switch',
    });
    run.show(s.status === 'rolling_back' ? 'rolling_back' : 'running');
    if (!shielded) await run.clear();
  }
}

/** Every try was undone; clients work where they did before. */
export class Undone extends Error {
  override readonly name = 'Undone';
  constructor(readonly cause_: ReturnType<typeof causeOf>) {
    super(cause_.message);
  }
}
