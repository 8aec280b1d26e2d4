/**
 * The sample databases beside the repository (`shared/data`, or PGSHIFT_TEST_DATA): real schemas that nobody here designed. Each says how clients write
 * to its own tables (inserts in transactions, updates, deletes, rows that change their partition), and which of those writes are there. Keeps true: a
 * write that was acknowledged is one line, and `written` counts each line in the rows themselves, so that a lost, an undone and a doubled one are seen.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { PoolClient } from 'pg';
import { loadDump } from '../../client/demo/dump';
import { environment } from '../../postgres/backup';
import { target } from '../../postgres/types';
import { findPostgresBin } from '../../worker/embedded/tools';
import type { Ledger, Writable } from './blueGreen';
import type { FreshDatabase } from './database';

export const DATA = process.env.PGSHIFT_TEST_DATA ?? resolve(__dirname, '../../../shared/data');

export type RealName = 'pagila' | 'chinook';
export const fileOf = (name: RealName): string => join(DATA, name, `${name}.sql`);
export const hasReal = (name: RealName): boolean => existsSync(fileOf(name));

/** The nth write of one client: the line that is acknowledged, or null when there is nothing more to write. */
type Write = (pool: Writable, client: number, n: number) => Promise<string | null>;

export interface RealDatabase {
  readonly name: RealName;
  /** As our own proof counts them: partitions under their root. */
  readonly tables: number;
  /** What has rows to be read: partitions, not what is partitioned, and materialized views. */
  readonly digests: number;
  /** Client c does kind c modulo their number. */
  readonly writes: readonly Write[];
  /** SELECT line, how often it is there. */
  readonly written: string;
}

async function inTransaction<T>(pool: Writable, body: (client: PoolClient) => Promise<T>): Promise<T> {
  const held = await pool.connect();
  let broken = true;
  try {
    await held.query('BEGIN');
    const done = await body(held);
    await held.query('COMMIT');
    broken = false;
    return done;
  } finally {
    held.release(broken); // nobody else finds a transaction that is half done
  }
}

const oneOf = async (pool: Pick<Writable, 'query'>, sql: string, values: unknown[] = []): Promise<string | null> =>
  (await pool.query<{ line: string }>(sql, values)).rows[0]?.line ?? null;

const PAGILA: RealDatabase = {
  name: 'pagila',
  tables: 15,
  digests: 22,
  writes: [
    // A rental and its payment, which goes to a partition.
    (pool) =>
      inTransaction(pool, async (held) => {
        const { rows } = await held.query<{ id: number }>(
          `INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id) VALUES (clock_timestamp(), 1, 1, 1) RETURNING rental_id AS id`,
        );
        await held.query(
          `INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) VALUES (1, 1, $1, 0, '2022-03-10 12:00+00')`,
          [rows[0]?.id],
        );
        return `rental ${rows[0]?.id}`;
      }),
    // From one partition to another: a DELETE and an INSERT in the WAL.
    (pool, _, n) =>
      oneOf(
        pool,
        `UPDATE payment SET payment_date = '2022-07-15 12:00+00' WHERE payment_id = $1 RETURNING 'moved ' || payment_id AS line`,
        [16_050 + n],
      ),
    // An array, under a trigger that makes a tsvector and one that sets the time.
    (pool, client, n) =>
      oneOf(
        pool,
        `UPDATE film SET special_features = special_features || $2::text WHERE film_id = $1 RETURNING 'film ' || $2::text AS line`,
        [1 + (n % 1_000), `${client}/${n}`],
      ),
    (pool, _, n) =>
      oneOf(
        pool,
        `WITH gone AS (DELETE FROM film_actor WHERE actor_id = $1 RETURNING actor_id) SELECT DISTINCT 'gone ' || actor_id AS line FROM gone`,
        [1 + n],
      ),
  ],
  written: `
    SELECT 'rental ' || r.rental_id AS line, count(p.payment_id)::int AS n FROM rental AS r LEFT JOIN payment AS p ON p.rental_id = r.rental_id
     WHERE r.rental_id > 16049 GROUP BY r.rental_id
    UNION ALL SELECT 'moved ' || payment_id, count(*)::int FROM payment WHERE payment_date = '2022-07-15 12:00+00' GROUP BY payment_id
    UNION ALL SELECT 'film ' || f.mark, count(*)::int FROM film, unnest(special_features) AS f (mark) WHERE f.mark ~ '^[0-9]+/[0-9]+$' GROUP BY f.mark
    UNION ALL SELECT 'gone ' || a.actor_id, 1 FROM actor AS a WHERE NOT EXISTS (SELECT 1 FROM film_actor AS f WHERE f.actor_id = a.actor_id)`,
};

