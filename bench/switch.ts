/**
 * Switches of a whole database under 50 clients of pgbench behind PgBouncer (transaction pooling): how long clients wait there and back, what the sync costs
 * them before, and whether anything that was acknowledged is missing. Each run is drilled, switched and taken back: two switches each way. What clients
 * felt is taken from pgbench's own log; nothing is asked of pgshift but when a switch was.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { readReport } from '../client/commands/report';
import { percentile } from '../client/demo/latency';
import { Problem } from '../plan/model/errors';
import type { SwitchMeasured } from '../plan/model/pairState';
import { formatBytes } from '../plan/model/values';
import type { Line } from './line';
import { DATABASE, ROLE, hasPgbouncer, openWorld } from './pair';
import type { World } from './pair';
import { crowd, maximum, pgbench } from './pgbench';
import type { Done } from './pgbench';
import { median, on } from './stack';
import type { Bench } from './stack';

export interface SwitchSize {
  /** Of pgbench: 140 is 2 GB. */
  readonly scale: number;
  /** Each makes two switches each way. */
  readonly runs: number;
  readonly seconds: number;
}

const CLIENTS = 50;
/** Of the most that goes through the pooler here. */
const LOAD = 0.3;
/** Lines of pgbench's log that lie in the buffers of its two threads when it is ended. */
const UNWRITTEN = (2 * 4_096) / 30;
/** On green, before it is taken back: what is written there has to come home. */
const ON_GREEN_MS = 10_000;

/** The longest time in which nobody was served. */
function longestGap(done: readonly Done[], from: number, to: number): number {
  let longest = 0;
  let last: number | null = null;
  for (const [end] of done) {
    if (end < from || end > to) continue;
    if (last !== null) longest = Math.max(longest, end - last);
    last = end;
  }
  return longest;
}

interface Run {
  readonly from: number;
  readonly switches: readonly SwitchMeasured[];
}

async function move(bench: Bench, world: World, n: number): Promise<Run> {
  const { temporal } = bench;
  const name = `bench_switch_${n}`;
  const id = `migration/blue/${name}`;
  const from = Date.now();
  await temporal.start({
    type: 'blueGreen',
    id,
    argument: {
      kind: 'blue-green',
      name,
      blue: 'blue',
      green: 'green',
      traffic: [{ type: 'pgbouncer', admin: ['pool'], database: DATABASE, databasesFile: world.databasesFile }],
      switch: { retryAfter: '10s' },
      drill: true,
      monitor: { duration: '2s' },
      hold: '1h',
      gates: { switch_traffic: 'none', decommission: 'none' },
    },
    by: 'bench',
    attributes: { name, database: 'blue', kind: 'blue-green' },
  });
  const until = async (wanted: (status: string, phase: string) => boolean): Promise<void> => {
    for (;;) {
      const seen = await temporal.describe(id);
      if (seen?.execution === 'FAILED') throw (await temporal.failure(id)) ?? new Problem('Bug', `${name} failed`);
      const { status, phase } = await readReport(temporal, id);
      if (wanted(status, phase)) return;
      await sleep(1_000);
    }
  };
  await until((status, phase) => status === 'holding' && phase === 'hold');
  await sleep(ON_GREEN_MS);
  await temporal.update(id, 'rollback', { by: 'bench' });
  while ((await temporal.describe(id))?.endedAt === null) await sleep(250);
  const { switches = [] } = await readReport(temporal, id);
  // The next one needs an empty green again.
  await on(world.green.url, async (client) => {
    await client.query(`DROP DATABASE ${DATABASE} WITH (FORCE)`);
    await client.query(`CREATE DATABASE ${DATABASE}`);
  });
  return { from, switches };
}

/** What pgbench's own bookkeeping says: four sums that are equal, and a line for each transaction. */
async function ledger(world: World, done: number): Promise<string[]> {
  const [row] = await on(world.blue.urlOf(DATABASE), async (client) => {
    const sums = await client.query<{ a: string; b: string; t: string; h: string; n: string }>(
      `SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS a, (SELECT sum(bbalance) FROM pgbench_branches) AS b,
              (SELECT sum(tbalance) FROM pgbench_tellers) AS t, (SELECT sum(delta) FROM pgbench_history) AS h,
              (SELECT count(*) FROM pgbench_history) AS n`,
    );
    return sums.rows;
  });
  if (!row) return ['nothing could be read'];
  const wrong: string[] = [];
  if (new Set([row.a, row.b, row.t, row.h]).size !== 1) wrong.push(`sums ${row.a}, ${row.b}, ${row.t}, ${row.h}`);
  // Those under way at the end were acknowledged to nobody, and what pgbench had not written to its log yet is not in it.
  const more = Number(row.n) - done;
  if (more < 0 || more > CLIENTS + UNWRITTEN) wrong.push(`${row.n} rows for ${done} acknowledged transactions`);
  return wrong;
}

const skipped: Line = {
  what: 'switch of a whole database under 50 clients',
  measured: 'not measured: no PgBouncer on this machine',
  against: '-',
  ratio: null,
  asked: 'median under 1 s, none over 3 s',
  met: null,
};

export async function switching(bench: Bench, size: SwitchSize): Promise<Line[]> {
  if (!hasPgbouncer) return [skipped];
  const world = await openWorld(bench);
  try {
    return await measure(bench, world, size);
  } finally {
    await world.close();
  }
}

