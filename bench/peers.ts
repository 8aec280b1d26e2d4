/**
 * Copies beside the tools that people use: pgcopydb and pg_dump | pg_restore, on one Postgres 15 server (Debian's pgcopydb knows none newer), in turn.
 * First one table with its key; then a mixed database, Pagila grown to about 2 GB beside a table with four fifths of its bytes in TOAST, as a whole
 * run of the worker. Every copy ends with statistics: pgcopydb's own VACUUM ANALYZE, ANALYZE after pg_restore.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadDump } from '../client/demo/dump';
import { Problem } from '../plan/model/errors';
import { formatBytes, formatCount } from '../plan/model/values';
import { STREAMS, engineCopy, fill, runCopy, settled } from './engine';
import type { Urls } from './engine';
import type { Line } from './line';
import { openServer } from './server';
import type { Server } from './server';
import { median, on, timed, wireCopy } from './stack';
import type { Bench } from './stack';

export interface PeersSize {
  readonly rows: number;
  readonly rounds: number;
  /** Rows that Pagila's payments are grown by, and rows of 10 kB beside them. */
  readonly payments: number;
  readonly scans: number;
}

const BIN = '/usr/lib/postgresql/15/bin';
const PGCOPYDB = '/usr/bin/pgcopydb';
const PAGILA = process.env.PGSHIFT_BENCH_PAGILA ?? '../shared/data/pagila/pagila.sql';

/** Runs it to its end with the tools of 15 before all others. Its output is shown only when it fails. */
function command(program: string, args: readonly string[]): Promise<void> {
  const env = { ...process.env, PATH: `${BIN}:${process.env.PATH}` };
  const child = spawn(program, [...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (said = `${said}${data.toString()}`.slice(-2_000)));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Problem('Bug', `${program} ended with ${code}: ${said.slice(-600)}`)),
    );
  });
}

