/** What can be done for a switch before clients wait, so that little is left for the pause. Keeps true: all of it may be done again, and none of it hurts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { switchLimits } from '../plan/model/blueGreen';
import { Problem } from '../plan/model/errors';
import { otherSide } from '../plan/model/traffic';
import type { Session } from '../postgres/session';
import { carriedTables } from '../postgres/switch/carried';
import { wallOff } from '../postgres/switch/fence';
import { grownOnGreen, keepShape } from '../postgres/switch/grown';
import type { GuardRow } from '../postgres/switch/guard';
import { readGuard } from '../postgres/switch/guard';
import { setIdentities } from '../postgres/switch/identity';
import { directionFrom } from '../postgres/switch/names';
import { lagOf } from '../postgres/switch/progress';
import { namesOf, prepareWayBack } from '../postgres/switch/replicate';
import type { SchemaState } from '../postgres/switch/schemaState';
import { schemaChanges, schemaState } from '../postgres/switch/schemaState';
import { hangWall } from '../postgres/switch/wall';
import { openChanged, rememberChanges } from '../postgres/switch/changedSlot';
import { openPairs } from '../postgres/switch/quickVerify';
import { checkSignal } from '../postgres/work';
import { checkTraffic, fencingOf, guard, readSchemaState } from './blueGreen';
import { proofPlan } from './blueGreenVerify';
import type { Tools } from './context';
import type { OpenPair } from './pairSessions';
import { summaryOf, withPair } from './pairSessions';
import type { SwitchArgs, SwitchReady } from './types';

const SLOT_MS = 60_000;
const HANG_MS = 5_000;
/** The last wait for replication before clients are made to wait. */
const CATCH_UP_MS = 30_000;
/** While clients work: what changed before anybody watched may be much. */
const CHANGED_MS = 300_000;

export const must = (row: GuardRow | null, session: Session, id: string): GuardRow => {
  if (row === null) throw new Problem('NoSuchRun', `${session.name}: there is no guard row of ${id}`);
  return row;
};

/** Compares a side with what it was like; throws Drift naming what changed. */
export async function refuseDdl(session: Session, before: SchemaState | null): Promise<void> {
  if (before === null) return;
  const changes = schemaChanges(before, await schemaState(session));
  if (changes.length === 0) return;
  const named = changes.slice(0, 5).map(({ kind, name, change }) => `${kind} ${name} was ${change}`);
  throw new Problem('Drift', `${session.name} changed since the schema was copied: ${named.join(', ')}`, {
    hint: 'begin again (pgshift rollback, then start), or take the change back',
    details: { changes: changes.slice(0, 30) },
  });
}

/** Before the way back. Throws Drift naming what of green's rows would stay behind. */
async function refuseGrown(both: OpenPair['both'], migration: string): Promise<void> {
  const grown = await grownOnGreen(both, migration);
  if (grown.length === 0) return;
  throw new Problem('Drift', `green got what blue does not have, and its rows would not come back: ${named(grown)}`, {
    hint: 'make a column on blue too, with the same default; bring rows of a table to where they are wanted and drop it on green; then retry, or stay on green',
    details: { grown: grown.slice(0, 30) },
  });
}
const named = (all: readonly string[]): string =>
  all.slice(0, 5).join(', ') + (all.length > 5 ? ` and ${all.length - 5} more` : '');

/** All that changed since every row was compared, but for the last moments. Throws ProofFailed, SwitchOverran. */
async function compareChanged({ both, pair }: OpenPair, args: SwitchArgs, tools: Tools): Promise<number | null> {
  const { from } = args;
  const plan = await proofPlan({ ...args, what: 'verify' }, tools);
  const prepared = await openPairs(pair[from], pair[otherSide(from)], plan, 'changed');
  try {
    const rows = await openChanged(both, pair, from, prepared, 'take over');
    try {
      await rows?.catchUp(CHANGED_MS, tools.signal);
      return rows?.rows ?? null;
    } finally {
      await rows?.close();
    }
  } finally {
    await prepared.close();
  }
}

/** Everything that can be done before clients wait: guardrails, the way back, walls that let everything through, and a small lag. */
export const prepareSwitch = (args: SwitchArgs, tools: Tools): Promise<SwitchReady> =>
  withPair(args, tools, async (open) => {
    const { both, pair, peers, patience, control } = open;
    const { from } = args;
    const to = otherSide(from);
    const there = directionFrom(from);
    const back = directionFrom(to);
    const fencing = fencingOf(args, tools.signal);
    const seen = must(await readGuard(both[from], pair.migration), both[from], pair.migration);
    if (!seen.writable) throw new Problem('NotNow', `${from} does not take the writes`);
    // Green's schema is what the plan made of it: only blue has a state to be compared with. Later what matters of green is what holds rows.
    if (from === 'blue') await refuseDdl(both.blue, await readSchemaState(both.green, pair.migration, 'blue'));
    if (from === 'blue') await keepShape(both, pair.migration);
    else await refuseGrown(both, pair.migration);
    await wallOff(both[to], pair.migration, fencing);
    await setIdentities(both[to], pair.migration, patience);
    await prepareWayBack(both, pair, back, {
      tables: await carriedTables(both, to),
      publisher: peers[to],
      slotDeadlineMs: SLOT_MS,
      patience,
    });
    const unwalled = await hangWall(both[from], seen, { ...fencing, deadlineMs: HANG_MS });
    const { maxLagBytes } = switchLimits(control);
    const names = namesOf(pair, there);
    let lag = await lagOf(both[from], names);
    for (const until = performance.now() + CATCH_UP_MS; lag.bytes === null || lag.bytes > maxLagBytes;) {
      checkSignal(tools.signal);
      if (performance.now() > until) break; // the guardrail says it, with the figures
      await sleep(100);
      lag = await lagOf(both[from], names);
    }
    const found = await guard(open, 'switch', there);
    const traffic = await checkTraffic(open, control.allowed);
    // Both sides are equal at the lift: known from here on, what changes after it can be compared one by one on the way back.
    if (args.purpose === 'drill') await rememberChanges(both, pair, to);
    const compared = control.switch.verify === 'changed' ? await compareChanged(open, args, tools) : null;
    return { guardrails: summaryOf(found), traffic, lagBytes: lag.bytes, lagMs: lag.ms, compared, unwalled };
  });