async function measure(bench: Bench, world: World, size: SwitchSize): Promise<Line[]> {
  const { blue, clients } = world;
  await pgbench(bench, blue.urlOf(DATABASE), ['-i', '-q', '-s', `${size.scale}`]);
  const bytes = await on(blue.urlOf(DATABASE), async (client) => {
    await client.query('ALTER TABLE pgbench_history ADD COLUMN hid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY');
    await client.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${ROLE}`);
    await client.query(`GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${ROLE}`);
    await client.query('VACUUM ANALYZE');
    await client.query('CHECKPOINT');
    const { rows } = await client.query<{ bytes: string }>('SELECT pg_database_size(current_database()) AS bytes');
    return Number(rows[0]?.bytes);
  });
  const most = await maximum(bench, clients, CLIENTS, size.seconds);
  const before = await on(blue.urlOf(DATABASE), async (client) => {
    const { rows } = await client.query<{ n: string }>('SELECT count(*) AS n FROM pgbench_history');
    return Number(rows[0]?.n);
  });
  const rate = most * LOAD;
  bench.note(
    `${formatBytes(bytes)}; at most ${most.toFixed(0)} transactions/s through PgBouncer, held at ${rate.toFixed(0)}`,
  );

  const people = crowd(bench, clients, CLIENTS, rate);
  await sleep(3_000); // connections and caches
  const alone = { from: Date.now(), to: Date.now() + size.seconds * 2_000 };
  await sleep(size.seconds * 2_000);
  // How much of it is this machine's: a process that touches no database.
  const burner = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' });
  await sleep(1_000);
  const beside = { from: Date.now(), to: Date.now() + size.seconds * 1_000 };
  await sleep(size.seconds * 1_000);
  burner.kill('SIGKILL');
  await sleep(3_000);
  const runs: Run[] = [];
  for (let n = 1; n <= size.runs; n += 1) {
    const run = await move(bench, world, n);
    runs.push(run);
    bench.note(
      `run ${n}: ${run.switches.map((s) => `${s.purpose} ${s.direction} ${s.outcome} ${s.pausedMs} ms`).join(', ')}`,
    );
  }
  await sleep(1_000);
  const { done, complaints } = await people.stop();
  for (const line of complaints.slice(0, 5)) bench.note(line);

  const p99 = (from: number, to: number): number =>
    percentile(
      Float64Array.from(
        done.filter(([end]) => end >= from && end < to),
        ([, ms]) => ms,
      ).sort(),
      0.99,
    );
  const gapsOf = (direction: SwitchMeasured['direction']): number[] =>
    runs.flatMap(({ switches }) =>
      switches
        .filter((one) => one.direction === direction)
        .map(({ at, pausedMs }) => longestGap(done, Date.parse(at) - pausedMs - 1_500, Date.parse(at) + 500)),
    );
  const there = gapsOf('forward');
  const back = gapsOf('reverse');
  const syncs = runs.map(({ from, switches }) => {
    const first = switches[0];
    const to = first === undefined ? from : Date.parse(first.at) - first.pausedMs - 1_000;
    const served = done.filter(([end]) => end >= from && end < to).length;
    return { served: served / ((rate * (to - from)) / 1000), p99Ms: p99(from, to), seconds: (to - from) / 1000 };
  });
  for (const [n, one] of syncs.entries())
    bench.note(
      `sync ${n + 1}: ${one.seconds.toFixed(0)} s, ${one.served.toFixed(3)} served, p99 ${one.p99Ms.toFixed(1)} ms`,
    );
  const wrong = await ledger(world, before + done.length);
  const base = p99(alone.from, alone.to);
  const undone = runs.flatMap(({ switches }) => switches).filter(({ outcome }) => outcome === 'undone').length;
  const what = `${CLIENTS} clients through PgBouncer at 30 % of its most (${rate.toFixed(0)}/s), ${formatBytes(bytes)}`;
  const worst = Math.max(...there, ...back);
  const served = Math.min(...syncs.map((one) => one.served));
  const slowest = median(syncs.map((one) => one.p99Ms));
  return [
    {
      what: `switch, ${what}: nobody served, ${there.length} times there (${undone} of all undone)`,
      measured: `median ${median(there).toFixed(0)} ms`,
      against: `longest of all ${worst.toFixed(0)} ms`,
      ratio: null,
      asked: 'median under 1 s, none over 3 s',
      met: median(there) < 1_000 && median(back) < 1_000 && worst <= 3_000,
    },
    {
      what: `the same on the way back, ${back.length} times`,
      measured: `median ${median(back).toFixed(0)} ms`,
      against: `there ${median(there).toFixed(0)} ms`,
      ratio: median(back) / median(there),
      asked: 'at most 1.2',
      met: median(back) / median(there) <= 1.2,
    },
    {
      what: 'errors that clients saw in all of it',
      measured: `${complaints.length}`,
      against: `${done.length} transactions`,
      ratio: null,
      asked: '0',
      met: complaints.length === 0,
    },
    {
      what: 'acknowledged transactions against the rows at the end',
      measured: wrong.length === 0 ? 'all there, none twice' : wrong.join('; '),
      against: `${done.length} transactions`,
      ratio: null,
      asked: 'all there, none twice',
      met: wrong.length === 0,
    },
    {
      what: 'of that rate served during the sync, the worst of them',
      measured: `${(served * rate).toFixed(0)}/s`,
      against: `${rate.toFixed(0)}/s`,
      ratio: served,
      asked: 'at least 0.95',
      met: served >= 0.95,
    },
    {
      what: 'p99 during the sync',
      measured: `${slowest.toFixed(1)} ms`,
      against: `alone ${base.toFixed(1)} ms (beside one process that burns a core: ${p99(beside.from, beside.to).toFixed(1)} ms)`,
      ratio: slowest / base,
      asked: 'at most 2',
      met: slowest / base <= 2,
    },
  ];
}
