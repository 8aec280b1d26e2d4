/**
 * Reports of users of other tools (R1 to R16), each repeated here on a real server: what they lost, waited for or had to clean up by hand is
 * looked for afterwards.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ScenarioRun } from '../support/killRun';
import { endState } from '../support/killRun';
import {
  AMOUNTS_AS_SEEDED,
  chunksOf,
  endingOf,
  leftovers,
  nameOf,
  payments,
  scenarioOf,
  startAgain,
  startWriter,
  typeOf,
  withRun,
} from '../support/field';
import { drawnTests } from '../support/whole';

jest.setTimeout(180_000);

const failure = drawnTests();

const ROWS = 4_000;
const WIDER = 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);';
const waitsAt = (run: ScenarioRun, gate: string) =>
  run.until(`gate ${gate}`, (status) => status.waitingFor?.gate === gate);
const approve = (run: ScenarioRun, gate: string) => run.handle.signal('approve', { by: 'test', gate });
const holding = (run: ScenarioRun) => run.until('hold', (status) => status.status === 'holding');
const completed = async (run: ScenarioRun) =>
  // Whole, so that a failure says why.
  expect(await run.supervise([], endingOf(run.handle))).toEqual({ type: 'completed', message: '', details: {} });

failure('R1: the runner dies at 95 % of a backfill: the rest is done, nothing else again', async () => {
  // 500 rows are the largest batch, so that the 20th lies at 95 % or later.
  const throttle = { batch: { target: '2s', min: 500, max: 500 }, every: '100ms' };
  await withRun(scenarioOf('r1', payments(10_000), { sql: WIDER, throttle, hold: '0s' }), async (run) => {
    await run.worker('batch.after-commit:19').exited;
    const before = await chunksOf(run.database);
    const done = before.reduce((sum, chunk) => sum + chunk.rows, 0);
    expect(done).toBeGreaterThanOrEqual(9_000);
    expect(done).toBeLessThan(10_000);
    await completed(run);
    const after = await chunksOf(run.database);
    expect(after.slice(0, before.length)).toEqual(before);
    expect(after.slice(before.length).reduce((sum, chunk) => sum + chunk.rows, 0)).toBe(10_000 - done);
    expect(await run.database.query(AMOUNTS_AS_SEEDED)).toEqual([{ wrong: 0, rows: 10_000 }]);
  });
});

failure('R2: `up` fails half way, a view cannot be made: the state is clean and the next run possible', async () => {
  const setup = payments(
    ROWS,
    `UPDATE payment SET reference = payment_id; UPDATE payment SET reference = 'x' WHERE payment_id = ${ROWS - 9};`,
  );
  const sql = 'ALTER TABLE payment ADD COLUMN tier text; ALTER TABLE payment ALTER COLUMN reference TYPE bigint;';
  const transforms = { 'payment.reference': { up: 'reference::bigint', down: 'reference::text' } };
  await withRun(scenarioOf('r2', setup, { sql, transforms, hold: '0s' }), async (run) => {
    const before = await run.end(['payment']);
    run.worker();
    const first = await endingOf(run.handle);
    expect(first).toMatchObject({ type: 'RolledBack', details: { cause: 'TransformFailed' } });
    expect(await run.end(['payment'])).toEqual(before);

    const name = nameOf(run);
    const view = `ALTER TABLE payment ADD COLUMN tier text; CREATE VIEW paid AS SELECT no_such_column FROM payment;`;
    expect((await endingOf(await startAgain(run, { name, database: 'app', sql: view }))).type).not.toBe('completed');
    expect(await run.end(['payment'])).toEqual(before);

    await run.database.query(`UPDATE payment SET reference = '0' WHERE reference = 'x'`);
    const last = await startAgain(run, { name, database: 'app', sql, transforms, hold: '0s' });
    expect(await endingOf(last)).toMatchObject({ type: 'completed' });
    expect(await typeOf(run.database, 'reference')).toBe('bigint');
    expect(await leftovers(run.database)).toEqual([]);
  });
});

failure('R3: the backfill ends although rows are inserted all the time', async () => {
  const throttle = { batch: { target: '50ms', min: 100, max: 200 }, every: '100ms' };
  await withRun(scenarioOf('r3', payments(ROWS), { sql: WIDER, throttle, hold: '0s' }), async (run) => {
    const writer = await startWriter(
      run.database,
      (client) =>
        client.query(`INSERT INTO payment (amount, reference) SELECT 1.25, 'inserted' FROM generate_series(1, 50)`),
      20,
    );
    await completed(run);
    const inserts = await writer.stop();
    expect(inserts).toBeGreaterThan(10);
    const [reach] = await run.database.query<{ mark: number; last: number }>(
      `SELECT (SELECT max(substring(upper_key FROM '[0-9]+')::int) FROM pgshift.chunks WHERE step_id LIKE 'backfill%') AS mark,
              (SELECT max(payment_id) FROM payment) AS last`,
    );
    // It never ran after the end: the mark was fixed when it began.
    expect(reach?.mark).toBeGreaterThanOrEqual(ROWS);
    expect(reach?.mark).toBeLessThan(reach?.last ?? 0);
    expect(
      await run.database.query(
        `SELECT count(*) FILTER (WHERE amount IS DISTINCT FROM CASE reference WHEN 'inserted' THEN 1.25 ELSE (payment_id % 10007) / 100.0 END)::int AS wrong, count(*)::int AS rows FROM payment`,
      ),
    ).toEqual([{ wrong: 0, rows: ROWS + inserts * 50 }]);
  });
});

failure('R4: primary key, identity and owned sequence survive the swap of their column, and the way back', async () => {
  const setup = payments(
    ROWS,
    `ALTER TABLE payment ADD COLUMN number serial;
     CREATE TABLE refund (id int PRIMARY KEY, payment_id int REFERENCES payment);
     INSERT INTO refund SELECT i, i FROM generate_series(1, 100) AS i;
     SELECT setval(pg_get_serial_sequence('payment', 'payment_id'), 70000);`,
  );
  const sql = `ALTER TABLE payment ALTER COLUMN payment_id TYPE bigint; ALTER TABLE payment ALTER COLUMN number TYPE bigint;`;
  await withRun(scenarioOf('r4', setup, { sql }), async (run) => {
    const before = await run.end([]);
    const shape = `SELECT (SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'payment'::regclass AND contype = 'p') AS key,
      pg_get_serial_sequence('payment', 'payment_id') AS identity, pg_get_serial_sequence('payment', 'number') AS serial,
      (SELECT attidentity::text FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'payment_id') AS generated,
      (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'refund'::regclass AND contype = 'f') AS foreign`;
    const insert = `INSERT INTO payment (amount) VALUES (1) RETURNING payment_id::text AS id, number::text AS number`;
    const was = await run.database.query(shape);
    run.worker();
    await holding(run);
    expect(await typeOf(run.database, 'payment_id')).toBe('bigint');
    expect(await run.database.query(shape)).toEqual(was);
    expect(await run.database.query(insert)).toEqual([{ id: '70001', number: String(ROWS + 1) }]);
    // Refused, but its number is taken.
    await expect(run.database.query(`INSERT INTO payment (payment_id) VALUES (1)`)).rejects.toThrow(/payment_pkey/);
    await run.handle.signal('rollback', { by: 'test' });
    expect(await endingOf(run.handle)).toMatchObject({ type: 'RolledBack' });
    expect((await run.end([])).catalog).toEqual(before.catalog);
    expect(await run.database.query(insert)).toEqual([{ id: '70002', number: String(ROWS + 3) }]);
  });
});

failure('R7: an invalid index of that name is rebuilt, IF NOT EXISTS notwithstanding', async () => {
  const setup = payments(
    ROWS,
    `CREATE INDEX payment_note ON payment (note); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'payment_note'::regclass;`,
  );
  const sql = 'CREATE INDEX CONCURRENTLY IF NOT EXISTS payment_note ON payment (note);';
  await withRun(scenarioOf('r7', setup, { sql }), async (run) => {
    // Its own death in the middle leaves one more.
    expect(await run.supervise(['index.building'], endingOf(run.handle))).toMatchObject({ type: 'completed' });
    expect(
      await run.database.query(
        `SELECT indexrelid::regclass::text AS name, indisvalid AS valid, indisready AS ready FROM pg_index
          WHERE indrelid = 'payment'::regclass AND NOT indisprimary`,
      ),
    ).toEqual([{ name: 'payment_note', valid: true, ready: true }]);

    // Nor is a valid one of that name taken for what was asked when it is another.
    const other = 'CREATE INDEX IF NOT EXISTS payment_note ON payment (reference);';
    const ending = await startAgain(run, { name: 'r7_other', database: 'app', sql: other });
    run.worker();
    expect((await endingOf(ending)).type).toBe('Refused');
  });
});

failure('R8: two runners build indexes and fill columns of one table at once: no deadlock', async () => {
  const plan = (n: number) => ({
    sql: `CREATE INDEX r8_${n} ON payment (note, amount); ALTER TABLE payment ADD COLUMN r8_${n} uuid NOT NULL DEFAULT gen_random_uuid();`,
    throttle: { batch: { target: '100ms', min: 100, max: 500 } },
  });
  await withRun(scenarioOf('r8', payments(ROWS), plan(1)), async (run) => {
    const other = await startAgain(run, { name: `${nameOf(run)}_b`, database: 'app', ...plan(2) });
    run.worker();
    run.worker();
    const endings = await Promise.all([endingOf(run.handle), endingOf(other)]);
    expect(endings.map(({ type }) => type)).toEqual(['completed', 'completed']);
    expect(
      await run.database.query(
        `SELECT (SELECT count(*)::int FROM pg_index WHERE indrelid = 'payment'::regclass AND indisvalid) AS indexes,
                (SELECT count(*)::int FROM payment WHERE r8_1 IS NULL OR r8_2 IS NULL) AS empty,
                (SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()) AS deadlocks`,
      ),
    ).toEqual([{ indexes: 3, empty: 0, deadlocks: 0 }]);
  });
});

failure(
  'R9: a killed runner leaves no lock; a cancelled batch is one batch; no scan of the table for each batch',
  async () => {
    const setup = payments(10_000);
    await withRun(scenarioOf('r9', setup, { sql: WIDER, hold: '0s' }), async (run) => {
      await run.worker('batch.after-commit:3').exited;
      await run.database.query(`SET lock_timeout = '2s'; LOCK TABLE payment IN ACCESS EXCLUSIVE MODE`);
      expect(
        await run.database.query(
          `SELECT count(*)::int AS left FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE datname = current_database() AND pid <> pg_backend_pid()`,
        ),
      ).toEqual([{ left: 0 }]);
      // A row that somebody holds makes a batch wait, so that there is one to cancel.
      const blocker = await run.database.client();
      await blocker.query(`BEGIN; SELECT payment_id FROM payment WHERE payment_id = 9000 FOR UPDATE`);
      let cancelled = 0;
      let freed = false;
      const canceller = await startWriter(
        run.database,
        async (client) => {
          const { rows } = await client.query<{ ended: boolean }>(
            `SELECT pg_cancel_backend(pid) AS ended FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE '%UPDATE%payment%' AND pid <> pg_backend_pid()`,
          );
          cancelled += rows.length;
          if (cancelled >= 3 && !freed) {
            freed = true;
            await blocker.query('COMMIT');
          }
        },
        1,
      );
      // What a short statement_timeout does to whoever does not expect it. This test's own looks may be slower.
      await run.database.query(`ALTER DATABASE ${run.database.name} SET statement_timeout = '50ms'`);
      await completed(run);
      await canceller.stop();
      await run.database.query(`ALTER DATABASE ${run.database.name} RESET statement_timeout`);
      expect(cancelled).toBeGreaterThanOrEqual(3);
      expect(await run.database.query(AMOUNTS_AS_SEEDED)).toEqual([{ wrong: 0, rows: 10_000 }]);
      const chunks = await chunksOf(run.database);
      expect(chunks.reduce((sum, chunk) => sum + chunk.rows, 0)).toBe(10_000);
      const [scans] = await run.database.query<{ read: number }>(
        `SELECT seq_tup_read::int AS read FROM pg_stat_user_tables WHERE relname = 'payment'`,
      );
      // Validation, proof, ANALYZE and this test's own looks read the table whole; some twenty batches must not.
      expect(scans?.read).toBeLessThan(chunks.length * 5_000);
    });
  },
);

failure('R9: a build that somebody cancels begins again by itself', async () => {
  const setup = payments(
    500,
    `CREATE FUNCTION slow(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(0.002); RETURN $1; END';`,
  );
  await withRun(scenarioOf('r9b', setup, { sql: 'CREATE INDEX r9b ON payment (slow(amount));' }), async (run) => {
    let cancelled = 0;
    const canceller = await startWriter(
      run.database,
      async (client) => {
        if (cancelled > 0) return;
        const { rows } = await client.query(
          `SELECT pg_cancel_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'active' AND query ILIKE 'CREATE INDEX%slow%'`,
        );
        cancelled += rows.length;
      },
      5,
    );
    run.worker();
    await completed(run);
    await canceller.stop();
    expect(cancelled).toBe(1);
    expect(
      await run.database.query(
        `SELECT indexrelid::regclass::text AS name, indisvalid AS valid FROM pg_index WHERE indrelid = 'payment'::regclass AND NOT indisprimary`,
      ),
    ).toEqual([{ name: 'r9b', valid: true }]);
  });
});

failure('R11: WAL grows too fast: it slows down by itself, and no transaction is long', async () => {
  const throttle = { maxWalRate: '1kB/s', batch: { target: '50ms', min: 100, max: 500 }, every: '100ms' };
  await withRun(scenarioOf('r11', payments(10_000), { sql: WIDER, throttle, hold: '0s' }), async (run) => {
    let longest = 0;
    const watcher = await startWriter(
      run.database,
      async (client) => {
        const { rows } = await client.query<{ ms: number | null }>(
          `SELECT max(extract(epoch FROM clock_timestamp() - xact_start) * 1000)::float8 AS ms FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE '%pgshift%'`,
        );
        longest = Math.max(longest, rows[0]?.ms ?? 0);
      },
      20,
    );
    // A neighbour that writes all the time: WAL goes over the limit whatever we do.
    const neighbour = await startWriter(run.database, (client) =>
      client.query(`UPDATE payment SET note = 'busy' WHERE payment_id = 1`),
    );
    run.worker();
    await run.until('backfill', (status) => status.phase === 'backfill');
    await sleep(2_000);
    const slowed = (await chunksOf(run.database)).length;
    await sleep(2_000);
    expect((await chunksOf(run.database)).length - slowed).toBeLessThan(3);
    expect(await typeOf(run.database, 'amount')).toBe('numeric(10,2)');
    await neighbour.stop();
    await run.handle.signal('tune', { by: 'test', throttle: 'none' });
    expect(await endingOf(run.handle)).toMatchObject({ type: 'completed' });
    await watcher.stop();
    const { measured } = await run.report();
    expect((measured['throttledMs'] as Record<string, number>)['wal-rate']).toBeGreaterThan(500);
    expect(longest).toBeLessThan(5_000);
  });
});

failure('R14: duplicates under a unique constraint are found before, and no row is dropped', async () => {
  const setup = payments(ROWS, `UPDATE payment SET reference = 'twice' WHERE payment_id IN (7, 8);`);
  const sql = 'ALTER TABLE payment ADD CONSTRAINT payment_reference_key UNIQUE (reference);';
  await withRun(scenarioOf('r14', setup, { sql }), async (run) => {
    const before = await run.end(['payment']);
    const ending = await run.supervise([], endingOf(run.handle));
    expect(ending).toMatchObject({ type: 'RolledBack', details: { cause: 'DuplicateRows' } });
    expect(JSON.stringify(ending)).not.toContain('twice');
    expect(await run.end(['payment'])).toEqual(before);
    const keys = await run.database.query<{ key: unknown }>(`SELECT key FROM pgshift.differences`);
    expect(JSON.stringify(keys)).toMatch(/7.*8|twice/);
  });
});

failure('R16: approve and cancel at the same moment: exactly one wins', async () => {
  for (const first of ['approve', 'cancel', 'reject'] as const)
    await withRun(
      scenarioOf('r16', payments(500), { sql: WIDER, gates: { contract: 'manual' }, hold: '0s' }),
      async (run) => {
        const before = await endState(run.database, ['payment']);
        run.worker();
        await waitsAt(run, 'contract');
        const no = () =>
          first === 'reject' ? run.handle.signal('reject', { by: 'bob', gate: 'contract' }) : run.handle.cancel();
        const both = first === 'approve' ? [approve(run, 'contract'), no()] : [no(), approve(run, 'contract')];
        await Promise.all(both);
        const { type } = await endingOf(run.handle);
        const { status, approvals } = await run.status();
        if (type === 'completed') {
          expect(status).toBe('completed');
          expect(await typeOf(run.database, 'amount')).toBe('numeric(14,4)');
          expect(await leftovers(run.database)).toEqual([]);
        } else {
          expect(['Cancelled', 'RolledBack']).toContain(type);
          expect(await endState(run.database, ['payment'])).toEqual(before);
        }
        expect(new Set(approvals.map(({ verdict }) => verdict)).size).toBeLessThanOrEqual(1);
        expect(await run.database.query(AMOUNTS_AS_SEEDED)).toEqual([{ wrong: 0, rows: 500 }]);
      },
    );
});
