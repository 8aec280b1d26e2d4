/**
 * Failures that other tools were seen to have (M1 to M9), each repeated here: the worker dies where theirs died, clients write what theirs
 * wrote. Every test looks at the rows themselves, not at what the run says of them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ScenarioRun } from '../support/killRun';
import { rowsOf } from '../support/killRun';
import { storedSteps } from '../support/kills';
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

failure('M1: killed in the backfill, started again, told to complete: no value is lost', async () => {
  const plan = { sql: WIDER, gates: { validate: 'manual', contract: 'manual' }, hold: '0s' };
  await withRun(scenarioOf('m1', payments(ROWS), plan), async (run) => {
    const victim = run.worker('batch.after-commit:4');
    expect((await victim.exited).signal).toBe('SIGKILL');
    const done = (await chunksOf(run.database)).reduce((sum, chunk) => sum + chunk.rows, 0);
    expect(done).toBeGreaterThan(0);
    expect(done).toBeLessThan(ROWS);
    // The peer took this for an answer and dropped the old column.
    await approve(run, 'contract');
    run.worker();
    const again = await startAgain(run, { name: nameOf(run), database: 'app', sql: WIDER });
    expect(await endingOf(again)).toMatchObject({ type: 'NameInUse' });
    await waitsAt(run, 'validate');
    expect(await typeOf(run.database, 'amount')).toBe('numeric(10,2)');
    await approve(run, 'validate');
    expect(await endingOf(run.handle)).toMatchObject({ type: 'completed' });
    expect(await typeOf(run.database, 'amount')).toBe('numeric(14,4)');
    expect(await run.database.query(AMOUNTS_AS_SEEDED)).toEqual([{ wrong: 0, rows: ROWS }]);
    expect(await leftovers(run.database)).toEqual([]);
  });
});

failure('M2: killed while it validates and while it contracts, then taken back: clients keep their table', async () => {
  const sql = `${WIDER} ALTER TABLE payment ALTER COLUMN note SET NOT NULL;`;
  const scenario = scenarioOf('m2', payments(ROWS), { sql, gates: { validate: 'manual', contract: 'manual' } });
  await withRun(scenario, async (run) => {
    const before = await run.end(['payment']);
    await run.supervise([], waitsAt(run, 'validate'));
    const steps = await storedSteps(run.database);
    const validation = steps.find((step) => step.phase === 'validate' && step.run.kind === 'transaction');
    const swap = steps.find((step) => step.phase === 'contract')?.id ?? '';
    expect(validation).toBeDefined();
    const client = await startWriter(run.database, (c, n) =>
      c.query(`SELECT sum(amount), max(note) FROM payment WHERE payment_id = $1`, [1 + (n % ROWS)]),
    );
    await approve(run, 'validate');
    await run.supervise([`transaction.before-commit@${validation?.id ?? ''}`], waitsAt(run, 'contract'));
    await approve(run, 'contract');
    await run.supervise([`transaction.before-commit@${swap}`, `transaction.after-commit@${swap}`], holding(run));
    expect(await typeOf(run.database, 'amount')).toBe('numeric(14,4)');
    await run.handle.signal('rollback', { by: 'test' });
    const ending = await run.supervise([`undo.after@${swap}`], endingOf(run.handle));
    expect(ending.type).toBe('RolledBack');
    expect(await client.stop()).toBeGreaterThan(10);
    expect(await run.end(['payment'])).toEqual(before);
  });
});

failure('M3: killed at every end of contract and cleanup: the finished column stays', async () => {
  const scenario = scenarioOf('m3', payments(ROWS), { sql: WIDER, hold: '0s' });
  await withRun(scenario, async (run) => {
    const kills = [
      'transaction.after-commit@contract.1',
      'transaction.before-commit@cleanup.1',
      'transaction.after-commit@cleanup.1',
      'finish.before',
    ];
    expect(await run.supervise(kills, endingOf(run.handle))).toMatchObject({ type: 'completed' });
    expect(await typeOf(run.database, 'amount')).toBe('numeric(14,4)');
    expect(await run.database.query(AMOUNTS_AS_SEEDED)).toEqual([{ wrong: 0, rows: ROWS }]);
    expect(await leftovers(run.database)).toEqual([]);
  });
});

failure('M4: clients with an unusual search_path lose nothing', async () => {
  const paths = [`"new_version", public`, `''`, `pg_temp, "$user", pg_catalog`, `public, pgshift`];
  const setup = `${payments(ROWS)} CREATE SCHEMA new_version;`;
  await withRun(scenarioOf('m4', setup, { sql: WIDER, gates: { contract: 'manual' } }), async (run) => {
    run.worker();
    const writers = await Promise.all(
      paths.map((path, i) =>
        startWriter(run.database, async (client, n) => {
          if (n === 0) await client.query(`SET search_path = ${path}`);
          // Negative keys are the writers' own: key and amount tell what must be there.
          const key = -(1 + n * paths.length + i);
          await client.query('BEGIN');
          await client.query(`INSERT INTO public.payment (payment_id, amount) VALUES ($1::int, 0)`, [key]);
          await client.query(`UPDATE public.payment SET amount = -$1::int / 100.0 WHERE payment_id = $1`, [key]);
          await client.query('COMMIT');
        }),
      ),
    );
    const written = `SELECT count(*) FILTER (WHERE amount IS DISTINCT FROM round(-payment_id / 100.0, 2))::int AS wrong, count(*)::int AS rows
       FROM payment WHERE payment_id < 0`;
    await waitsAt(run, 'contract');
    await approve(run, 'contract');
    await holding(run);
    await sleep(300);
    const [held] = await run.database.query<{ wrong: number; rows: number }>(written);
    expect(held?.wrong).toBe(0);
    await run.handle.signal('rollback', { by: 'test' });
    expect(await endingOf(run.handle)).toMatchObject({ type: 'RolledBack' });
    const counts = await Promise.all(writers.map((writer) => writer.stop()));
    expect(Math.min(...counts)).toBeGreaterThan(5);
    const rows = counts.reduce((sum, count) => sum + count, 0);
    expect(rows).toBeGreaterThan(held?.rows ?? Infinity);
    expect(await run.database.query(written)).toEqual([{ wrong: 0, rows }]);
    expect(await typeOf(run.database, 'amount')).toBe('numeric(10,2)');
  });
});

failure('M5: collation, order, operator class, INCLUDE, predicate and expression of indexes survive', async () => {
  const indexes = `
    CREATE INDEX m5_collation ON payment (reference COLLATE "C");
    CREATE INDEX m5_order ON payment (reference DESC NULLS LAST, payment_id);
    CREATE INDEX m5_class ON payment (reference text_pattern_ops);
    CREATE INDEX m5_include ON payment (payment_id) INCLUDE (reference);
    CREATE INDEX m5_expression ON payment (lower(reference), (reference || 'x') COLLATE "C") WHERE reference <> 'none';
    CREATE UNIQUE INDEX m5_unique ON payment (reference) NULLS NOT DISTINCT WITH (fillfactor = 70);`;
  const sql = 'ALTER TABLE payment ALTER COLUMN reference TYPE varchar(60);';
  const definitions = `SELECT indexrelid::regclass::text AS name, indisvalid AS valid, indnkeyatts::int AS keys, pg_get_indexdef(indexrelid) AS definition,
      (SELECT reloptions::text FROM pg_class WHERE oid = indexrelid) AS options FROM pg_index WHERE indrelid = 'payment'::regclass ORDER BY 1`;
  await withRun(scenarioOf('m5', payments(ROWS, indexes), { sql, hold: '0s' }), async (run) => {
    // An expression over varchar prints its casts: what Postgres itself makes of the change is the measure.
    const twin = await run.database.client();
    await twin.query('BEGIN');
    await twin.query(sql);
    const { rows: expected } = await twin.query(definitions);
    await twin.query('ROLLBACK');
    await twin.end();
    expect(expected).toHaveLength(7);
    expect(await run.supervise([], endingOf(run.handle))).toMatchObject({ type: 'completed' });
    expect(await run.database.query(definitions)).toEqual(expected);
  });
});

failure('M6: an index is built although a writer keeps its transaction open', async () => {
  const sql = 'CREATE INDEX payment_note ON payment (note);';
  await withRun(scenarioOf('m6', payments(ROWS), { sql, lockTimeout: '100ms' }), async (run) => {
    const writer = await run.database.client();
    await writer.query('BEGIN');
    await writer.query(`UPDATE payment SET note = 'open' WHERE payment_id = 1`);
    run.worker();
    await run.until('build', (status) => status.step !== null);
    await sleep(3_000); // thirty times the lock timeout
    expect((await run.status()).status).not.toBe('failed');
    await writer.query('COMMIT');
    await writer.end();
    expect(await endingOf(run.handle)).toMatchObject({ type: 'completed' });
    expect(
      await run.database.query(
        `SELECT indexrelid::regclass::text AS name, indisvalid AS valid FROM pg_index WHERE indrelid = 'payment'::regclass ORDER BY 1`,
      ),
    ).toEqual([
      { name: 'payment_note', valid: true },
      { name: 'payment_pkey', valid: true },
    ]);
    expect(await run.database.query(`SELECT payment_id FROM payment WHERE note = 'open'`)).toEqual([{ payment_id: 1 }]);
  });
});

failure('M7: the second of three contracts fails, is mended, and the third is done too', async () => {
  const tables = ['m7_a', 'm7_b', 'm7_c'];
  const setup = tables
    .map(
      (t) =>
        `CREATE TABLE ${t} (id int PRIMARY KEY, v int); INSERT INTO ${t} SELECT i, i FROM generate_series(1, 300) i;`,
    )
    .join('\n');
  const sql = tables.map((t) => `ALTER TABLE ${t} ALTER COLUMN v TYPE bigint;`).join('\n');
  const plan = { sql, onFailure: 'pause', lockBudget: '1s', gates: { contract: 'manual' }, hold: '0s' };
  await withRun({ ...scenarioOf('m7', setup, plan), tables }, async (run) => {
    run.worker();
    await waitsAt(run, 'contract');
    const reader = await run.database.client();
    await reader.query('BEGIN');
    await reader.query('SELECT count(*) FROM m7_b');
    await approve(run, 'contract');
    const waiting = await run.until('a person', (status) => status.waitingFor?.type === 'person');
    expect(waiting.waitingFor?.reason).toMatch(/^contract\.2 failed: LockBudgetSpent/);
    expect(await Promise.all(tables.map((t) => typeOf(run.database, 'v', t)))).toEqual([
      'bigint',
      'integer',
      'integer',
    ]);
    await reader.query('COMMIT');
    await reader.end();
    await run.handle.signal('retry', { by: 'test', target: 'contract.2' });
    expect(await endingOf(run.handle)).toMatchObject({ type: 'completed' });
    expect(await Promise.all(tables.map((t) => typeOf(run.database, 'v', t)))).toEqual(['bigint', 'bigint', 'bigint']);
    expect(await leftovers(run.database)).toEqual([]);
    for (const t of tables) await run.database.query(`INSERT INTO ${t} VALUES (1000, 5000000000)`);
    expect(await run.database.query(`SELECT sum(v)::text AS sum FROM m7_c WHERE id <= 300`)).toEqual([
      { sum: '45150' },
    ]);
  });
});

failure('M8: killed three times in one backfill: it goes on each time and ends whole', async () => {
  const kills = ['batch.after-commit:2', 'batch.before-commit:3', 'batch.after-commit:2'];
  await withRun(scenarioOf('m8', payments(ROWS), { sql: WIDER, hold: '0s' }), async (run) => {
    expect(await run.supervise(kills, endingOf(run.handle))).toMatchObject({ type: 'completed' });
    expect(await run.database.query(AMOUNTS_AS_SEEDED)).toEqual([{ wrong: 0, rows: ROWS }]);
    const chunks = await chunksOf(run.database);
    expect(chunks.length).toBeGreaterThan(6);
    // Every row was filled once: what a killed attempt committed was never done again.
    expect(chunks.reduce((sum, chunk) => sum + chunk.rows, 0)).toBe(ROWS);
  });
});

failure('M9: an UPDATE to NULL in the middle of the copy is not undone by it', async () => {
  const sql = 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);';
  await withRun(scenarioOf('m9', payments(ROWS), { sql }), async (run) => {
    const victim = run.worker('batch.after-commit:4');
    await victim.exited;
    // Copied already, and not yet.
    await run.database.query(`UPDATE payment SET amount = NULL WHERE payment_id IN (1, 2, ${ROWS - 1}, ${ROWS})`);
    await run.database.query(`UPDATE payment SET amount = 7.77 WHERE payment_id IN (2, ${ROWS})`);
    const nulls = `SELECT array_agg(payment_id ORDER BY payment_id) AS ids FROM payment WHERE amount IS NULL`;
    run.worker();
    await holding(run);
    expect(await typeOf(run.database, 'amount')).toBe('numeric(14,4)');
    expect(await run.database.query(nulls)).toEqual([{ ids: [1, ROWS - 1] }]);
    await run.database.query(`UPDATE payment SET amount = NULL WHERE payment_id = 10`);
    await run.database.query(`UPDATE payment SET amount = 1.5 WHERE payment_id = 1`);
    const shown = await rowsOf(run.database, 'payment');
    await run.handle.signal('rollback', { by: 'test' });
    expect(await endingOf(run.handle)).toMatchObject({ type: 'RolledBack' });
    expect(await run.database.query(nulls)).toEqual([{ ids: [10, ROWS - 1] }]);
    expect(await rowsOf(run.database, 'payment')).toHaveLength(shown.length);
  });
});
