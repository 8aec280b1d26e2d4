/** Processes die in the middle of a copy: worker at every crash point and at random, a frozen worker, the holder of the snapshot. Every row once. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import type { Report } from '../../plan/model/status';
import { contents, eventually, needPostgresTools } from '../support/copy';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

const SETUP = `
CREATE TABLE big (id bigserial PRIMARY KEY, k int, t text); INSERT INTO big (k, t) SELECT g % 100, repeat(md5(g::text), 4) FROM generate_series(1, 120000) g;
CREATE TABLE heap (t text); INSERT INTO heap SELECT md5((g % 5000)::text) FROM generate_series(1, 60000) g; CREATE INDEX ON big (k);
CREATE TABLE small (id int PRIMARY KEY, big bigint REFERENCES big); INSERT INTO small SELECT g, g FROM generate_series(1, 500) g;
CREATE VIEW v AS SELECT count(*) FROM big; ANALYZE;`;

interface CopyRun {
  readonly source: FreshDatabase;
  readonly target: FreshDatabase;
  readonly handle: WorkflowHandle;
  worker(kill?: string): WorkerProcess;
  /** Ends well: same rows, proven, no holder left. */
  expectWhole(): Promise<Report>;
  chunks(): Promise<number>;
  close(): Promise<void>;
}

async function startCopy(plan: Record<string, unknown> = {}, targetSetup?: string): Promise<CopyRun> {
  await needPostgresTools();
  const source = await freshDatabase(18, SETUP);
  const to = await freshDatabase(18, targetSetup);
  const connection = await Connection.connect({ address: temporalAddress() });
  const id = randomBytes(4).toString('hex');
  const taskQueue = `copy-${id}`;
  const handle = await new Client({ connection }).workflow.start('dataMigration', {
    taskQueue,
    workflowId: `migration/app/copy-${id}`,
    args: [{ name: `copy-${id}`, source: 'old', target: 'app', parallel: { rangeSize: '2MB' }, ...plan }],
  });
  const workers = new Set<WorkerProcess>();
  return {
    source,
    target: to,
    handle,
    worker(kill) {
      const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
      const worker = startWorkerProcess({
        taskQueue,
        temporalAddress: temporalAddress(),
        databases: { app: to.url, old: source.url },
        env: { PGSHIFT_HEARTBEAT_MS: '3000', ...(kill ? { PGSHIFT_CRASH_AT: kill, PGSHIFT_CRASH_MARK: mark } : {}) },
      });
      workers.add(worker);
      return worker;
    },
    async expectWhole() {
      await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
      expect((await contents(to)).rows).toEqual((await contents(source)).rows);
      const report = await handle.query<Report>('report');
      expect(report.proof.every(({ equal }) => equal)).toBe(true);
      await eventually(
        async () =>
          (
            await source.query(
              `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgshift/%'`,
            )
          ).length === 0,
      );
      return report;
    },
    chunks: async () =>
      (await to.query<{ n: number }>(`SELECT count(*)::int AS n FROM pgshift.chunks WHERE rows > 0`).catch(() => []))[0]
        ?.n ?? 0,
    async close() {
      for (const worker of workers) await worker.stop();
      await connection.close();
      await Promise.all([source.drop(), to.drop()]);
    },
  };
}

/** In the order in which a copy passes them: each worker goes on where the one before died. */
const POINTS = [
  'claim.after',
  'epoch.before',
  'epoch.after',
  'item.before-commit@schema.1',
  'item.after-commit@schema.1',
  'range.before-commit:2',
  'range.after-commit:2',
  'range.before-commit:3',
  'item.before-commit@copy.1',
  'item.after-commit@copy.1',
  'item.before-commit@build.1',
];
const LONG = 400_000;

test(
  'the worker dies at every crash point of a copy',
  async () => {
    const run = await startCopy();
    try {
      for (const point of POINTS) {
        const over = run.handle.result().then(() => ({ signal: 'the run ended before' }));
        const { signal } = await Promise.race([run.worker(point).exited, over]);
        expect([point, signal]).toEqual([point, 'SIGKILL']);
      }
      run.worker();
      const report = await run.expectWhole();
      expect(report.measured['epochs']).toBe(1);
    } finally {
      await run.close();
    }
  },
  LONG,
);

const THEIRS = `
CREATE TABLE big (id bigint PRIMARY KEY, k int CONSTRAINT small CHECK (k < 1000), t text, own text DEFAULT 'd'); CREATE INDEX big_k ON big (k);
INSERT INTO big SELECT g, 1, 'theirs', 'kept' FROM generate_series(119901, 120100) g;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'fired'; END$$;
CREATE TRIGGER no AFTER INSERT OR UPDATE ON big FOR EACH ROW EXECUTE FUNCTION f();`;
const MERGE = {
  schema: 'existing',
  tables: { include: ['big'] },
  load: { method: 'upsert', disable: ['indexes', 'constraints', 'triggers'] },
  map: {
    big: {
      columns: { t: { sql: 'CASE WHEN id % 10000 = 0 THEN NULL ELSE upper(t) END' } },
      validate: { t: { sql: 'id % 10000 <> 0' } },
    },
  },
  errors: { max: 12 },
};

