/**
 * What a copy must survive: worker, Temporal, source and target die at random moments, ten runs in a row; the network is cut and falls silent; the
 * source is promoted to another timeline; the target's disk is full. Every row once, or everything of ours is gone and the reason is said.
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Report } from '../../plan/model/status';
import { eventually } from '../support/copy';
import { COPY_SETUP, startCopyRun, untilChunks } from '../support/copyRun';
import type { CopyRun, CopyRunOptions } from '../support/copyRun';
import type { FreshDatabase } from '../support/database';
import { seed, seeded } from '../support/kills';
import { startOwnPostgres, startOwnTemporal } from '../support/ownServers';
import type { OwnPostgres, OwnServer, OwnTemporal } from '../support/ownServers';
import { resultOf } from '../support/temporal';
import { tinyDisk } from '../support/tinyDisk';
import { wireTo } from '../support/wire';

const RUNS = 10;
const random = seeded(seed());
const homes: string[] = [];
const SMALL_RANGES = { parallel: { rangeSize: '1MB', tables: 2, rangesPerTable: 2 } };

let temporal: OwnTemporal;
let source: OwnPostgres;
let target: OwnPostgres;

function home(): string {
  const made = mkdtempSync(join(tmpdir(), 'pgshift-copychaos-'));
  homes.push(made);
  return made;
}

beforeAll(async () => {
  temporal = await startOwnTemporal(home());
  source = await startOwnPostgres(home());
  target = await startOwnPostgres(home());
});

afterAll(async () => {
  await Promise.all([temporal.stop(), source.stop(), target.stop()]);
  for (const folder of homes) rmSync(folder, { recursive: true, force: true });
});

async function withRun(of: Partial<CopyRunOptions>, body: (run: CopyRun) => Promise<void>): Promise<void> {
  const from = of.source ?? (await source.database(COPY_SETUP));
  const to = of.target ?? (await target.database(''));
  const run = await startCopyRun({
    source: from,
    target: to,
    temporalAddress: temporal.address,
    ...of,
    plan: { ...SMALL_RANGES, ...of.plan },
  });
  try {
    await body(run);
  } finally {
    await run.close();
    await Promise.all([from.drop(), to.drop()]);
  }
}

/** -9, a moment, and up again where it was. */
async function dies(server: OwnServer): Promise<void> {
  await server.kill();
  await sleep(300 + random() * 1_500);
  await server.start();
}

test('worker, Temporal, source and target die at random moments, ten runs in a row', async () => {
  for (let n = 1; n <= RUNS; n += 1)
    await withRun({}, async (run) => {
      let worker = run.worker();
      let over = false;
      // A worker that finds no Temporal when it starts ends with 4, for its supervisor to start another; here that is us.
      const supervised = (async () => {
        while (!over) {
          const { code } = await Promise.race([worker.exited, sleep(200).then(() => ({ code: null }))]);
          if (code === 4) worker = run.worker();
        }
      })();
      const said: string[] = [];
      const victims = ['worker', 'source', 'target', 'temporal'].sort(() => random() - 0.5);
      for (const victim of victims) {
        const at = Math.round(400 + random() * 2_500);
        await sleep(at);
        said.push(`${victim} after ${at} ms`);
        if (victim === 'worker') {
          worker.signal('SIGKILL');
          await worker.exited;
          worker = run.worker();
        } else await dies(victim === 'source' ? source : victim === 'target' ? target : temporal);
      }
      process.stderr.write(`run ${n}: ${said.join(', ')}\n`);
      const report = await run.expectWhole();
      over = true;
      await supervised;
      process.stderr.write(`run ${n}: whole after ${String(report.measured['epochs'])} snapshots\n`);
    });
});

/** Two databases; what goes to one of the sides goes over a wire of the test's. */
async function wired(side: 'source' | 'target') {
  const from = await source.database(COPY_SETUP);
  const to = await target.database('');
  const wire = await wireTo(Number(new URL(side === 'source' ? from.url : to.url).port));
  const urls = {
    old: side === 'source' ? wire.through(from.url) : from.url,
    app: side === 'target' ? wire.through(to.url) : to.url,
  };
  return { wire, databases: { source: from, target: to, urls } };
}

test('the network to either side is cut, then falls silent: every row once', async () => {
  for (const side of ['source', 'target'] as const)
    for (const how of ['cut', 'freeze'] as const) {
      const { wire, databases } = await wired(side);
      try {
        await withRun(databases, async (run) => {
          run.worker();
          await untilChunks(run, 3);
          wire[how]();
          await sleep(how === 'cut' ? 3_000 : 12_000);
          wire.mend();
          await run.expectWhole();
          process.stderr.write(`${how} of the ${side}: whole\n`);
        });
      } finally {
        await wire.close();
      }
    }
});

test('a slow link: every row once, from one snapshot, and no attempt is given up', async () => {
  for (const side of ['source', 'target'] as const) {
    const { wire, databases } = await wired(side);
    try {
      wire.slow(1024 ** 2);
      await withRun(databases, async (run) => {
        run.worker();
        const began = performance.now();
        const report = await run.expectWhole();
        expect(report.measured['epochs']).toBe(1);
        expect(performance.now() - began).toBeGreaterThan(10_000);
        process.stderr.write(`slow link to the ${side}: whole after ${Math.round(performance.now() - began)} ms\n`);
      });
    } finally {
      await wire.close();
    }
  }
});

