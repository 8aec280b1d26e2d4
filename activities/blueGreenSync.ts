/**
 * Activities of the sync: the slot and the snapshot that belongs to it, the subscription that goes on from there, and the proof. Keeps true: rows come
 * from the slot's own snapshot and changes from the slot, so nothing comes twice and nothing is missed; with another slot everything is copied again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { switchLimits } from '../plan/model/blueGreen';
import { Problem } from '../plan/model/errors';
import type { Live } from '../plan/model/state';
import { NO_ROWS } from '../plan/model/status';
import { currentEpoch, endEpochs, isHeld, openEpoch } from '../postgres/copy/epoch';
import { openCopySession, readAt } from '../postgres/copy/context';
import { chosenTables, piecesOf, writeTables } from '../postgres/copy/tables';
import { crashPoint } from '../postgres/crashPoints';
import { inTransaction } from '../postgres/session';
import type { Session } from '../postgres/session';
import { carriedTables } from '../postgres/switch/carried';
import { wallOff } from '../postgres/switch/fence';
import { grownOnGreen } from '../postgres/switch/grown';
import { setIdentities } from '../postgres/switch/identity';
import { publisherOf } from '../postgres/switch/names';
import type { Both } from '../postgres/switch/pair';
import { healthOf, lagOf } from '../postgres/switch/progress';
import { ensurePublication } from '../postgres/switch/publication';
import { activate, endsOf, namesOf } from '../postgres/switch/replicate';
import { createSlotWithSnapshot, slotState } from '../postgres/switch/slot';
import { ensureSubscription } from '../postgres/switch/subscription';
import { checkSignal } from '../postgres/work';
import { fencingOf } from './blueGreen';
import { ChangedWatch } from './changedWatch';
import { Reporter } from './context';
import type { Tools } from './context';
import { withContext } from './data';
import { withPair } from './pairSessions';
import type { CaughtUp, OpenSyncArgs, PairArgs, PairWatched, SnapshotOpened, WatchPairArgs } from './types';

/** Making a slot waits for every transaction that is open in the server. */
const SLOT_MS = 600_000;

/** What is copied already was read from an older snapshot: from a new slot's it begins again. */
async function startOver(target: Session, migration: string): Promise<void> {
  await inTransaction(target, async () => {
    await target.run(
      `UPDATE pgshift.copy_tables SET state = 'waiting' WHERE migration_name = $1 AND state IN ('done', 'running')`,
      [migration],
    );
    await target.run(
      `UPDATE pgshift.steps SET status = 'pending' WHERE migration_name = $1 AND step_id ~ '^copy[.][0-9]+$' AND status = 'done'`,
      [migration],
    );
  });
}

/** Identities, publication, slot, snapshot, and the list of tables as it sees them. Idempotent while the snapshot is held. */
export const openSync = (args: OpenSyncArgs, tools: Tools): Promise<SnapshotOpened> =>
  withPair(args, tools, ({ both, pair, patience }) =>
    withContext(args, tools, async (context) => {
      const names = namesOf(pair, 'forward');
      await setIdentities(both.blue, args.migration, patience);
      await ensurePublication(both.blue, names.publication, await carriedTables(both, 'blue'), patience);
      const source = await openCopySession(context, context.source, 'snapshot');
      const target = await openCopySession(context, context.target, 'snapshot');
      try {
        const open = await currentEpoch(target, args.migration);
        const usable =
          open !== null &&
          open.epoch > args.schemaEpoch &&
          (await isHeld(source, open)) &&
          (await slotState(both.blue, names.slot)) !== null;
        let epoch = usable ? open : null;
        if (epoch === null) {
          await endEpochs(context, source, target, 'its slot is made anew');
          const slot = await createSlotWithSnapshot(context.source, names.slot, SLOT_MS, tools.signal);
          try {
            crashPoint('sync.slot');
            await startOver(target, args.migration);
            epoch = await openEpoch(context, source, target, slot.snapshot);
          } finally {
            await slot.release();
          }
        }
        const found = await readAt(source, epoch.snapshot, () => chosenTables(source, context.control.tables));
        await writeTables(target, args.migration, epoch.epoch, found);
        return { epoch: epoch.epoch, ...(await piecesOf(target, args.migration, context.control)) };
      } finally {
        await Promise.all([source.close(), target.close()]);
      }
    }),
  );

