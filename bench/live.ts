/**
 * Verification of data that changes meanwhile: pgbench writes to the source, a subscription brings it to the target, and verification must call nothing
 * different that is not. Then one row is spoilt on the target alone, and it must be that one which is named.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import { validateValidation } from '../plan/model/validate';
import type { VerifiedTable } from '../plan/model/validation';
import { formatCount } from '../plan/model/values';
import { withSession } from '../postgres/session';
import { target } from '../postgres/types';
import { verifyLocally } from '../postgres/verify';
import { withSamples } from '../postgres/verify/samples';
import { STREAMS } from './engine';
import type { Line } from './line';
import { crowd, pgbench } from './pgbench';
import { openServer } from './server';
import { median, on } from './stack';
import type { Bench } from './stack';

export interface LiveSize {
  /** Of pgbench: 50 is 5,000,000 rows. */
  readonly scale: number;
  readonly rounds: number;
}

const CLIENTS = 10;
const WRITES = 1_000;
const TABLE = 'public.pgbench_accounts';
const SLOT = 'bench_live';

/** One server: the slot comes first, or CREATE SUBSCRIPTION would wait for itself. The target has the rows already. */
async function replicate(urls: { from: string; to: string }): Promise<void> {
  await on(urls.from, async (client) => {
    await client.query(`CREATE PUBLICATION bench_live FOR TABLE ${TABLE}`);
    await client.query(`SELECT pg_create_logical_replication_slot('${SLOT}', 'pgoutput')`);
  });
  const at = new URL(urls.from);
  const conninfo = `host=127.0.0.1 port=${at.port} user=postgres dbname=${at.pathname.slice(1)}`;
  await on(urls.to, (client) =>
    client.query(
      `CREATE SUBSCRIPTION bench_live CONNECTION '${conninfo}' PUBLICATION bench_live
         WITH (create_slot = false, slot_name = '${SLOT}', copy_data = false)`,
    ),
  );
}

const unreplicate = (url: string): Promise<void> =>
  on(url, async (client) => {
    await client.query('ALTER SUBSCRIPTION bench_live DISABLE');
    await client.query('DROP SUBSCRIPTION bench_live');
  });

async function compared(
  urls: { from: string; to: string },
  name: string,
): Promise<{ table: VerifiedTable; s: number }> {
  const plan = validateValidation({
    name,
    source: 'from',
    target: 'to',
    live: 'auto',
    checks: ['rows'],
    parallel: STREAMS,
    tables: { include: [TABLE] },
  });
  const there = target('to', urls.to);
  const context = {
    plan,
    source: target('from', urls.from),
    target: there,
    signal: new AbortController().signal,
    progress: () => undefined,
    log: () => undefined,
  };
  const began = performance.now();
  const result = await verifyLocally(context);
  const s = (performance.now() - began) / 1_000;
  const shown = await withSession(there, { purpose: 'bench' }, (session) =>
    withSamples(session, { name, limit: 10, showValues: true }, result),
  );
  const [table] = shown.tables;
  if (!table) throw new Problem('Bug', `nothing was compared: ${JSON.stringify(result.errors)}`);
  return { table, s };
}

export async function live(bench: Bench, { scale, rounds }: LiveSize): Promise<Line[]> {
  const server = await openServer(bench.stack.postgresBin?.path ?? '', { wal_level: 'logical' });
  const { urls } = server;
  try {
    await pgbench(bench, urls.from, ['-i', '-q', '-s', `${scale}`]);
    await server.targetFromSource();
    await replicate(urls);
    // A transaction of this script updates one account and adds a line to the history, which is left aside: two writes.
    const people = crowd(bench, urls.from, CLIENTS, WRITES / 2, ['-b', 'simple-update']);
    const began = performance.now();
    let alarms = 0;
    const seconds: number[] = [];
    await sleep(2_000);
    for (let round = 1; round <= rounds; round += 1) {
      const { table, s } = await compared(urls, `bench_live_${round}`);
      alarms += table.differing + (table.equal ? 0 : 1);
      seconds.push(s);
      bench.note(`live ${round}: ${s.toFixed(1)} s, ${table.differing} different`);
    }
    const rows = scale * 100_000;
    const spoilt = Math.floor(rows * 0.7);
    await on(urls.to, (client) =>
      client.query(
        `SET session_replication_role = replica; UPDATE ${TABLE} SET filler = 'spoilt' WHERE aid = ${spoilt}`,
      ),
    );
    const { table, s } = await compared(urls, 'bench_live_spoilt');
    const { done } = await people.stop();
    const writes = (done.length * 2_000) / (performance.now() - began);
    const found = (table.samples ?? []).map(({ kind, key }) => `${kind} ${JSON.stringify(key)}`);
    const named = found.length === 1 && found[0] === `changed {"aid":"${spoilt}"}`;
    await unreplicate(urls.to);
    const what = `verification of ${formatCount(rows)} rows under ${formatCount(Math.round(writes))} writes/s`;
    return [
      {
        what: `${what}: rows called different that were not, ${rounds} times`,
        measured: `${alarms}`,
        against: `${median(seconds).toFixed(1)} s each (median)`,
        ratio: null,
        asked: '0, at 1,000 writes/s',
        met: alarms === 0 && writes >= 0.9 * WRITES,
      },
      {
        what: `the same with one row spoilt on the target`,
        measured: found.join(', ') || 'nothing found',
        against: `${s.toFixed(1)} s`,
        ratio: null,
        asked: `that row is named, and no other`,
        met: named && table.differing === 1,
      },
    ];
  } finally {
    await server.close();
  }
}
