/**
 * One switch: everything from the pause to the resume in one activity, because a round trip through a workflow costs more than most of its parts. Keeps
 * true: what died or overran is decided by the guard rows alone. If the lift committed, everything after it is done (again) until it is done; if not, the
 * side that it came from takes writes again and the sync goes on. Both may run any number of times, also while a forgotten attempt still runs.
 */
import { switchLimits } from '../plan/model/blueGreen';
import { isProblem, Problem } from '../plan/model/errors';
import type { Side } from '../plan/model/traffic';
import { otherSide } from '../plan/model/traffic';
import { crashPoint } from '../postgres/crashPoints';
import type { ChangedRows } from '../postgres/switch/changedRows';
import { openChanged } from '../postgres/switch/changedSlot';
import { clientsOf } from '../postgres/switch/clients';
import { fence, settle } from '../postgres/switch/fence';
import { arm, lift, readGuard } from '../postgres/switch/guard';
import type { Attempt } from '../postgres/switch/guard';
import { directionFrom } from '../postgres/switch/names';
import { waitReached } from '../postgres/switch/progress';
import type { Counters, OpenPairs, QuickVerify } from '../postgres/switch/quickVerify';
import { openPairs, quickVerify } from '../postgres/switch/quickVerify';
import { deactivate, dropDirection, endsOf, namesOf, readyWayBack } from '../postgres/switch/replicate';
import type { SchemaState } from '../postgres/switch/schemaState';
import { schemaState } from '../postgres/switch/schemaState';
import type { SequencesSet } from '../postgres/switch/sequences';
import { sequencesBehind, setSequences } from '../postgres/switch/sequences';
import { fencingOf } from './blueGreen';
import { must, refuseDdl } from './blueGreenReady';
import type { Tools } from './context';
import type { OpenPair } from './pairSessions';
import { withPair } from './pairSessions';
import { countersAt, proofPlan } from './blueGreenVerify';
import { goBack, goForward, outcomeOf } from './switchEnds';
import type { Running } from './switchEnds';
import { Parts } from './switchParts';
import type { AfterSwitchArgs, SwitchArgs, SwitchOutcome } from './types';

interface Seen {
  fenceLsn: string | null;
  appliedLsn: string | null;
  clientErrors: number;
}

/** From the pause to the position: afterwards nobody writes, and the other side has everything. */
async function close({ open, args, tools, parts }: Running, attempt: Attempt, seen: Seen): Promise<void> {
  const { both, pair, traffic, control, peerRoles } = open;
  const { from, epoch } = attempt;
  const { maxPauseMs } = switchLimits(control);
  const lastsMs = maxPauseMs * 4 + 10_000;
  await parts.run('pause', (left) =>
    traffic.pause(open.call(`${args.purpose}/${args.number}/pause`, left, { token: epoch, lastsMs })),
  );
  crashPoint('pause.done', args.purpose);
  await parts.run(
    'fence',
    async (left) => {
      const clients = await clientsOf(both[from]);
      seen.clientErrors = clients.filter(
        ({ transactionMs, state }) => transactionMs !== null && state !== 'idle',
      ).length;
      const options = { ...fencingOf(args, tools.signal), keepRoles: peerRoles[from], deadlineMs: left };
      const fenced = await fence(both[from], pair.migration, attempt, options);
      seen.fenceLsn = fenced.position;
      return fenced;
    },
    ({ endedSessions, leftSessions, tables, wallMs, position }) => ({
      ...{ endedSessions, leftSessions: leftSessions.length, tables, wallMs: Math.round(wallMs), position },
    }),
  );
}

/** Whoever cannot be asked now could not be led over after the lift either, and from there nobody turns back. Throws TrafficFailed. */
async function stillLed({ open, args }: Running, { from, epoch }: Attempt, leftMs: number): Promise<void> {
  const state = await open.traffic.status(open.call(`${args.purpose}/${args.number}/look`, leftMs, { token: epoch }));
  if (state.target !== from) throw new Problem('TrafficFailed', state.because ?? `clients do not lead to ${from}`);
}

