/**
 * Which rows a merge (insert or upsert) put into a table that may hold others: `loaded` has the key, the hash of the row as the source has it, the
 * transaction that wrote it and whether it is new; `kept` has what an upsert was about to overwrite. Keeps true: both are written by the
 * transaction that writes the rows; the way back touches a row only while it is the version that we wrote.
 */
import { createHash } from 'node:crypto';
import { ident, identList, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { Problem } from '../../plan/model/errors';
import type { RelationName } from '../../plan/model/steps';
import type { Spec } from './spec';
import { STAGE } from './spec';

/** What is needed to find the rows again without the plan. */
export interface Tracked {
  readonly target: RelationName;
  readonly conflict: readonly string[];
  readonly columns: readonly string[];
  /** Those that an upsert overwrites: neither the key nor what only the table itself may say. */
  readonly set: readonly string[];
}

export const trackedOf = ({ target, conflict, columns }: Spec): Tracked => ({
  target,
  conflict: conflict ?? [],
  columns: columns.map(({ name }) => name),
  set: columns
    .filter(({ name, to }) => conflict?.includes(name) !== true && to.identity !== 'a')
    .map(({ name }) => name),
});

/** Of one migration and one table of the target; several source tables may share them. */
export function auxiliary(migration: string, target: RelationName): { loaded: string; kept: string } {
  const id = createHash('md5')
    .update(JSON.stringify([migration, target.schema, target.name]))
    .digest('hex')
    .slice(0, 16);
  return {
    loaded: relation({ schema: 'pgshift', name: `_pgshift_loaded_${id}` }),
    kept: relation({ schema: 'pgshift', name: `_pgshift_merged_${id}` }),
  };
}

const keysOf = (count: number): string[] => Array.from({ length: count }, (_, n) => `k${n}`);

/** `l.k0 = t.id AND ...` */
const onKey = (tracked: Tracked, l: string, t: string): string =>
  tracked.conflict.map((name, n) => `${l}.k${n} = ${t}.${ident(name)}`).join(' AND ');
const sameKey = (tracked: Tracked, a: string, b: string): string =>
  tracked.conflict.map((name) => `${a}.${ident(name)} = ${b}.${ident(name)}`).join(' AND ');

/** Makes both tables unless they are there. */
export async function makeTracking(session: Session, migration: string, tracked: Tracked): Promise<void> {
  const { loaded, kept } = auxiliary(migration, tracked.target);
  const there = await session.one(`SELECT 1 AS one WHERE to_regclass($1) IS NOT NULL`, [loaded]);
  if (there) return;
  const keys = tracked.conflict.map((name, n) => `t.${ident(name)} AS k${n}`).join(', ');
  const from = `FROM ${relation(tracked.target)} AS t LIMIT 0`;
  await inTransaction(session, async () => {
    // Two tables that go to one may begin at once.
    await session.run(`SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, [loaded]);
    if (await session.one(`SELECT 1 AS one WHERE to_regclass($1) IS NOT NULL`, [loaded])) return;
    await session.run(
      `CREATE TABLE ${loaded} AS SELECT ${keys}, 0::int4 AS no, 0::int8 AS h, '0'::xid AS x, true AS fresh ${from}`,
    );
    await session.run(`ALTER TABLE ${loaded} ADD PRIMARY KEY (${keysOf(tracked.conflict.length).join(', ')})`);
    await session.run(
      `CREATE TABLE ${kept} AS SELECT ${tracked.columns.map((name) => `t.${ident(name)}`).join(', ')} ${from}`,
    );
    await session.run(`ALTER TABLE ${kept} ADD PRIMARY KEY (${identList(tracked.conflict)})`);
  });
}

/** Of the rows of the stage that come under one key all but one are not loaded: an upsert takes the last, an insert that ignores the first. */
export async function markSuperseded(session: Session, spec: Spec): Promise<number> {
  if (spec.load.onConflict === 'fail' || spec.conflict === null) return 0;
  const keys = spec.conflict.map((name) => putOf(spec, name, 'd')).join(', ');
  const direction = spec.load.onConflict === 'update' ? 'DESC' : 'ASC';
  return session.run(
    `UPDATE ${STAGE} AS s SET r = -1 FROM (
       SELECT d.ctid AS place, row_number() OVER (PARTITION BY ${keys} ORDER BY d.ctid ${direction}) AS n FROM ${STAGE} AS d WHERE d.r IS NULL) AS x
      WHERE x.n > 1 AND s.ctid = x.place`,
  );
}

const putOf = (spec: Spec, name: string, alias: string): string => {
  const column = spec.columns.find((one) => one.name === name);
  return column ? column.put.replace(/^s\./, `${alias}.`) : 'NULL';
};

/** Puts rows of the stage into the target and writes them down. Answers how many were put. `some` = further condition over s. */
export async function putTracked(
  session: Session,
  { spec, migration, no }: { readonly spec: Spec; readonly migration: string; readonly no: number },
  some: string,
): Promise<number> {
  const tracked = trackedOf(spec);
  const { loaded, kept } = auxiliary(migration, spec.target);
  const rows = `s.r IS NULL AND ${some}`;
  const target = relation(spec.target);
  const stageKey = (other: (n: number, name: string) => string): string =>
    tracked.conflict.map((name, n) => `${putOf(spec, name, 's')} = ${other(n, name)}`).join(' AND ');
  const update = spec.load.onConflict === 'update';
  if (update) {
    // A partitioned table cannot tell which rows an upsert updated; then nobody else may write while it runs.
    if (spec.targetPartitioned) await session.run(`LOCK TABLE ${target} IN SHARE ROW EXCLUSIVE MODE`);
    await session.run(
      `INSERT INTO ${kept} SELECT ${tracked.columns.map((name) => `t.${ident(name)}`).join(', ')} FROM ${target} AS t
         JOIN ${STAGE} AS s ON ${stageKey((_, name) => `t.${ident(name)}`)}
        WHERE ${rows} AND NOT EXISTS (SELECT 1 FROM ${loaded} AS l WHERE ${onKey(tracked, 'l', 't')}) FOR UPDATE OF t
       ON CONFLICT DO NOTHING`,
    );
  }
  const set = tracked.set.map((name) => `${ident(name)} = excluded.${ident(name)}`);
  const first = ident(tracked.conflict[0] ?? '');
  const action =
    spec.load.onConflict === 'fail'
      ? ''
      : `ON CONFLICT (${identList(tracked.conflict)}) DO ${
          update ? `UPDATE SET ${set.length > 0 ? set.join(', ') : `${first} = excluded.${first}`}` : 'NOTHING'
        }`;
  const was = update && !spec.targetPartitioned ? `t.xmax::text <> '0'` : 'false';
  const put = await session.one<{ put: number; strange: number }>(
    `WITH put AS (
       INSERT INTO ${target} AS t (${identList(tracked.columns)}) OVERRIDING SYSTEM VALUE
       SELECT ${spec.columns.map((column) => column.put).join(', ')} FROM ${STAGE} AS s WHERE ${rows} ${action}
       RETURNING ${tracked.conflict.map((name, n) => `t.${ident(name)} AS k${n}`).join(', ')}, ${was} AS was),
     judged AS (
       SELECT p.*, EXISTS (SELECT 1 FROM ${kept} AS k WHERE ${onKey(tracked, 'p', 'k')}) AS kept,
              EXISTS (SELECT 1 FROM ${loaded} AS l WHERE ${keysOf(tracked.conflict.length)
                .map((k) => `l.${k} = p.${k}`)
                .join(' AND ')}) AS ours FROM put AS p),
     noted AS (
       INSERT INTO ${loaded} AS l SELECT ${keysOf(tracked.conflict.length)
         .map((k) => `j.${k}`)
         .join(', ')}, ${Math.round(no)}, s.h, NULL::xid, NOT j.kept
         FROM judged AS j JOIN ${STAGE} AS s ON ${rows} AND ${stageKey((n) => `j.k${n}`)}
       ON CONFLICT (${keysOf(tracked.conflict.length).join(', ')}) DO UPDATE SET h = excluded.h, x = NULL, no = excluded.no RETURNING 1)
     SELECT (SELECT count(*) FROM noted)::float8 AS put, (SELECT count(*) FROM judged AS j WHERE j.was AND NOT j.kept AND NOT j.ours)::float8 AS strange`,
  );
  if ((put?.strange ?? 0) > 0)
    throw new Problem('LockTimeout', `${session.name}: somebody wrote a row with the same key at this very moment`);
  // By the rows of this stage: what was loaded before is not gone through again.
  await session.run(
    `UPDATE ${loaded} AS l SET x = t.xmin FROM ${target} AS t, ${STAGE} AS s
      WHERE ${rows} AND ${stageKey((n) => `l.k${n}`)} AND ${stageKey((_, name) => `t.${ident(name)}`)} AND l.x IS NULL`,
  );
  return put?.put ?? 0;
}

/** What the source said of the rows that were put, as they stand in `loaded` at the end. */
export const expectedOf = (session: Session, migration: string, no: number, tracked: Tracked) =>
  session.one<{ rows: number; sum: string }>(
    `SELECT count(*)::float8 AS rows, coalesce(sum(l.h), 0)::text AS sum FROM ${auxiliary(migration, tracked.target).loaded} AS l WHERE l.no = $1`,
    [no],
  );

export interface TrackedFound {
  readonly rows: number;
  readonly sum: string;
  /** Ours still, and not as they should be. */
  readonly differing: number;
  /** Written or deleted by somebody else since: nothing can be said of them. */
  readonly since: number;
}

/** Looks every row up by its key. `hash` is over t. */
export async function compareTracked(
  session: Session,
  { migration, no, tracked, hash }: { migration: string; no: number; tracked: Tracked; hash: string },
): Promise<TrackedFound> {
  const { loaded } = auxiliary(migration, tracked.target);
  const row = await session.one<TrackedFound & Record<string, unknown>>(
    `SELECT count(*) FILTER (WHERE u.ours)::float8 AS rows, coalesce(sum(u.now) FILTER (WHERE u.ours), 0)::text AS sum,
            count(*) FILTER (WHERE u.ours AND u.now IS DISTINCT FROM u.h)::float8 AS differing, count(*) FILTER (WHERE NOT u.ours)::float8 AS since
       FROM (SELECT l.h, ${hash} AS now, t.xmin IS NOT NULL AND t.xmin = l.x AS ours
               FROM ${loaded} AS l LEFT JOIN ${relation(tracked.target)} AS t ON ${onKey(tracked, 'l', 't')} WHERE l.no = $1) AS u`,
    [no],
  );
  return row ?? { rows: 0, sum: '0', differing: 0, since: 0 };
}

/**
 * Takes rows back: what was overwritten gets its old values, what is new goes; a row that somebody wrote since stays as it is. `no` = those of one
 * table of the source; null = all. Idempotent. Answers how many stay.
 */
export async function undoTracked(
  session: Session,
  migration: string,
  tracked: Tracked,
  no: number | null,
): Promise<number> {
  const { loaded, kept } = auxiliary(migration, tracked.target);
  if (!(await session.one(`SELECT 1 AS one WHERE to_regclass($1) IS NOT NULL`, [loaded]))) return 0;
  const which = no === null ? 'true' : `l.no = ${Math.round(no)}`;
  const target = relation(tracked.target);
  const others = tracked.set;
  const ours = `${which} AND ${onKey(tracked, 'l', 't')} AND t.xmin = l.x`;
  return inTransaction(session, async () => {
    if (others.length > 0)
      await session.run(
        `UPDATE ${target} AS t SET ${others.map((name) => `${ident(name)} = k.${ident(name)}`).join(', ')}
           FROM ${loaded} AS l, ${kept} AS k WHERE ${ours} AND NOT l.fresh AND ${onKey(tracked, 'l', 'k')}`,
      );
    await session.run(`DELETE FROM ${target} AS t USING ${loaded} AS l WHERE ${ours} AND l.fresh`);
    const left = await session.one<{ n: number }>(
      `SELECT count(*)::float8 AS n FROM ${loaded} AS l JOIN ${target} AS t ON ${onKey(tracked, 'l', 't')}
        WHERE ${which} AND NOT (NOT l.fresh AND EXISTS (SELECT 1 FROM ${kept} AS k WHERE ${sameKey(tracked, 'k', 't')} AND ${
          others.length === 0
            ? 'true'
            : `ROW(${others.map((name) => `t.${ident(name)}`).join(', ')})::text = ROW(${others.map((name) => `k.${ident(name)}`).join(', ')})::text`
        }))`,
    );
    await session.run(`DELETE FROM ${kept} AS k USING ${loaded} AS l WHERE ${which} AND ${onKey(tracked, 'l', 'k')}`);
    await session.run(`DELETE FROM ${loaded} AS l WHERE ${which}`);
    return left?.n ?? 0;
  });
}

/** When the rows are proven, or taken back. */
export async function dropTracking(session: Session, migration: string, target: RelationName): Promise<void> {
  const { loaded, kept } = auxiliary(migration, target);
  await session.run(`DROP TABLE IF EXISTS ${loaded}, ${kept}`);
}

/** Of every table of the run. */
export async function dropAllTracking(session: Session, migration: string): Promise<void> {
  const tables = await session.rows<RelationName & Record<string, unknown>>(
    `SELECT DISTINCT t.proof->'target'->>'schema' AS schema, t.proof->'target'->>'name' AS name FROM pgshift.copy_tables AS t
      WHERE t.migration_name = $1 AND (t.proof->>'tracked')::boolean`,
    [migration],
  );
  for (const table of tables) await dropTracking(session, migration, table);
}
