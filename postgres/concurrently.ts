/**
 * CREATE and DROP INDEX CONCURRENTLY, and statements that refuse transactions. Keeps true: two attempts never build at once (the step's
 * lock), an invalid index never stays, a valid one is believed only when its definition is the expected one. These statements wait without
 * a lock_timeout: their mode, SHARE UPDATE EXCLUSIVE, stops neither readers nor writers, in the queue or out of it; the observer counts
 * the waiting against the lock budget and cancels. Two of them on one table are a deadlock: the second waits for the table's lock with a
 * snapshot, and the first waits for that snapshot to end. So ours queue for each table outside of Postgres' lock queue.
 */
import { Problem } from '../plan/model/errors';
import type { AutocommitRun, CreateIndexRun, DropIndexRun, RelationName } from '../plan/model/steps';
import { crashPoint } from './crashPoints';
import { duplicateRows } from './duplicates';
import { underStepLock } from './fence';
import { relation } from './ident';
import type { FoundIndex } from './indexes';
import { expectedDefinition, findIndex, findReindexLeftovers, normalised } from './indexes';
import { climb } from './ladder';
import { writeLocks } from './locks';
import { observed } from './observe';
import type { Session } from './session';
import { sqlstate } from './toProblem';
import type { Work, WorkResult } from './work';
import { checkSignal, NOTHING } from './work';

const CLEANUP_MS = 5_000;

/** Builds the index. Throws DuplicateRows (keys listed), Drift (the name is somebody else's), LockBudgetSpent. */
export async function runCreateIndex(work: Work, run: CreateIndexRun): Promise<WorkResult> {
  const target = { relation: run.table, mode: 'SHARE UPDATE EXCLUSIVE' as const };
  return climb(work, [target], () =>
    underStepLock(work.session, work.attempt, work.context.signal, () =>
      aloneOn(work.session, run.table, async () => {
        const found = await findIndex(work.session, run.index);
        if (found && (await isOurs(work, run, found))) return NOTHING;
        await dropLeftovers(work, run.index, found);
        crashPoint('index.before', work.context.step.id);
        return build(work, run);
      }),
    ),
  );
}

const TABLE_KEY = `pg_catalog.hashtextextended('pgshift/concurrently/' || pg_catalog.to_regclass($1)::oid, 0)`;

/** Tried, never waited for: a waiting session has a snapshot. Throws LockTimeout, so that the ladder tries again. */
async function aloneOn<T>(session: Session, table: RelationName, once: () => Promise<T>): Promise<T> {
  const name = [relation(table)];
  const row = await session.one<{ got: boolean | null }>(
    `SELECT pg_catalog.pg_try_advisory_lock(${TABLE_KEY}) AS got`,
    name,
  );
  if (row?.got === false)
    throw new Problem('LockTimeout', `${session.name}: another run works on an index of ${relation(table)}`);
  try {
    return await once();
  } finally {
    if (row?.got && !session.lost)
      await session.run(`SELECT pg_catalog.pg_advisory_unlock(${TABLE_KEY})`, name).catch(() => undefined);
  }
}

/** True = the index is there, whole and as asked; false = something invalid to drop. */
async function isOurs(work: Work, run: CreateIndexRun, found: FoundIndex): Promise<boolean> {
  const name = relation(run.index);
  if (found.kind !== 'i') throw new Problem('Drift', `${name} exists and is not a plain index`);
  if (found.table.name !== run.table.name || found.table.schema !== run.table.schema)
    throw new Problem('Drift', `${name} exists on another table, ${relation(found.table)}`);
  if (!found.valid) return false;
  const expected = await expectedDefinition(work.session, run);
  if (expected === null || expected !== normalised(found.definition))
    throw new Problem('Drift', `${name} exists with another definition than was asked for`, {
      details: { index: name, found: found.definition, expected },
      hint: 'drop or rename it, or ask for another name, then plan again',
    });
  return true;
}

