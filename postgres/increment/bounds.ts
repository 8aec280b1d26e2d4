/**
 * Up to which value may rows be read, so that none is missed? A transaction that is open while the greatest value is read may commit a smaller one
 * later: it drew from the sequence (or took its now()) before. So: read the greatest value, THEN note which transactions are open, and use the
 * value only when all of them have ended. Every row at or below it is then to be seen, for ever: who begins later draws a greater value.
 * That holds for a column that grows with the time at which a transaction takes it: sequences (CACHE 1), now(), clock_timestamp(). Values that clients
 * make up, or draw long before they insert, are not monotone; deletes leave no trace in any column.
 * Who begins later may draw the same value, where it is coarse (a date, a second): of the rows AT a bound those are read again that were written since.
 */
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { parseColumnName } from '../../plan/model/tableNames';
import { ident, relation } from '../ident';
import { pause } from '../ladder';
import type { Session } from '../session';
import { KEY } from '../stream/plan';

/** Transactions by their virtual ids, which are used again after a restart of the server. */
export interface Open {
  readonly serverStart: string;
  readonly ids: readonly string[];
}

export interface Observed {
  /** By table, in the order given; null = it has no row. */
  readonly bounds: readonly (string | null)[];
  readonly open: Open;
}

/** Of this database, but those of pgshift itself, which write nothing there. */
const OPEN = `
SELECT pg_postmaster_start_time()::text AS start,
       coalesce((SELECT jsonb_agg(l.virtualtransaction) FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
          WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted AND a.pid <> pg_backend_pid()
            AND a.datname = current_database() AND coalesce(a.backend_type, '') <> 'autovacuum worker'
            AND coalesce(a.application_name, '') NOT LIKE 'pgshift/%'), '[]'::jsonb) AS ids,
       (SELECT count(*)::int FROM pg_prepared_xacts AS p WHERE p.database = current_database()) AS prepared`;

interface Row extends Record<string, unknown> {
  readonly start: string;
  readonly ids: string[];
  readonly prepared: number;
}

export async function observe(source: Session, tables: readonly RelationName[], column: string): Promise<Observed> {
  const bounds: (string | null)[] = [];
  for (const table of tables) {
    const row = await source.one<{ bound: string | null }>(
      `SELECT max(t.${ident(column)})::text AS bound FROM ONLY ${relation(table)} AS t`,
    );
    bounds.push(row?.bound ?? null);
  }
  // After the values: whoever may still commit a smaller one is open now, or had committed before.
  const row = await source.one<Row>(OPEN);
  return { bounds, open: { serverStart: row?.start ?? '', ids: row?.ids ?? [] } };
}

/** Has every one of them ended? A prepared transaction is nobody's session, and open: it counts as one of them. */
export async function haveEnded(source: Session, { serverStart, ids }: Open): Promise<boolean> {
  const row = await source.one<Row>(OPEN);
  if (!row || row.prepared > 0) return false;
  return row.start !== serverStart || !ids.some((id) => row.ids.includes(id));
}

export interface Now {
  /** Whatever committed before this transaction began is to be seen. */
  readonly seen: string;
  /** The next transaction's number, with its epoch. */
  readonly next: string;
}

/** Asked before rows are read: what is to be seen now is to be seen by them. */
export async function writtenSoFar(source: Session): Promise<Now> {
  const now = await source.one<Now & Record<string, unknown>>(
    `SELECT pg_snapshot_xmin(s.s)::text AS seen, pg_snapshot_xmax(s.s)::text AS next FROM pg_current_snapshot() AS s(s)`,
  );
  return now ?? { seen: '0', next: '0' };
}

const EPOCH = 2n ** 32n;

/** Over the alias: written by a transaction from `seen` on. A row holds 32 bits of that number; one that is taken for newer is read twice, no more. */
export function writtenSince(alias: string, seen: string, { next }: Now): string {
  const [epoch, low] = [BigInt(next) / EPOCH, BigInt(next) % EPOCH];
  const xmin = `${alias}.xmin::text::bigint`;
  return `${xmin} + CASE WHEN ${xmin} > ${low} THEN ${(epoch - 1n) * EPOCH} ELSE ${epoch * EPOCH} END >= ${BigInt(seen)}`;
}

const POLL_MS = 50;

/** False = they were not all over after `patienceMs`. */
export async function waitEnded(
  source: Session,
  open: Open,
  patienceMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  for (const until = performance.now() + patienceMs; ;) {
    if (await haveEnded(source, open)) return true;
    if (performance.now() > until) return false;
    await pause(POLL_MS, signal);
  }
}

/** Each table must have the column, filled, and a key to find its rows by. Throws PreflightFailed. */
export async function checkIncrement(
  source: Session,
  chosen: readonly (RelationName & { readonly oid: string })[],
  text: string,
): Promise<void> {
  const column = parseColumnName(text) ?? text;
  const facts = await source.rows<{ oid: string; filled: boolean; ordered: boolean }>(
    `SELECT a.attrelid::text AS oid, a.attnotnull AS filled,
            EXISTS (SELECT 1 FROM pg_opclass AS c JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
                     WHERE c.opcdefault AND c.opcintype = a.atttypid) AS ordered
       FROM pg_attribute AS a WHERE a.attrelid = ANY ($1::oid[]) AND a.attname = $2 AND NOT a.attisdropped`,
    [chosen.map(({ oid }) => oid), column],
  );
  const byOid = new Map(facts.map((fact) => [fact.oid, fact]));
  const wrong: string[] = [];
  for (const table of chosen) {
    const fact = byOid.get(table.oid);
    const key = await source.one(KEY, [table.oid]);
    const what = !fact
      ? `has no column ${column}`
      : !fact.filled
        ? `${column} may be NULL: such rows would never be read`
        : !fact.ordered
          ? `${column} has no order`
          : !key
            ? 'has no key that tells its rows apart'
            : null;
    if (what !== null) wrong.push(`${shownRelation(table)}: ${what}`);
  }
  if (wrong.length === 0) return;
  throw new Problem('PreflightFailed', `incremental.column: ${wrong.slice(0, 5).join('; ')}`, {
    where: { path: 'incremental.column' },
    hint: 'name a column that every chosen table has, exclude the others, or say  transfer: streaming',
    details: { checks: wrong.slice(0, 50) },
  });
}