const CHINOOK: RealDatabase = {
  name: 'chinook',
  tables: 11,
  digests: 11,
  writes: [
    (pool) =>
      inTransaction(pool, async (held) => {
        const { rows } = await held.query<{ id: number }>(
          `INSERT INTO invoice (customer_id, invoice_date, billing_city, total) VALUES (1, '2026-01-01', 'Zürich', 1.98) RETURNING invoice_id AS id`,
        );
        await held.query(
          `INSERT INTO invoice_line (invoice_id, track_id, unit_price, quantity) SELECT $1, t, 0.99, 1 FROM generate_series(1, 2) AS t`,
          [rows[0]?.id],
        );
        return `invoice ${rows[0]?.id}`;
      }),
    (pool, client, n) =>
      oneOf(
        pool,
        `UPDATE track SET composer = $2 WHERE track_id = $1 RETURNING 'track ' || track_id || ' ' || composer AS line`,
        [1 + n, `${client}/${n}`],
      ),
    // Playlists 1 and 8 are the same when they are loaded.
    (pool) =>
      oneOf(
        pool,
        `DELETE FROM playlist_track WHERE playlist_id = 1 AND track_id = (SELECT min(track_id) FROM playlist_track WHERE playlist_id = 1)
         RETURNING 'gone ' || track_id AS line`,
      ),
    (pool, client, n) =>
      oneOf(pool, `INSERT INTO artist (name) VALUES ($1) RETURNING 'artist ' || artist_id AS line`, [
        `Mötley "${client}" \\ ${n}'s`,
      ]),
  ],
  written: `
    SELECT 'invoice ' || i.invoice_id AS line, count(l.invoice_line_id)::int / 2 AS n FROM invoice AS i LEFT JOIN invoice_line AS l USING (invoice_id)
     WHERE i.invoice_id > 412 GROUP BY i.invoice_id
    UNION ALL SELECT 'track ' || track_id || ' ' || composer, 1 FROM track WHERE composer ~ '^[0-9]+/[0-9]+$'
    UNION ALL SELECT 'gone ' || a.track_id, 1 FROM playlist_track AS a WHERE a.playlist_id = 8
                 AND NOT EXISTS (SELECT 1 FROM playlist_track AS b WHERE b.playlist_id = 1 AND b.track_id = a.track_id)
    UNION ALL SELECT 'artist ' || artist_id, 1 FROM artist WHERE artist_id > 275`,
};

export const REAL: Readonly<Record<RealName, RealDatabase>> = { pagila: PAGILA, chinook: CHINOOK };

/** By psql, as a person does: it holds COPY ... FROM stdin. `role` may then use everything. */
export async function loadReal(real: RealDatabase, database: FreshDatabase, role: string): Promise<void> {
  const psql = join((await findPostgresBin()).path, 'psql');
  await loadDump(psql, fileOf(real.name), environment(target('test', database.url)) as Record<string, string>);
  await database.query(
    `GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${role}`,
  );
}

/** One client of each kind, each from its `begin` on; `n` of the next write of all is told when they are stopped. */
export function startRealWriters(real: RealDatabase, pool: Writable, begin = 0): Ledger & { next(): number } {
  const acknowledged = new Set<string>();
  const errors: string[] = [];
  let over = false;
  let furthest = begin;
  const run = async (write: Write, client: number): Promise<void> => {
    for (let n = begin; !over; n += 1) {
      furthest = Math.max(furthest, n + 1);
      try {
        const line = await write(pool, client, n);
        if (line !== null) acknowledged.add(line);
      } catch (error) {
        errors.push(error instanceof Error ? error.message : String(error));
      }
      await sleep(25);
    }
  };
  const all = real.writes.map(run);
  return {
    acknowledged,
    errors,
    next: () => furthest,
    async stop() {
      over = true;
      await Promise.all(all);
    },
  };
}

/** What is acknowledged and not there once, and what is there and was never acknowledged. */
export async function unlike(
  real: RealDatabase,
  acknowledged: ReadonlySet<string>,
  database: FreshDatabase,
): Promise<string[]> {
  const rows = await database.query<{ line: string; n: number }>(real.written);
  const there = new Map(rows.map(({ line, n }) => [line, n]));
  return [
    ...[...acknowledged]
      .filter((line) => there.get(line) !== 1)
      .map((line) => `${line}: ${there.get(line) ?? 0} times`),
    ...[...there.keys()].filter((line) => !acknowledged.has(line)).map((line) => `${line}: never acknowledged`),
  ];
}

/** Independent of our own proof: of each table with rows its number of rows and one md5 over all of them as text, in any order. */
export async function digests(database: FreshDatabase): Promise<string[]> {
  const tables = await database.query<{ name: string }>(
    `SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift') ORDER BY 1`,
  );
  const lines: string[] = [];
  for (const { name } of tables) {
    const [seen] = await database.query<{ line: string }>(
      `SELECT count(*) || ' rows ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '') AS line FROM ONLY ${name} AS t`,
    );
    lines.push(`${name} ${seen?.line}`);
  }
  return lines;
}

/** Schema as pg_dump writes it, without what a switch puts up for a while: walls, and replica identities where there is no key. */
export async function dumped(database: FreshDatabase): Promise<string[]> {
  const dump = join((await findPostgresBin()).path, 'pg_dump');
  const args = ['--schema-only', '--no-publications', '--no-subscriptions', '--exclude-schema', 'pgshift'];
  const { stdout } = await promisify(execFile)(dump, args, {
    env: environment(target('test', database.url)),
    maxBuffer: 64_000_000,
  });
  return stdout
    .split('\n')
    .filter((line) => !/^(--|\\(un)?restrict |CREATE TRIGGER _pgshift_wall )/.test(line) && line !== '');
}
