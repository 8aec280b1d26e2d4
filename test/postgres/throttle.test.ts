import { FOR_WRITERS } from '../../plan/model/status';
import type { BackfillRun } from '../../plan/model/steps';
import { readBrakes } from '../../postgres/brakes';
import { runStep } from '../../postgres/engine';
import { withSession } from '../../postgres/session';
import type { ThrottleLimits } from '../../postgres/types';
import { target } from '../../postgres/types';
import type { FreshDatabase } from '../support/database';
import { describeVersions } from '../support/database';
import { codeOf, doStep, engineDatabase, NO_BRAKES, running, stepOf, until } from '../support/engine';

const fill: BackfillRun = {
  kind: 'backfill',
  table: { schema: 'public', name: 't' },
  set: ['b = t.a'],
  pending: 't.b IS DISTINCT FROM t.a',
  key: [{ name: 'id', type: 'bigint' }],
  quiet: false,
  column: 't.b',
};

describeVersions('the throttle', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(
      version,
      `CREATE TABLE t (id bigint PRIMARY KEY, a int, b int); INSERT INTO t SELECT g, g FROM generate_series(1, 5000) AS g`,
    );
  });
  afterEach(() => db.drop());

  test('lets a quiet server work, with every brake on', async () => {
    const throttle: ThrottleLimits = {
      ...NO_BRAKES,
      maxReplicationLagMs: 5_000,
      maxReplicationLagBytes: 64 * 1024 ** 2,
      maxLockWaitMs: 200,
      maxArchiveBacklog: 42,
      waitForAutovacuum: true,
    };
    const outcome = await doStep(db, stepOf(fill), { throttle });
    expect(outcome).toMatchObject({ rows: 5_000, throttledMs: {} });
  });

  test('rests after each batch while others write, and says so; who is alone is not slowed', async () => {
    await db.query(`INSERT INTO t SELECT g, g FROM generate_series(5001, 30000) AS g`);
    const throttle: ThrottleLimits = { ...NO_BRAKES, everyMs: 200 };
    const writer = await db.client();
    await writer.query(`CREATE TABLE other (x int)`);
    let stop = false;
    const writes = (async () => {
      while (!stop) {
        await writer.query(`INSERT INTO other VALUES (1)`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    const busy = running(db, stepOf(fill), { throttle });
    const slowed = await runStep(busy.context);
    stop = true;
    await writes;
    expect(slowed.rows).toBe(30_000);
    expect(busy.progress.map(({ throttledBy }) => throttledBy)).toContain(FOR_WRITERS);
    expect(slowed.throttledMs['writers']).toBeGreaterThan(20);
    expect(Math.max(...busy.progress.map(({ batchRows }) => batchRows))).toBeLessThanOrEqual(500);
    const alone = await doStep(db, stepOf({ ...fill, set: ['b = t.a + 1'], pending: 't.b = t.a' }, [], 'expand.2'), {
      throttle,
    });
    expect(alone).toMatchObject({ rows: 30_000, throttledMs: {} });
  });

  test('waits for the WAL rate, says so and counts it, until told to stop', async () => {
    const throttle = { ...NO_BRAKES, maxWalBytesPerSecond: 1, everyMs: 50, batchMax: 200, batchMin: 100 };
    const at = running(db, stepOf(fill), { throttle });
    const writer = await db.client();
    await writer.query(`CREATE TABLE noise (x text)`);
    let stop = false;
    const noise = (async () => {
      while (!stop) await writer.query(`INSERT INTO noise SELECT repeat('x', 1000)`);
    })();
    const ended = codeOf(runStep(at.context));
    await until(async () => at.progress.some(({ throttledBy }) => throttledBy?.startsWith('WAL ') === true));
    at.abort();
    expect(await ended).toBe('AbortError');
    stop = true;
    await noise;
  });

  test('takes a replica that does not answer for a reason to wait: unknown is not fine', async () => {
    const throttle = { ...NO_BRAKES, maxReplicationLagMs: 5_000, everyMs: 50 };
    const at = running(db, stepOf(fill), { throttle });
    const replica = target('ro', 'postgres://127.0.0.1:1/x');
    const ended = codeOf(runStep({ ...at.context, target: target('app', db.url, [replica]) }));
    await until(async () => at.progress.some(({ throttledBy }) => throttledBy === 'a replica cannot be reached'));
    at.abort();
    expect(await ended).toBe('AbortError');
  });

  test('ends the attempt when its own connection is gone: the next attempt has a new one', async () => {
    const throttle = { ...NO_BRAKES, appP95: { ms: 100 }, everyMs: 50 };
    const at = running(db, stepOf(fill), { throttle, appP95: async () => null });
    const ended = codeOf(runStep(at.context));
    await until(async () =>
      at.progress.some(({ throttledBy }) => throttledBy?.startsWith('the application latency') === true),
    );
    // As a server that restarts does it to all of them.
    const gone = await db.query(
      `SELECT pg_terminate_backend(pid) AS gone FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pgshift/%' AND pid <> pg_backend_pid()`,
    );
    expect(gone.length).toBeGreaterThan(1);
    expect(['ServerRestarting', 'Unreachable']).toContain(await ended);
    expect(await doStep(db, stepOf(fill), {})).toMatchObject({ rows: 5_000 });
  });

  test('asks the application’s latency where it is told to; not known stops', async () => {
    let p95: number | null = null;
    const throttle = { ...NO_BRAKES, appP95: { ms: 100 }, everyMs: 50 };
    const at = running(db, stepOf(fill), { throttle, appP95: async () => p95 });
    const done = runStep(at.context);
    await until(async () =>
      at.progress.some(({ throttledBy }) => throttledBy === 'the application latency is not known'),
    );
    p95 = 250;
    await until(async () =>
      at.progress.some(({ throttledBy }) => throttledBy === 'application latency 250.0 ms is over 100.0 ms'),
    );
    p95 = 20;
    const outcome = await done;
    expect(outcome.rows).toBe(5_000);
    expect(outcome.throttledMs['app-p95']).toBeGreaterThan(50);
    // A server without pg_stat_statements does not know either.
    await withSession(target('app', db.url), { purpose: 'test' }, async (observer) => {
      const { brake } = await readBrakes({ observer, replicas: [], tables: [], limits: throttle }, {});
      expect(brake).toEqual({ name: 'app-p95', reason: 'the application latency is not known' });
    });
  });
});