/** The subscription from the slot on, and the wait until the lag is small. Everything is there by now: indexes, constraints, triggers. */
export const subscribe = (args: PairArgs, tools: Tools): Promise<CaughtUp> =>
  withPair(args, tools, async ({ both, pair, peers, patience, control }) => {
    const names = namesOf(pair, 'forward');
    await wallOff(both.green, args.migration, fencingOf(args, tools.signal));
    await setIdentities(both.green, args.migration, patience);
    const origin = Math.min(both.blue.serverVersion, both.green.serverVersion) >= 160000 ? 'none' : 'any';
    await ensureSubscription(both.green, { names, publisher: peers.blue, origin });
    await activate(both, pair, 'forward');
    const began = performance.now();
    const reporter = new Reporter();
    const { maxLagBytes } = switchLimits(control);
    for (;;) {
      checkSignal(tools.signal);
      const lag = await lagOf(both.blue, names);
      reporter.report(liveOf('sync', tools.attempt, lag));
      if (lag.bytes !== null && lag.bytes <= maxLagBytes)
        return { lagBytes: lag.bytes, lagMs: lag.ms, ms: Math.round(performance.now() - began) };
      tools.beat({ lagBytes: lag.bytes });
      await sleep(100);
    }
  });

const liveOf = (step: string, attempt: number, lag: { bytes: number | null; ms: number | null }): Live => ({
  step,
  attempt,
  ...NO_ROWS,
  lagBytes: lag.bytes,
  lagMs: lag.ms,
  waitingFor: null,
});

const LOOK_MS = 1_000;
/** A worker that is restarted, a walsender that reconnects: trouble is what lasts. */
const LASTS = 5;

/** Beside everything else: is the direction that replicates well? Answers when what is wrong has changed for good, and hourly. */
export async function watchPair(args: WatchPairArgs, tools: Tools): Promise<PairWatched> {
  const changed = new ChangedWatch(args, tools);
  try {
    return await watch(args, tools, changed);
  } finally {
    await changed.close();
  }
}

async function watch(args: WatchPairArgs, tools: Tools, changed: ChangedWatch): Promise<PairWatched> {
  const began = performance.now();
  const reporter = new Reporter();
  let differs = 0;
  for (;;) {
    changed.look();
    const seen = await lookAt(args, tools).catch((error: unknown): PairWatched => {
      if (!(error instanceof Problem)) throw error;
      checkSignal(tools.signal);
      return { problems: [`${error.code}: ${error.message}`], lagBytes: null, lagMs: null, lost: false };
    });
    const look: PairWatched = { ...seen, problems: [...seen.problems, ...changed.problems] };
    tools.beat({ lagBytes: look.lagBytes });
    reporter.report(liveOf('replication', tools.attempt, { bytes: look.lagBytes, ms: look.lagMs }));
    differs = look.problems.join() === args.known.join() ? 0 : differs + 1;
    if (differs >= LASTS || performance.now() - began > args.maxMs) return look;
    await sleep(LOOK_MS, undefined, { signal: tools.signal });
  }
}

const lookAt = (args: WatchPairArgs, tools: Tools): Promise<PairWatched> =>
  withPair(args, tools, async ({ both, pair }) => {
    const tables = (await carriedTables(both, publisherOf(args.direction))).length;
    const health = await healthOf(endsOf(both, args.direction), namesOf(pair, args.direction), tables);
    const grown = args.direction === 'reverse' ? await seenGrown(both, args.migration) : [];
    return {
      problems: [...health.problems, ...grown].slice(0, 5),
      lagBytes: health.lag.bytes,
      lagMs: health.lag.ms,
      lost: health.slot === null || health.slot.walStatus === 'lost',
    };
  });

/** What would stop the way back, said while there is time. */
async function seenGrown(both: Both, migration: string): Promise<string[]> {
  try {
    return (await grownOnGreen(both, migration)).map((one) => `${one} is on green alone: no way back with it`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return [`${error.code}: ${error.message}`];
  }
}
