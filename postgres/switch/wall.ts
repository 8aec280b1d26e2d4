/**
 * The wall: a statement trigger on every table of the user's that lets no client write, whoever it is. Keeps true:
 * - ENABLE ORIGIN: replication (session_replication_role = replica) passes, superusers and overriding sessions do not;
 * - it asks the guard row, so that ONE row opens all tables at once and the triggers can be dropped afterwards, at leisure;
 * - it fails closed: without a guard row it raises. Under READ COMMITTED it reads the row as it is now; under a longer snapshot it locks the row's
 *   key, of which `writable` is a part: if that has changed since, it is a serialization failure, so a transaction from before the fence cannot slip
 *   through, and other changes of the row disturb nobody;
 * - it goes up in one transaction that holds SHARE ROW EXCLUSIVE on every table: at its commit every write of before is committed or gone.
 */
import type { RelationName } from '../../plan/model/steps';
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import { describeBlocker, findBlockers } from '../blockers';
import { ident, literal, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { isLockProblem } from '../toProblem';
import { checkSignal } from '../work';
import { askAutovacuumAway } from './clients';
import type { GuardRow } from './guard';
import { updateGuard } from './guard';
import { WALL } from './names';
import { chunks, ofUser, userTables } from './tables';
import type { UserTable } from './tables';

/** What clients are told; drivers know 25006 as "this server takes no writes". */
export const WALL_STATE = '25006';

const FUNCTION = `
CREATE OR REPLACE FUNCTION pgshift.wall() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $wall$
DECLARE
  opened boolean;
  passes text;
BEGIN
  IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
    SELECT g.writable, g.details->>'pass' INTO opened, passes FROM pgshift.guard AS g WHERE g.id = TG_ARGV[0];
  ELSE
    SELECT g.writable, g.details->>'pass' INTO opened, passes FROM pgshift.guard AS g WHERE g.id = TG_ARGV[0] FOR KEY SHARE;
  END IF;
  IF opened THEN
    RETURN NULL;
  END IF;
  IF passes = session_user AND current_setting('application_name') LIKE 'pgshift/%' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'cannot execute % on %.%: this database takes no writes (pgshift)', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = '${WALL_STATE}', HINT = 'The writes go to the other side of a switch; connect again.';
END
$wall$`;

export interface WallOptions {
  /** Role whose own sessions pass; null = nobody. */
  readonly pass: string | null;
  /** Sets the guard row to not writable in the same transaction. */
  readonly close: boolean;
  /** For each try. */
  readonly lockTimeoutMs: number;
  /** For all of them together. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

export interface WallRaised {
  readonly row: GuardRow;
  readonly tables: number;
  /** From the first lock asked for to the commit, of the try that succeeded. */
  readonly ms: number;
  readonly tries: number;
}

/** Makes the function; before the pause, so that nothing has to be compiled in it. */
export async function prepareWall(session: Session): Promise<void> {
  const same = await session.one(
    `SELECT 1 AS one FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = 'pgshift' AND p.proname = 'wall' AND pg_catalog.strpos($1, p.prosrc) > 0`,
    [FUNCTION],
  );
  if (same) return;
  await session.run(`CREATE UNIQUE INDEX IF NOT EXISTS guard_latch ON pgshift.guard (id, writable)`);
  await session.run(FUNCTION);
  await session.run(`REVOKE ALL ON FUNCTION pgshift.wall() FROM PUBLIC`);
}

/**
 * Hangs the triggers, table by table, on a side that takes writes and goes on taking them: the row says so, they let everything through. What hangs
 * already need not be made while clients wait. Best effort: a table that is locked too long is left for the fence. Answers how many are missing.
 */
export async function hangWall(
  session: Session,
  seen: GuardRow,
  options: Pick<WallOptions, 'lockTimeoutMs' | 'deadlineMs' | 'signal'>,
): Promise<number> {
  if (!seen.writable) throw new Problem('NotNow', `${session.name}: is fenced already`);
  await prepareWall(session);
  const until = performance.now() + options.deadlineMs;
  const there = new Map((await standing(session)).map((one) => [one.oid, one]));
  let missing = 0;
  for (const table of await userTables(session)) {
    checkSignal(options.signal);
    const statements = wallSql(table, seen.id, there.get(table.oid));
    if (statements.length === 0) continue;
    missing += 1;
    if (performance.now() >= until) continue;
    await inTransaction(session, async () => {
      await session.run(`SET LOCAL lock_timeout = ${Math.ceil(options.lockTimeoutMs)}`);
      await session.run(statements.join('; '));
    }).then(
      () => (missing -= 1),
      (error: unknown) => {
        if (!isLockProblem(error)) throw error;
      },
    );
  }
  return missing;
}

interface Standing extends Record<string, unknown> {
  readonly oid: string;
  readonly enabled: string;
  readonly id: string;
}

/** Our triggers, by table. `id` is the guard row that they ask. */
const standing = (session: Session): Promise<Standing[]> =>
  session.rows<Standing>(
    `SELECT t.tgrelid::text AS oid, t.tgenabled::text AS enabled,
            pg_catalog.convert_from(pg_catalog.substr(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1), 'UTF8') AS id
       FROM pg_catalog.pg_trigger AS t WHERE t.tgname = $1 AND NOT t.tgisinternal AND t.tgargs <> ''`,
    [WALL],
  );

/**
 * Puts the wall up. Tries until `deadlineMs`; each try waits at most `lockTimeoutMs` for a lock. Throws LockBudgetSpent with who stood in the way,
 * FenceBroken when the guard row is not as it was seen. Right when all or part of it stands already.
 */
export async function raiseWall(session: Session, seen: GuardRow, options: WallOptions): Promise<WallRaised> {
  await prepareWall(session);
  const until = performance.now() + options.deadlineMs;
  for (let tries = 1; ; tries += 1) {
    checkSignal(options.signal);
    const tables = await userTables(session);
    await askAutovacuumAway(session);
    const began = performance.now();
    try {
      const timeout = Math.max(1, Math.min(options.lockTimeoutMs, until - began));
      const done = await inTransaction(session, () => raiseOnce(session, seen, tables, timeout, options));
      return { ...done, ms: performance.now() - began, tries };
    } catch (error) {
      if (!isLockProblem(error) || performance.now() < until) {
        if (isLockProblem(error)) continue;
        throw error;
      }
      throw await named(session, tables, options.deadlineMs);
    }
  }
}

async function named(session: Session, tables: readonly UserTable[], ms: number): Promise<Problem> {
  const targets = tables.slice(0, 500).map((table) => ({ relation: table, mode: 'SHARE ROW EXCLUSIVE' as const }));
  const blockers = await findBlockers(session, targets, [session.pid]);
  const names = blockers.slice(0, 3).map(describeBlocker).join('; ');
  return new Problem(
    'LockBudgetSpent',
    `${session.name}: the wall could not go up within ${Math.round(ms)} ms${names === '' ? '' : `: ${names}`}`,
    { details: { blockers: blockers.slice(0, 10) }, hint: 'end these sessions, or switch in a quieter hour' },
  );
}

async function raiseOnce(
  session: Session,
  seen: GuardRow,
  tables: readonly UserTable[],
  timeoutMs: number,
  { pass, close }: WallOptions,
): Promise<{ row: GuardRow; tables: number }> {
  // It is the position of all that came before: it must be flushed when it is answered. And a frozen worker must not hold every table.
  await session.run(
    `SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = ${Math.ceil(timeoutMs)};
     SET LOCAL idle_in_transaction_session_timeout = 5000`,
  );
  for (const some of chunks(tables)) await session.run(lockSql(some));
  // A table that was made between the list and the locks would stand open.
  const late = (await userTables(session)).filter(({ oid }) => !tables.some((table) => table.oid === oid));
  if (late.length > 0) await session.run(lockSql(late));
  const all = [...tables, ...late];
  // After the tables: a transaction that waits for the row behind our locks would hold us up. Still in the same transaction as the triggers.
  const row = await updateGuard(session, seen, { ...(close ? { writable: false } : {}), patch: { pass } });
  const there = new Map((await standing(session)).map((one) => [one.oid, one]));
  const statements = all.flatMap((table) => wallSql(table, seen.id, there.get(table.oid)));
  for (const some of chunks(statements)) await session.run(some.join(';\n'));
  return { row, tables: all.length };
}

const lockSql = (tables: readonly RelationName[]): string =>
  `LOCK TABLE ${tables.map((table) => `ONLY ${relation(table)}`).join(', ')} IN SHARE ROW EXCLUSIVE MODE`;

function wallSql(table: UserTable, id: string, there: Standing | undefined): string[] {
  const name = relation(table);
  const create =
    `CREATE TRIGGER ${ident(WALL)} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${name} ` +
    `FOR EACH STATEMENT EXECUTE FUNCTION pgshift.wall(${literal(id)})`;
  if (!there) return [create];
  if (there.id !== id) return [`DROP TRIGGER ${ident(WALL)} ON ${name}`, create];
  return there.enabled === 'O' ? [] : [`ALTER TABLE ${name} ENABLE TRIGGER ${ident(WALL)}`];
}

/** Tables without a wall that asks this row: made, attached or meddled with since. Empty = it is whole. */
export async function wallGaps(session: Session, id: string): Promise<string[]> {
  const there = new Map((await standing(session)).map((one) => [one.oid, one]));
  return (await userTables(session))
    .filter(({ oid }) => there.get(oid)?.enabled !== 'O' || there.get(oid)?.id !== id)
    .map(shownRelation);
}

export interface WallDropped {
  readonly dropped: number;
  /** Tables on which the trigger still stands: locked by somebody. Harmless while the guard row says writable; drop again later. */
  readonly left: readonly string[];
}

/**
 * Takes the triggers away, table by table, each under a short lock_timeout: DROP TRIGGER wants ACCESS EXCLUSIVE, and clients are at work again.
 * Only when the guard row says writable, or is gone (`force`). Idempotent.
 */
export async function dropWall(
  session: Session,
  id: string,
  options: Pick<WallOptions, 'lockTimeoutMs' | 'deadlineMs' | 'signal'>,
): Promise<WallDropped> {
  const until = performance.now() + options.deadlineMs;
  let dropped = 0;
  for (;;) {
    const left = await wallTables(session, id);
    for (const table of left) {
      checkSignal(options.signal);
      try {
        await inTransaction(session, async () => {
          await session.run(`SET LOCAL lock_timeout = ${Math.ceil(options.lockTimeoutMs)}`);
          await session.run(`DROP TRIGGER IF EXISTS ${ident(WALL)} ON ${relation(table)}`);
        });
        dropped += 1;
      } catch (error) {
        if (!isLockProblem(error)) throw error;
      }
      if (performance.now() >= until) break;
    }
    const rest = await wallTables(session, id);
    if (rest.length === 0 || performance.now() >= until) return { dropped, left: rest.map(shownRelation) };
  }
}

const wallTables = (session: Session, id: string): Promise<(RelationName & Record<string, unknown>)[]> =>
  session.rows<RelationName & Record<string, unknown>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name
       FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE t.tgname = $1 AND t.tgparentid = 0 AND c.relkind IN ('r', 'p')
        AND pg_catalog.substr(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1) = pg_catalog.convert_to($2, 'UTF8')
      ORDER BY 1, 2`,
    [WALL, id],
  );

/** Tables of the user's on which a wall stands, whosever it is. */
export const walledTables = async (session: Session): Promise<number> =>
  Number(
    (
      await session.one<{ n: string }>(
        `SELECT count(*)::text AS n FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE t.tgname = $1 AND ${ofUser('c', 'n')}`,
        [WALL],
      )
    )?.n ?? 0,
  );