async function carrySequences(both: OpenPair['both'], from: Side, gap: number): Promise<SequencesSet> {
  const to = otherSide(from);
  const set = await setSequences(both[from], both[to], gap);
  const behind = await sequencesBehind(both[from], both[to]);
  if (behind.length > 0)
    throw new Problem('StepFailed', `sequences of ${to} are behind: ${behind.slice(0, 5).join(', ')}`);
  return set;
}

interface Known {
  readonly schema: SchemaState;
  readonly verified: Counters | null;
  readonly look: QuickVerify;
}

/** The other side has the position; rows, schema and sequences agree; the way back is on; whoever leads clients still answers. */
async function carryOver(running: Running, attempt: Attempt, seen: Seen, known: Known): Promise<void> {
  const { open, args, tools, parts } = running;
  const { from, to } = attempt;
  const { both, pair, control } = open;
  const there = directionFrom(from);
  await parts.run(
    'catch_up',
    async (left) => {
      const reached = await waitReached(
        endsOf(both, there),
        namesOf(pair, there),
        seen.fenceLsn ?? '',
        left,
        tools.signal,
      );
      seen.appliedLsn = reached.confirmed;
      crashPoint('catchup.reached', args.purpose);
      await deactivate(both, pair, there);
      // Rows by sessions of their own, at the same time as everything else; both are waited for, whatever either says.
      const [rows, rest] = await Promise.allSettled([
        known.look.run(control.switch.verify, known.verified, seen.fenceLsn ?? '', () =>
          parts.left('the last look at rows'),
        ),
        refuseDdl(both[from], known.schema).then(() => carrySequences(both, from, control.sequenceGap)),
      ]);
      if (rows.status === 'rejected') throw rows.reason;
      if (rest.status === 'rejected') throw rest.reason;
      const [compared, sequences] = [rows.value, rest.value];
      crashPoint('sequences.set', args.purpose);
      return { reached, sequences, compared };
    },
    ({ reached, sequences, compared }) => ({
      reachedMs: Math.round(reached.ms),
      appliedLsn: reached.confirmed,
      sequences: sequences.sequences,
      sequencesMissing: sequences.missing.slice(0, 10),
      compared,
    }),
  );
  await parts.run(
    'reverse',
    async (left) => {
      const [ready, led] = await Promise.allSettled([
        readyWayBack(both, pair, directionFrom(to)),
        stillLed(running, attempt, left),
      ]);
      if (ready.status === 'rejected') throw ready.reason;
      if (led.status === 'rejected') throw led.reason;
      return ready.value;
    },
    (lsn) => ({ from: lsn }),
  );
}

/** Read while clients still work: what the last look compares. What changed since prepareSwitch looked is little. */
const CHANGED_MS = 20_000;

interface LastLook {
  readonly prepared: OpenPairs;
  readonly rows: ChangedRows | null;
  readonly look: QuickVerify;
}

async function openLook(open: OpenPair, args: SwitchArgs, tools: Tools): Promise<LastLook> {
  const { both, pair, control } = open;
  const { from } = args;
  const plan = await proofPlan({ ...args, what: 'verify' }, tools);
  const prepared = await openPairs(pair[from], pair[otherSide(from)], plan, 'last-look');
  let rows: ChangedRows | null = null;
  try {
    if (control.switch.verify === 'changed') rows = await openChanged(both, pair, from, prepared, 'take over');
    await rows?.catchUp(CHANGED_MS, tools.signal);
    return { prepared, rows, look: quickVerify(prepared, rows, tools.signal) };
  } catch (error) {
    await closeLook({ prepared, rows });
    throw error;
  }
}

async function closeLook({ prepared, rows }: Pick<LastLook, 'prepared' | 'rows'>): Promise<void> {
  await rows?.close();
  await prepared.close();
}

