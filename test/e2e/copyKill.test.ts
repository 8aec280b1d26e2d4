/**
 * Processes die in the middle of a copy: the worker at every crash point, a frozen worker, the holder of the snapshot. Every row once. Random moments
 * and the deaths of servers are in test/chaos/copy.chaos.ts.
 */
import { eventually } from '../support/copy';
import { COPY_SETUP, startCopyRun } from '../support/copyRun';
import type { CopyRun } from '../support/copyRun';
import { freshDatabase } from '../support/database';

async function startCopy(plan: Record<string, unknown> = {}): Promise<CopyRun> {
  const source = await freshDatabase(18, COPY_SETUP);
  const target = await freshDatabase(18);
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
