/**
 * Processes die in the middle of a copy: the worker at every crash point, a frozen worker, the holder of the snapshot. Every row once. Random moments
 * and the deaths of servers are in test/chaos/copy.chaos.ts.
 */
import type { Report } from '../../plan/model/status';
import { contents, eventually } from '../support/copy';
import { COPY_SETUP, startCopyRun } from '../support/copyRun';
import type { CopyRun } from '../support/copyRun';
import { freshDatabase } from '../support/database';
import { WHOLE } from '../support/whole';

async function startCopy(plan: Record<string, unknown> = {}, targetSetup?: string): Promise<CopyRun> {
  const source = await freshDatabase(18, COPY_SETUP);
  const target = await freshDatabase(18, targetSetup);
  const run = await startCopyRun({ source, target, plan });
  return {
    ...run,
    async close() {
      await run.close();
      await Promise.all([source.drop(), target.drop()]);
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

const inWhole = WHOLE ? test : () => undefined;
inWhole('a frozen worker wakes up after another took over: nothing twice', async () => {
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