/** A standby of its own, made from a base backup of `primary` while that is written to; follows it by streaming replication. */
async function standbyOf(primary: FreshDatabase): Promise<OwnPostgres> {
  const made = home();
  chmodSync(made, 0o755);
  const data = join(made, 'data');
  const client = await primary.client();
  const [{ from } = { from: '' }] = (
    await client.query<{ from: string }>(`SELECT current_setting('data_directory') AS from`)
  ).rows;
  await client.query(`SELECT pg_backup_start('standby', true)`);
  // Files may change and vanish under it: that is what the log of the backup is for.
  const copied = spawnSync('cp', ['-a', from, data]);
  if (copied.status !== 0 && copied.status !== 1) throw new Error('the base backup could not be copied');
  const { rows } = await client.query<{ labelfile: string }>(`SELECT labelfile FROM pg_backup_stop(false)`);
  // The end of the backup lies in the log that was written since.
  spawnSync('cp', ['-a', join(from, 'pg_wal'), data]);
  await client.end();
  rmSync(join(data, 'postmaster.pid'), { force: true });
  const { port } = new URL(primary.url);
  const { uid, gid } = statSync(data);
  for (const [name, text] of [
    ['backup_label', rows[0]?.labelfile ?? ''],
    ['standby.signal', ''],
  ] as const) {
    writeFileSync(join(data, name), text);
    chownSync(join(data, name), uid, gid);
  }
  appendFileSync(
    join(data, 'postgresql.auto.conf'),
    `\nprimary_conninfo = 'host=127.0.0.1 port=${port} user=postgres application_name=standby'\n`,
  );
  return startOwnPostgres(made);
}

test('a failover to a real standby, behind one address: another timeline is another source, and the target is as it was', async () => {
  const primary = await startOwnPostgres(home());
  const from = await primary.database(COPY_SETUP);
  const standby = await standbyOf(from);
  const wire = await wireTo(Number(new URL(from.url).port));
  const to = await target.database('');
  try {
    const there = standby.of(from.name);
    await eventually(async () => (await there.query('SELECT 1 FROM big LIMIT 1').catch(() => [])).length === 1, 60_000);
    const urls = { old: wire.through(from.url), app: to.url };
    await withRun({ source: from, target: to, urls, plan: { gates: { build: 'manual' } } }, async (run) => {
      run.worker();
      await untilChunks(run, 3);
      await primary.kill();
      await there.query('SELECT pg_promote()');
      wire.lead(Number(new URL(there.url).port));
      wire.cut();
      wire.mend();
      await expect(resultOf(run.handle)).rejects.toMatchObject({
        cause: { type: 'RolledBack', details: [{ cause: 'TimelineChanged' }] },
      });
      expect(await run.target.query(`SELECT 1 FROM pg_class WHERE relname IN ('big', 'heap', 'small', 'v')`)).toEqual(
        [],
      );
    });
  } finally {
    await Promise.all([wire.close(), primary.stop(), standby.stop()]);
  }
});

test('a source that was promoted is another source: said, and the target is as it was', async () => {
  const folder = home();
  const failing = await startOwnPostgres(folder);
  try {
    const from = await failing.database(COPY_SETUP);
    await withRun({ source: from, plan: { gates: { build: 'manual' } } }, async (run) => {
      run.worker();
      await untilChunks(run, 3);
      await failing.kill();
      writeFileSync(join(folder, 'data', 'standby.signal'), '');
      await failing.start();
      await from.query('SELECT pg_promote()');
      await expect(resultOf(run.handle)).rejects.toMatchObject({
        cause: { type: 'RolledBack', details: [{ cause: 'TimelineChanged' }] },
      });
      const left = await run.target.query(`SELECT 1 FROM pg_class WHERE relname IN ('big', 'heap', 'small', 'v')`);
      expect(left).toEqual([]);
    });
  } finally {
    await failing.stop();
  }
});

test('the disk of the target is full: said, and taken back', async () => {
  const to = await target.database('');
  const [{ directory } = { directory: '/' }] = await to.query<{ directory: string }>(
    `SELECT current_setting('data_directory') AS directory`,
  );
  const disk = tinyDisk(8, directory);
  if (disk === null) throw new Error('a full disk needs root and mount(8)');
  try {
    await to.query(`CREATE TABLESPACE tiny LOCATION '${disk.path}'`);
    await to.query(`ALTER ROLE CURRENT_USER IN DATABASE ${to.name} SET default_tablespace = 'tiny'`);
    await withRun({ target: to }, async (run) => {
      run.worker();
      await expect(resultOf(run.handle)).rejects.toMatchObject({
        cause: { type: 'RolledBack', details: [{ cause: 'DiskFull' }] },
      });
      const report = await run.handle.query<Report>('report');
      expect(report.status).toBe('rolled_back');
      expect(await to.query(`SELECT 1 FROM pg_class WHERE relname IN ('big', 'heap', 'small', 'v')`)).toEqual([]);
    });
    await to.query(`ALTER ROLE CURRENT_USER IN DATABASE ${to.name} RESET default_tablespace`);
  } finally {
    disk.remove();
  }
});
