/**
 * How a blue-green ends: everything taken back while blue takes the writes, or the way back given up and blue kept, renamed or dropped. Keeps true: each may
 * run twice; nothing of replication outlives the run; a run that did not claim the name touches nothing.
 */
import { Problem } from '../plan/model/errors';
import type { PartDone } from '../plan/model/pairState';
import { undoCopy } from '../postgres/copy/undo';
import { openSession } from '../postgres/session';
import type { Session } from '../postgres/session';
import { addressOf } from '../postgres/session';
import { installedVersion } from '../postgres/state/install';
import { completeAtContract, findMigration, setStatus } from '../postgres/state/migrations';
import { dropAdded, dropRelations, removeDatabase } from '../postgres/switch/emptyGreen';
import { restoreConnect } from '../postgres/switch/connect';
import { settle, takeBack } from '../postgres/switch/fence';
import { closeGuard, readGuard, updateGuard } from '../postgres/switch/guard';
import { restoreIdentities } from '../postgres/switch/identity';
import { dropDirection } from '../postgres/switch/replicate';
import { dropWall } from '../postgres/switch/wall';
import type { Target } from '../postgres/types';
import { target } from '../postgres/types';
import { resolveTarget } from '../worker/config';
import { fencingOf, readSchemaState } from './blueGreen';
import type { Tools } from './context';
import { withContext } from './data';
import { withPair } from './pairSessions';
import type { OpenPair } from './pairSessions';
import type { CopyArgs, Decommissioned, PairArgs, PairTakenBack } from './types';

async function isMine(session: Session, migration: string, tools: Tools): Promise<boolean> {
  const row = (await installedVersion(session)) === null ? undefined : await findMigration(session, migration);
  return row?.workflowId === tools.workflowId && row.runId === (await tools.chainId());
}

/** What was done and when, for people and for `pgshift report`: blue has the record of the run. */
export const recordParts = (args: PairArgs & { readonly parts: readonly PartDone[] }, tools: Tools): Promise<void> =>
  withPair(args, tools, async ({ both }) => {
    for (const { id, phase, status, startedAt, endedAt, attempts, evidence } of args.parts)
      await both.blue.run(
        `INSERT INTO pgshift.steps (migration_name, step_id, phase, status, attempt, started_at, finished_at, result)
         VALUES ($1, $2, $3, $4, $5, $6::timestamptz, $7::timestamptz, $8::jsonb)
         ON CONFLICT (migration_name, step_id) DO UPDATE SET status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
           finished_at = excluded.finished_at, result = excluded.result`,
        [args.migration, id, phase, status, attempts, startedAt, endedAt, JSON.stringify(evidence)],
      );
  });

/** An attempt that was armed and never lifted is disarmed; after a lift to green there is nothing to take back here. */
async function endAttempt(open: OpenPair, args: PairArgs, tools: Tools): Promise<void> {
  const { both, pair, traffic, call } = open;
  const rows = { blue: await readGuard(both.blue, pair.migration), green: await readGuard(both.green, pair.migration) };
  if (rows.green?.writable)
    throw new Problem('NotNow', 'green takes the writes: the way back is a switch', { hint: 'pgshift rollback' });
  if (rows.blue === null) return;
  if (rows.green !== null && (!rows.blue.writable || rows.blue.details.attempt !== null)) {
    await takeBack(both, pair.migration, 'blue', { ...fencingOf(args, tools.signal), deadlineMs: 0 });
    const row = await readGuard(both.blue, pair.migration);
    await traffic.undo('blue', call('take-back', 10_000, { token: row?.epoch ?? rows.blue.epoch + 1 }));
  }
  await settle(both.blue, pair.migration, fencingOf(args, tools.signal));
}

