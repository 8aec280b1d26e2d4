import type { BackfillRun, ProofRun, Step, TransactionRun } from '../../plan/model/steps';
import { previewUndo, runStep } from '../../postgres/engine';
import type { FreshDatabase } from '../support/database';
import { describeVersions } from '../support/database';
import { codeOf, doStep, engineDatabase, MIGRATION, running, stepOf, takeBack, until } from '../support/engine';

const T = { schema: 'public', name: 't' };
const transaction = (...statements: string[]): TransactionRun => ({
  kind: 'transaction',
  lockFirst: [{ relation: T, mode: 'ACCESS EXCLUSIVE' }],
  statements,
  long: false,
});
const fill: BackfillRun = {
  kind: 'backfill',
  table: T,
  set: ['"b" = t."a" * 2'],
  pending: 't."b" IS DISTINCT FROM t."a" * 2',
  key: [{ name: 'id', type: 'bigint' }],
  quiet: false,
  column: 't.b',
};

describeVersions('a step', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(
      version,
      `CREATE TABLE t (id bigint PRIMARY KEY, a int, b int);
       INSERT INTO t SELECT g, g FROM generate_series(1, 20000) AS g; ANALYZE t`,
    );
  });
  afterEach(() => db.drop());
  const stepRow = async (id = 'expand.1'): Promise<Record<string, unknown>> =>
    (await db.query(`SELECT * FROM pgshift.steps WHERE migration_name = '${MIGRATION}' AND step_id = '${id}'`))[0] ??
    {};

  test('runs a transaction once, records it and its locks, and takes it back', async () => {
    const step = stepOf(transaction('ALTER TABLE public.t ADD COLUMN c int'), [
      transaction('ALTER TABLE public.t DROP COLUMN IF EXISTS c'),
    ]);
    const first = await doStep(db, step);
    expect(first).toMatchObject({ status: 'done', attempts: 1 });
    expect(first.locks).toEqual([expect.objectContaining({ relation: 'public.t', mode: 'ACCESS EXCLUSIVE' })]);
    expect(first.locks[0]!.heldMs).toBeGreaterThan(0);
    const second = await doStep(db, step);
    expect(second).toMatchObject({ status: 'already' });
    expect(second.locks).toHaveLength(1);
    expect(await stepRow()).toMatchObject({ status: 'done', attempt: 1, epoch: '1' });

    expect(await takeBack(db, step)).toMatchObject({ status: 'done' });
    expect(
      await db.query(
        `SELECT 1 FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'c' AND NOT attisdropped`,
      ),
    ).toEqual([]);
    expect(await takeBack(db, step)).toMatchObject({ status: 'already' });
    expect(await codeOf(doStep(db, step))).toBe('NotNow');
  });

  test('is not taken back when it never began, and cannot begin afterwards', async () => {
    const step = stepOf(transaction('ALTER TABLE public.t ADD COLUMN c int'), [transaction('SELECT 1/0')]);
    expect(await takeBack(db, step)).toMatchObject({ status: 'done' });
    expect(await stepRow()).toMatchObject({ status: 'undone' });
    expect(await codeOf(doStep(db, step))).toBe('NotNow');
  });

  test('sees a lock that the plan did not name', async () => {
    await db.query(`CREATE TABLE other (id int)`);
    const run: TransactionRun = {
      kind: 'transaction',
      lockFirst: [],
      statements: ['LOCK TABLE other IN SHARE MODE'],
      long: false,
    };
    const { locks } = await doStep(db, stepOf(run));
    expect(locks).toEqual([expect.objectContaining({ relation: 'public.other', mode: 'SHARE' })]);
    expect(await db.query(`SELECT relation, mode FROM pgshift.locks_held`)).toEqual([
      { relation: 'public.other', mode: 'SHARE' },
    ]);
  });

  test('fails whole, with a code and without the row’s value', async () => {
    const step = stepOf(transaction('ALTER TABLE public.t ADD COLUMN c int', `SELECT 'secret-value'::int`));
    const error = await doStep(db, step).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'StepFailed', details: { sqlstate: '22P02' } });
    expect(JSON.stringify([error, String(error)])).not.toContain('secret-value');
    expect(await stepRow()).toMatchObject({ status: 'failed' });
    const log = await db.query(`SELECT level, message, error_details->>'sqlstate' AS s FROM pgshift.migration_log`);
    expect(log).toEqual([expect.objectContaining({ level: 'error', s: '22P02' })]);
    expect(JSON.stringify(log)).not.toContain('secret-value');
  });

  describe.each([
    ['by key', fill],
    ['by ctid', { ...fill, key: null }],
  ])('backfill %s', (_name, run) => {
    test('fills every row, with chunks and progress', async () => {
      const at = running(db, stepOf(run));
      const outcome = await runStep(at.context);
      expect(outcome.rows).toBe(20_000);
      expect(await db.query(`SELECT count(*)::int AS n FROM t WHERE b = a * 2`)).toEqual([{ n: 20_000 }]);
      expect(await db.query(`SELECT sum(rows)::int AS n FROM pgshift.chunks`)).toEqual([{ n: 20_000 }]);
      expect(at.progress.at(-1)).toMatchObject({ rowsDone: at.progress.at(-1)!.rowsTotal });
      const [row] = await db.query(`SELECT table_name, rows_done::int, percent::float FROM pgshift.migration_progress`);
      expect(row).toMatchObject({ table_name: 'public.t', percent: 100 });
      expect(outcome.locks).toEqual([expect.objectContaining({ relation: 'public.t', mode: 'ROW EXCLUSIVE' })]);
    });
  });

  test('a cancelled backfill goes on where it stopped', async () => {
    await db.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.0002); RETURN new; END$$;
      CREATE TRIGGER slow BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION slow()`);
    const at = running(db, stepOf(fill));
    const ended = codeOf(runStep(at.context));
    await until(async () => (await db.query(`SELECT 1 FROM pgshift.chunks`)).length > 0);
    at.abort();
    expect(await ended).toBe('AbortError');
    const done = await db.query<{ n: number }>(`SELECT count(*)::int AS n FROM t WHERE b IS NOT NULL`);
    expect(done[0]!.n).toBeGreaterThan(0);
    expect(done[0]!.n).toBeLessThan(20_000);
    expect(await stepRow()).toMatchObject({ status: 'pending' });
    await db.query(`DROP TRIGGER slow ON t`);
    const outcome = await doStep(db, stepOf(fill));
    expect(outcome).toMatchObject({ rows: 20_000, attempts: 2 });
    expect(await db.query(`SELECT sum(rows)::int AS n FROM pgshift.chunks`)).toEqual([{ n: 20_000 }]);
  });

  test('a transform that fails names the keys, not the values', async () => {
    await db.query(`UPDATE t SET a = 2000000000 WHERE id IN (77, 9999, 15001)`);
    const error = await doStep(db, stepOf(fill)).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'TransformFailed', details: { rows: 3, complete: true, sqlstate: '22003' } });
    expect(JSON.stringify([error, String(error)])).not.toContain('2000000000');
    expect(await db.query(`SELECT key, column_name, rule FROM pgshift.differences ORDER BY (key->>'id')::int`)).toEqual(
      [
        { key: { id: '77' }, column_name: 'b', rule: 'transform' },
        { key: { id: '9999' }, column_name: 'b', rule: 'transform' },
        { key: { id: '15001' }, column_name: 'b', rule: 'transform' },
      ],
    );
  });

  const proofStep = (key: BackfillRun['key'] = fill.key): Step =>
    stepOf(
      {
        kind: 'proof',
        table: T,
        key,
        checks: [
          {
            column: 't.b',
            remaining: 't.b IS NULL AND t.a IS NOT NULL',
            differing: 'record_image_ne(row(t.a * 2), row(t.b))',
            oldImage: 'row(t.a * 2)',
            newImage: 'row(t.b)',
          },
        ],
        onDiffer: 'refuse',
      },
      [],
      'validate.1',
    );

  test.each([[fill.key], [null]])('a proof holds, and refuses one corrupt row (key %j)', async (key) => {
    await doStep(db, stepOf(fill));
    const proved = await doStep(db, proofStep(key));
    expect(proved.proofs).toEqual([
      expect.objectContaining({ column: 't.b', rows: 20_000, remaining: 0, differing: 0, equal: true }),
    ]);
    expect(proved.proofs[0]!.fingerprintOld).toBe(proved.proofs[0]!.fingerprintNew);
    await db.query(`DELETE FROM pgshift.steps WHERE step_id = 'validate.1'; DELETE FROM pgshift.lanes WHERE step_id = 'validate.1';
                    UPDATE t SET b = b + 1 WHERE id = 12345; UPDATE t SET b = NULL WHERE id = 5`);
    const error = await doStep(db, proofStep(key)).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'ProofFailed', details: { proofs: [{ remaining: 1, differing: 2 }] } });
    const listed = await db.query<{ key: Record<string, string>; reason: string }>(
      `SELECT key, reason FROM pgshift.differences ORDER BY id`,
    );
    expect(listed.map(({ reason }) => reason).sort()).toEqual(['differs', 'not filled']);
    if (key) expect(listed.map((row) => row.key.id).sort()).toEqual(['12345', '5']);
    await db.query(`UPDATE t SET b = a * 2`);
    expect(await doStep(db, proofStep(key))).toMatchObject({ status: 'done' });
  });

  describe('a quiet backfill', () => {
    const quiet = { ...fill, quiet: true };
    beforeEach(() =>
      db.query(`CREATE TABLE fired (id int); CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO fired VALUES (1); RETURN new; END$$;
        CREATE TRIGGER fire AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION fire()`),
    );
    test('does not fire the user’s triggers', async () => {
      expect(await doStep(db, stepOf(quiet))).toMatchObject({ rows: 20_000 });
      expect(await db.query(`SELECT * FROM fired`)).toEqual([]);
    });
    test('names the GRANT when it may not', async () => {
      const role = `r_${db.name}`;
      await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA pgshift TO ${role}; ALTER TABLE t OWNER TO ${role};
        GRANT ALL ON ALL TABLES IN SCHEMA pgshift TO ${role}; GRANT ALL ON fired TO ${role}`);
      const url = new URL(db.url);
      url.username = role;
      url.password = 'x';
      const error = await runStep(running(db, stepOf(quiet), {}, url.toString()).context).catch(
        (caught: unknown) => caught,
      );
      expect(error).toMatchObject({ code: 'PrivilegeMissing' });
      if (version >= 15)
        expect(error).toMatchObject({ hint: `GRANT SET ON PARAMETER session_replication_role TO "${role}";` });
      await db.query(`DROP TRIGGER fire ON t`);
      expect(await runStep(running(db, stepOf(quiet), {}, url.toString()).context)).toMatchObject({ rows: 20_000 });
      await db.query(`REASSIGN OWNED BY ${role} TO CURRENT_USER; DROP OWNED BY ${role}; DROP ROLE ${role}`);
    });
  });

  test('a way back goes on behind the run that is recorded', async () => {
    const step = stepOf(transaction('ALTER TABLE public.t ADD COLUMN c int'), [
      transaction('CREATE TABLE undone (n int)', 'INSERT INTO undone VALUES (1)'),
      transaction("SELECT 1 / (SELECT count(*) FROM pg_class WHERE relname = 'now')"),
      transaction('ALTER TABLE t DROP COLUMN IF EXISTS c'),
    ]);
    await doStep(db, step);
    expect(await codeOf(takeBack(db, step))).toBe('StepFailed');
    expect(await stepRow()).toMatchObject({ status: 'undoing', checkpoint: { undone: 1 } });
    await db.query(`CREATE TABLE now (n int)`);
    expect(await takeBack(db, step)).toMatchObject({ status: 'done', attempts: 3 });
    expect(await db.query(`SELECT * FROM undone`)).toEqual([{ n: 1 }]);
    expect(await stepRow()).toMatchObject({ status: 'undone' });
  });

  test('rows that cannot go back are counted and listed before anything is taken back', async () => {
    await doStep(db, stepOf(fill));
    await db.query(`UPDATE t SET b = NULL WHERE id IN (3, 4)`);
    const report = { ...(proofStep().run as ProofRun), onDiffer: 'report' as const };
    const step = stepOf(transaction('SELECT 1'), [{ ...report, onlyWhen: 'false' }, report]);
    const proofs = await previewUndo(running(db, step).context);
    expect(proofs).toEqual([expect.objectContaining({ rows: 20_000, remaining: 2, equal: false })]);
    const listed = await db.query<{ key: { id: string } }>(
      `SELECT key FROM pgshift.differences WHERE rule = 'way-back' ORDER BY id`,
    );
    expect(listed.map(({ key }) => key.id).sort()).toEqual(['3', '4']);
    await previewUndo(running(db, step).context);
    expect(await db.query(`SELECT 1 FROM pgshift.differences`)).toHaveLength(2);
    await doStep(db, step);
    expect(await takeBack(db, step)).toMatchObject({ status: 'done', proofs: [{ remaining: 2 }] });
  });

  test('a server that goes away in the middle is a reason to try again, and the next attempt goes on', async () => {
    await db.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.0002); RETURN new; END$$;
      CREATE TRIGGER slow BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION slow()`);
    const ended = codeOf(doStep(db, stepOf(fill)));
    await until(async () => (await db.query(`SELECT 1 FROM pgshift.chunks`)).length > 0);
    await db.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgshift/%'`,
    );
    expect(['ServerRestarting', 'Unreachable']).toContain(await ended);
    await db.query(`DROP TRIGGER slow ON t`);
    expect(await doStep(db, stepOf(fill))).toMatchObject({ rows: 20_000, attempts: 2 });
  });
});