async function pgcopydb(urls: Urls): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'pgshift-bench-pgcopydb-'));
  const jobs = ['--table-jobs', `${STREAMS}`, '--index-jobs', `${STREAMS}`, '--split-tables-larger-than', '200MB'];
  const ends = ['--source', urls.from, '--target', urls.to];
  try {
    return await timed(() => command(PGCOPYDB, ['clone', ...ends, ...jobs, '--dir', join(dir, 'work'), '--no-owner']));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const dumpAndRestore = (urls: Urls): Promise<number> =>
  timed(async () => {
    const pipe = `"${BIN}/pg_dump" -Fc -Z0 --no-owner "$1" | "${BIN}/pg_restore" --no-owner --exit-on-error -d "$2"`;
    await command('/bin/bash', ['-o', 'pipefail', '-c', pipe, 'dump', urls.from, urls.to]);
    await on(urls.to, (client) => client.query('ANALYZE'));
  });

/** Everything in it comes from Pagila but the scans: 1.9 kB in the row, 8 kB in TOAST. @returns bytes. */
async function mixed(url: string, size: PeersSize): Promise<number> {
  const at = new URL(url);
  await loadDump(join(BIN, 'psql'), PAGILA, {
    PGHOST: at.hostname,
    PGPORT: at.port,
    PGUSER: at.username,
    PGDATABASE: at.pathname.slice(1),
  });
  return on(url, async (client) => {
    await client.query('SET search_path = public');
    await client.query(
      `INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date)
       SELECT p.customer_id, p.staff_id, p.rental_id, p.amount, p.payment_date
         FROM payment AS p, generate_series(1, ${Math.max(1, Math.round(size.payments / 16_000))})`,
    );
    await client.query(
      `CREATE TABLE film_scan (film_id int REFERENCES film, page int, note text, body text, PRIMARY KEY (film_id, page));
       ALTER TABLE film_scan ALTER body SET STORAGE EXTERNAL, ALTER note SET STORAGE PLAIN;
       INSERT INTO film_scan SELECT 1 + g % 1000, g / 1000, repeat(md5(g::text), 60), repeat(md5(g::text), 250)
         FROM generate_series(0, ${size.scans - 1}) g`,
    );
    await client.query('VACUUM ANALYZE');
    const { rows } = await client.query<{ bytes: string }>('SELECT pg_database_size(current_database()) AS bytes');
    return Number(rows[0]?.bytes);
  });
}

interface Way {
  readonly name: string;
  readonly run: (round: number) => Promise<number>;
}

/** All of them in turn; the first round, which makes the files of the log, is not counted. */
async function inTurn(bench: Bench, server: Server, rounds: number, ways: readonly Way[]): Promise<number[][]> {
  const all: number[][] = ways.map(() => []);
  for (let round = 0; round <= rounds; round += 1) {
    const said: string[] = [];
    for (const [n, { name, run }] of ways.entries()) {
      await server.emptyTarget();
      await settled(server.urls.from);
      const seconds = await run(round);
      said.push(`${name} ${seconds.toFixed(1)} s`);
      if (round > 0) all[n]?.push(seconds);
    }
    bench.note(`round ${round}: ${said.join(', ')}`);
  }
  return all;
}

const against = (what: string, own: readonly number[], name: string, other: readonly number[], most: number): Line => {
  const ratio = median(own) / median(other);
  const faster = most < 1;
  return {
    what: `${what} (pairs: ${own.map((seconds, n) => (seconds / (other[n] ?? seconds)).toFixed(2)).join(' ')})`,
    measured: `${median(own).toFixed(1)} s`,
    against: `${name}: ${median(other).toFixed(1)} s`,
    ratio,
    asked: faster ? `at most ${most.toFixed(2)} (${(1 / most).toFixed(1)} times as fast)` : 'at most 1: never slower',
    met: ratio <= most,
  };
};

const missing = (what: string): Line => ({
  what: `copy beside pgcopydb and pg_dump`,
  measured: `not measured: no ${what} here`,
  against: '-',
  ratio: null,
  asked: 'never slower',
  met: null,
});

export async function peers(bench: Bench, size: PeersSize): Promise<Line[]> {
  for (const path of [BIN, PGCOPYDB]) if (!existsSync(path)) return [missing(path)];
  const server = await openServer(BIN, { wal_level: 'replica' });
  const { urls } = server;
  try {
    await fill(urls.from, size.rows);
    const [own = [], clone = [], dump = []] = await inTurn(bench, server, size.rounds, [
      { name: 'pgshift', run: (round) => engineCopy(urls, `bench_peers_${round}`) },
      { name: 'pgcopydb', run: () => pgcopydb(urls) },
      { name: 'pg_dump | pg_restore', run: () => dumpAndRestore(urls) },
    ]);
    const what = `copy of ${formatCount(size.rows)} rows with key, Postgres 15, ${STREAMS} streams, median of ${size.rounds}`;
    const lines = [
      against(what, own, `pgcopydb, ${STREAMS} jobs, tables split`, clone, 1),
      against(what, own, 'pg_dump | pg_restore and ANALYZE', dump, 1),
    ];
    if (!existsSync(PAGILA)) return [...lines, missing(`dump of Pagila (PGSHIFT_BENCH_PAGILA)`)];
    await server.emptySource();
    const bytes = await mixed(urls.from, size);
    wireCopy(bench, urls);
    const [whole = [], cloned = []] = await inTurn(bench, server, Math.min(size.rounds, 3), [
      {
        name: 'pgshift',
        run: async (round) => (await runCopy(bench, `bench_mixed_${round}`, { tables: { include: ['*.*'] } })).seconds,
      },
      { name: 'pgcopydb', run: () => pgcopydb(urls) },
    ]);
    const of = `whole run that copies a mixed database of ${formatBytes(bytes)}, Postgres 15`;
    return [...lines, against(of, whole, 'pgcopydb', cloned, 1 / 1.2)];
  } finally {
    await server.close();
  }
}