async function dropLeftovers(work: Work, index: RelationName, found: FoundIndex | undefined): Promise<void> {
  const leftovers = await findReindexLeftovers(work.session, index);
  const names = [...(found ? [index] : []), ...leftovers.map(({ name }) => ({ schema: index.schema, name }))];
  for (const name of names) {
    work.context.log('info', 'an invalid index is dropped and built again', { index: relation(name) });
    await observed(work, () => work.session.run(`DROP INDEX CONCURRENTLY IF EXISTS ${relation(name)}`));
  }
}

async function build(work: Work, run: CreateIndexRun): Promise<WorkResult> {
  try {
    const { locks } = await observed(work, () => work.session.run(run.statement), 'index.building');
    crashPoint('index.built', work.context.step.id);
    const built = await findIndex(work.session, run.index);
    if (!built?.valid) throw new Problem('StepFailed', `${relation(run.index)} was built and is not valid`);
    await writeLocks(work.session, work, locks);
    return { ...NOTHING, locks };
  } catch (error) {
    // Failed, timed out or cancelled: what is left is invalid and costs every write, so it goes at once.
    const left = work.session.lost ? undefined : await findIndex(work.session, run.index);
    const duplicate = sqlstate(error) === '23505' && left ? await duplicatesOf(work, run, left) : undefined;
    if (left && !left.valid && left.kind === 'i') await dropSoon(work, run.index);
    checkSignal(work.context.signal);
    throw duplicate ?? error;
  }
}

/** Not at any price: whoever stopped the build stops the drop too. What stays is dropped by the next attempt or by the way back. */
async function dropSoon(work: Work, index: RelationName): Promise<void> {
  await work.session.run(`SET lock_timeout = '${CLEANUP_MS}ms'`);
  await work.session.run(`DROP INDEX CONCURRENTLY IF EXISTS ${relation(index)}`).catch(() => undefined);
  if (!work.session.lost) await work.session.run(`SET lock_timeout = 0`);
}

const duplicatesOf = (work: Work, run: CreateIndexRun, left: FoundIndex): Promise<Problem> =>
  duplicateRows(work, {
    table: run.table,
    columns: left.columns,
    where: left.predicate,
    nullsNotDistinct: left.nullsNotDistinct,
  });

/** Drops the index; it is right when it is gone already, or when a killed drop left it invalid. */
export async function runDropIndex(work: Work, run: DropIndexRun): Promise<WorkResult> {
  const first = await findIndex(work.observer, run.index);
  const targets = first ? [{ relation: first.table, mode: 'SHARE UPDATE EXCLUSIVE' as const }] : [];
  const drop = async (): Promise<WorkResult> => {
    const found = await findIndex(work.session, run.index);
    const names = [...(found ? [run.index] : []), ...(await leftoverNames(work, run.index))];
    let locks: WorkResult['locks'] = [];
    crashPoint('index.before', work.context.step.id);
    for (const name of names) {
      const statement = `DROP INDEX CONCURRENTLY IF EXISTS ${relation(name)}`;
      locks = [...locks, ...(await observed(work, () => work.session.run(statement))).locks];
    }
    await writeLocks(work.session, work, locks);
    return { ...NOTHING, locks };
  };
  return climb(work, targets, () =>
    underStepLock(work.session, work.attempt, work.context.signal, () =>
      first ? aloneOn(work.session, first.table, drop) : drop(),
    ),
  );
}

const leftoverNames = async (work: Work, index: RelationName): Promise<RelationName[]> =>
  (await findReindexLeftovers(work.session, index)).map(({ name }) => ({ schema: index.schema, name }));

/** A statement that refuses transactions and that the plan named under `allow`. After a crash it may run twice. */
export async function runAutocommit(work: Work, run: AutocommitRun): Promise<WorkResult> {
  return climb(work, [], () =>
    underStepLock(work.session, work.attempt, work.context.signal, async () => {
      const { locks } = await observed(work, () => work.session.run(run.statement));
      await writeLocks(work.session, work, locks);
      return { ...NOTHING, locks };
    }),
  );
}