test(
  'the worker dies in a merge: every row once, bad ones listed once, everything on again; then all of it is taken back',
  async () => {
    const run = await startCopy({ ...MERGE, gates: { finish: 'manual' } }, THEIRS);
    try {
      const before = await contents(run.target);
      const catalog = async () => (await contents(run.target)).catalog.filter((line) => !/pgshift/.test(line));
      for (const point of ['load.disabled', 'range.before-commit:2', 'range.after-commit:2']) {
        const over = run.handle.result().then(() => ({ signal: 'the run ended before' }));
        const { signal } = await Promise.race([run.worker(point).exited, over]);
        expect([point, signal]).toEqual([point, 'SIGKILL']);
      }
      run.worker();
      const reported = async () => run.handle.query<Report>('report').catch(() => null);
      await eventually(async () => (await reported())?.waitingFor?.gate === 'finish', 120_000);
      const report = await reported();
      expect(report?.proof).toMatchObject([{ table: 'public.big', equal: true, rows: 119_988 }]);
      expect(report?.measured).toMatchObject({ mapped: { read: 120_000, loaded: 119_988, bad: 12 } });
      expect(await run.target.query(`SELECT count(*)::int AS n FROM pgshift.quarantine`)).toEqual([{ n: 12 }]);
      expect(
        await run.target.query(
          `SELECT count(*)::int AS n, count(*) FILTER (WHERE own = 'kept')::int AS theirs, count(*) FILTER (WHERE t = 'theirs')::int AS left FROM big`,
        ),
      ).toEqual([{ n: 120_089, theirs: 200, left: 101 }]);
      expect(await catalog()).toEqual(before.catalog);
      // Their trigger, which is on again, refuses whatever it sees.
      await run.handle.signal('reject', { by: 'test', gate: 'finish' });
      await expect(run.handle.result()).rejects.toThrow();
      expect((await contents(run.target)).rows).toEqual(before.rows);
      expect(await catalog()).toEqual(before.catalog);
    } finally {
      await run.close();
    }
  },
  LONG,
);

test(
  'the worker dies at random moments',
  async () => {
    const run = await startCopy({ parallel: { rangeSize: '1MB', tables: 3 } });
    try {
      for (let n = 0; n < 6; n += 1) {
        const worker = run.worker();
        await sleep(1_200 + Math.random() * 1_500);
        worker.signal('SIGKILL');
        await worker.exited;
      }
      run.worker();
      expect((await run.expectWhole()).measured['epochs']).toBe(1);
    } finally {
      await run.close();
    }
  },
  LONG,
);

test('a frozen worker wakes up after another took over: nothing twice', async () => {
  const run = await startCopy();
  try {
    const frozen = run.worker();
    await eventually(async () => (await run.chunks()) > 1, 60_000);
    frozen.signal('SIGSTOP');
    run.worker();
    await eventually(
      async () => (await run.target.query(`SELECT 1 FROM pgshift.migrations WHERE status = 'completed'`)).length === 1,
      90_000,
    );
    frozen.signal('SIGCONT');
    await run.expectWhole();
  } finally {
    await run.close();
  }
});

test('the holder dies in the middle: what is copied stays, the rest comes from a new snapshot', async () => {
  const run = await startCopy({
    gates: { copy: 'manual' },
    parallel: { rangeSize: '1MB', tables: 1, rangesPerTable: 1 },
  });
  try {
    run.worker();
    await eventually(
      async () => (await run.target.query(`SELECT 1 FROM pg_class WHERE relname = 'small'`)).length === 1,
      60_000,
    );
    await run.handle.signal('approve', { by: 'test', gate: 'copy' });
    const copied = async () =>
      (await run.target.query(`SELECT 1 FROM pgshift.copy_tables WHERE state = 'done'`)).length;
    await eventually(async () => (await copied()) >= 1 || (await run.chunks()) > 3, 60_000);
    const [holder] = await run.target.query<{ pid: number }>(
      `SELECT process_id AS pid FROM pgshift.copy_epochs WHERE epoch = 1`,
    );
    process.kill(holder?.pid ?? 0, 'SIGKILL');
    await run.source.query(`INSERT INTO small SELECT g, g FROM generate_series(1001, 1100) g`);
    const report = await run.expectWhole();
    expect(report.measured['epochs']).toBe(2);
    expect(report.measured['snapshotsLost']).toHaveLength(1);
  } finally {
    await run.close();
  }
});