/** Throws only where it could neither go on nor back: then `settleSwitch` does, by what the guard rows say. */
export const switchOver = (args: SwitchArgs, tools: Tools): Promise<SwitchOutcome> =>
  withPair(args, tools, async (open) => {
    const { both, pair, control } = open;
    const { from } = args;
    const to = otherSide(from);
    const schema = await schemaState(both[from]);
    const verified = await countersAt(both.blue, pair.migration, from);
    const last = await openLook(open, args, tools);
    const { look } = last;
    const seen: Seen = { fenceLsn: null, appliedLsn: null, clientErrors: 0 };
    let running: Running | null = null;
    let epoch = 0;
    try {
      epoch = await arm(both, pair.migration, from);
      const attempt: Attempt = { from, to, epoch };
      running = { open, args, tools, parts: new Parts(args.prefix, switchLimits(control).maxPauseMs, args.number) };
      await close(running, attempt, seen);
      await carryOver(running, attempt, seen, { schema, verified, look });
      running.parts.left('the lift');
      await lift(both, pair.migration, attempt);
      running.parts.lifted();
      crashPoint('flip.before', args.purpose);
      await goForward(running, epoch);
      tools.deps.metrics.switchPause.observe({ direction: directionFrom(from) }, running.parts.spentMs / 1_000);
      return outcomeOf(running, { outcome: 'switched', ...seen });
    } catch (error) {
      // After an unknown outcome of the lift its row decides, not this code; and an attempt that was settled by another has nothing to take back.
      const row = running === null ? null : await readGuard(both[to], pair.migration);
      if (running === null || row?.epoch !== epoch || row.writable) throw error;
      const code = isProblem(error) ? error.code : tools.signal.aborted ? 'ServerRestarting' : 'Bug';
      const because = isProblem(error)
        ? `${error.code}: ${error.message}`
        : code === 'Bug'
          ? 'an unexpected error'
          : 'the worker was stopped';
      tools.log.warn({ code, ...(isProblem(error) ? {} : { err: error }) }, `the switch is undone: ${because}`);
      await goBack(running);
      return outcomeOf(running, { outcome: 'undone', because, code, ...seen });
    } finally {
      await closeLook(last);
    }
  });

/** After a switch that died or failed half way: forward when the lift committed, else back. */
export const settleSwitch = (args: SwitchArgs, tools: Tools): Promise<SwitchOutcome> =>
  withPair(args, tools, async (open) => {
    const { both, pair } = open;
    const to = otherSide(args.from);
    const running: Running = { open, args, tools, parts: new Parts(args.prefix, 0, args.number) };
    const row = must(await readGuard(both[to], pair.migration), both[to], pair.migration);
    const from = must(await readGuard(both[args.from], pair.migration), both[args.from], pair.migration);
    const fenceLsn = from.details.position?.lsn ?? null;
    if (row.writable) {
      running.parts.lifted();
      await goForward(running, row.epoch);
      return outcomeOf(running, { outcome: 'switched', fenceLsn });
    }
    await goBack(running);
    return outcomeOf(running, {
      outcome: 'undone',
      fenceLsn,
      because: 'the worker died in the middle',
      code: 'SwitchOverran',
    });
  });

/** What is done at leisure: walls, the direction that was left, and the record. */
export const afterSwitch = (
  args: AfterSwitchArgs,
  tools: Tools,
): Promise<{ readonly wallsLeft: number; readonly writable: Side | 'none' }> =>
  withPair(args, tools, async ({ both, pair, patience }) => {
    const rows = {
      blue: await readGuard(both.blue, pair.migration),
      green: await readGuard(both.green, pair.migration),
    };
    const writable: Side | 'none' = rows.blue?.writable ? 'blue' : rows.green?.writable ? 'green' : 'none';
    if (writable === 'none') return { wallsLeft: 0, writable };
    const settled = await settle(both[writable], pair.migration, fencingOf(args, tools.signal));
    // Its slot would keep WAL for nothing; the way back has a slot of its own.
    if (args.switched) await dropDirection(both, pair, directionFrom(otherSide(writable)), patience);
    return { wallsLeft: settled?.left.length ?? 0, writable };
  });