/** Everything that the run made goes, on both sides. Right in every step before the switch, after the way back, and when nothing was made. */
export const takeBackPair = (args: PairArgs & CopyArgs, tools: Tools): Promise<PairTakenBack> =>
  withPair(args, tools, async (open) => {
    const { both, pair, patience } = open;
    if (!(await isMine(both.blue, args.migration, tools))) return { left: [] };
    await endAttempt(open, args, tools);
    for (const direction of ['reverse', 'forward'] as const) await dropDirection(both, pair, direction, patience);
    await restoreIdentities(both.blue, args.migration, patience);
    const blueWall = await dropWall(both.blue, args.migration, fencingOf(args, tools.signal));
    const left: string[] = blueWall.left.map((table) => `wall on ${table} of blue`);
    if (await isMine(both.green, args.migration, tools)) {
      const before = await readSchemaState(both.green, args.migration, 'green');
      // Without that note nothing was made on green yet.
      if (before !== null) {
        await dropRelations(both.green, tools.signal);
        await withContext(args, tools, (context) => undoCopy(context, both.blue, both.green));
        left.push(...(await dropAdded(both.green, before)).map((one) => `${one} of green`));
      }
      await forgetGreen(both.green, args.migration);
      await closeGuard(both.green, args.migration);
    }
    if (blueWall.left.length === 0) await closeGuard(both.blue, args.migration);
    return { left };
  });

/** As `takeBackPair`, and the status of the name in both databases. */
export async function abandonPair(args: PairArgs & CopyArgs, tools: Tools): Promise<void> {
  await takeBackPair(args, tools);
  await withPair(args, tools, async ({ both }) => {
    for (const session of [both.green, both.blue])
      if (await isMine(session, args.migration, tools)) await setStatus(session, args.migration, 'rolled_back');
  });
}

/** CONNECT as it was; identities of tables that are gone need not be put back. */
async function forgetGreen(session: Session, migration: string): Promise<void> {
  const row = await readGuard(session, migration);
  if (row === null) return;
  const restored = await restoreConnect(session, row);
  await updateGuard(session, restored, { patch: { identities: [] } });
}

/** The way back is given up: from here on green stands alone. */
export const decommission = (args: PairArgs, tools: Tools): Promise<Decommissioned> =>
  withPair(args, tools, async ({ both, pair, patience }) => {
    const row = await readGuard(both.green, args.migration);
    if (row !== null && !row.writable) throw new Problem('NotNow', 'green does not take the writes');
    for (const direction of ['reverse', 'forward'] as const) await dropDirection(both, pair, direction, patience);
    await restoreIdentities(both.green, args.migration, patience);
    await settle(both.green, args.migration, fencingOf(args, tools.signal));
    await restoreIdentities(both.blue, args.migration, patience);
    await completeAtContract(both.green, args.migration);
    await closeGuard(both.green, args.migration);
    return {
      blue: 'kept as it was at the switch and what came back since; its wall and its closed doors stay, so that nobody writes into the past',
    };
  });

/** A database that is not the one to be removed: of the same server, with the same login. */
function beside({ name, url }: Target, database: string): Target {
  const parsed = new URL(url);
  parsed.pathname = `/${encodeURIComponent(database)}`;
  return target(name, parsed.toString());
}

export async function removeBlue(args: PairArgs, tools: Tools): Promise<Decommissioned> {
  const blue = resolveTarget(tools.deps.config, args.pair.blue);
  const { where } = addressOf(blue);
  const name = where.slice(where.lastIndexOf('/') + 1);
  const renamed = args.pair.decommission === 'rename' ? `${name.slice(0, 50)}_old` : null;
  let session: Session | null = null;
  for (const database of ['postgres', 'template1']) {
    if (database === name) continue;
    session = await openSession(beside(blue, database), { purpose: 'decommission' }).catch(() => null);
    if (session !== null) break;
  }
  if (session === null)
    throw new Problem('Unreachable', `${blue.name}: no other database of its server can be connected to`);
  try {
    await removeDatabase(session, name, renamed);
  } finally {
    await session.close();
  }
  return { blue: renamed === null ? 'dropped' : `renamed to ${renamed}` };
}

export async function finishGreen(
  args: PairArgs & { readonly status: 'completed' | 'failed' | 'rolled_back' },
  tools: Tools,
): Promise<void> {
  const session = await openSession(resolveTarget(tools.deps.config, args.pair.green), { purpose: 'finish' });
  try {
    if (!(await isMine(session, args.migration, tools))) return;
    if (args.status === 'completed') await completeAtContract(session, args.migration);
    else await setStatus(session, args.migration, args.status);
  } finally {
    await session.close();
  }
}
