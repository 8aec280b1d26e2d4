import type { BackfillRun, CreateIndexRun, TransactionRun } from '../../plan/model/steps';
import { runStep } from '../../postgres/engine';
import { beginAttempt, fenceAndRecord } from '../../postgres/fence';
import { withSession } from '../../postgres/session';
import { target } from '../../postgres/types';
import type { FreshDatabase } from '../support/database';
import { describeVersions } from '../support/database';
import { codeOf, doStep, engineDatabase, MIGRATION, running, stepOf, until } from '../support/engine';

const T = { schema: 'public', name: 't' };

describeVersions('two attempts of one step', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(
      version,
      `CREATE TABLE t (id bigint PRIMARY KEY, a int, b int); INSERT INTO t SELECT g, g FROM generate_series(1, 5000) AS g`,
    );
  });
  afterEach(() => db.drop());
  const attempts = async (): Promise<number> =>
    Number((await db.query(`SELECT max(attempt) AS n FROM pgshift.steps`))[0]?.n ?? 0);

  test('the first, in the middle of its transaction, commits nothing', async () => {
    const slow: TransactionRun = {
      kind: 'transaction',
      lockFirst: [],
      statements: ['ALTER TABLE t ADD COLUMN first int', 'SELECT pg_sleep(20)'],
      long: true,
    };
    const first = codeOf(doStep(db, stepOf(slow)));
    await until(async () => (await attempts()) === 1);
    const quick = { ...slow, statements: ['ALTER TABLE t ADD COLUMN second int'] };
    expect(await doStep(db, stepOf(quick))).toMatchObject({ status: 'done', attempts: 2 });
    expect(await first).toBe('ServerRestarting');
    const columns = await db.query(
      `SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attname IN ('first', 'second')`,
    );
    expect(columns).toEqual([{ attname: 'second' }]);
  });

  test('an outdated epoch stops a transaction at its first write', async () => {
    await withSession(target('app', db.url), { purpose: 'test' }, async (session) => {
      const ref = { migration: MIGRATION, stepId: 'x', phase: 'expand' as const };
      const signal = new AbortController().signal;
      const one = await beginAttempt(session, ref, 'do', signal);
      const two = await beginAttempt(session, ref, 'do', signal);
      if (one.state !== 'begun' || two.state !== 'begun') throw new Error('not begun');
      expect(await codeOf(fenceAndRecord(session, one.attempt, undefined))).toBe('FenceBroken');
      expect(await codeOf(fenceAndRecord(session, two.attempt, undefined))).toBe('none');
    });
  });

  test('a batch of the first rolls back; the second does each row once', async () => {
    await db.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.001); RETURN new; END$$;
      CREATE TRIGGER slow BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION slow()`);
    const fill: BackfillRun = {
      kind: 'backfill',
      table: T,
      set: ['"b" = coalesce(t."b", 0) + 1'],
      pending: 'true',
      key: [{ name: 'id', type: 'bigint' }],
      quiet: false,
      column: 't.b',
    };
    const first = codeOf(doStep(db, stepOf(fill)));
    await until(async () => (await db.query(`SELECT 1 FROM pgshift.chunks`)).length > 0);
    expect(await doStep(db, stepOf(fill))).toMatchObject({ status: 'done', rows: 5000 });
    expect(['ServerRestarting', 'FenceBroken', 'Unreachable']).toContain(await first);
    expect(await db.query(`SELECT b, count(*)::int AS n FROM t GROUP BY b`)).toEqual([{ b: 1, n: 5000 }]);
  });

  test('a concurrent build of the first is ended, its leftover dropped, and built again', async () => {
    const run: CreateIndexRun = {
      kind: 'create-index',
      index: { schema: 'public', name: 't_a' },
      table: T,
      statement: 'CREATE INDEX CONCURRENTLY t_a ON public.t (a)',
      unique: false,
    };
    const writer = await db.client();
    await writer.query('BEGIN; UPDATE t SET a = a WHERE id = 1');
    const first = codeOf(doStep(db, stepOf(run)));
    await until(async () => (await db.query(`SELECT 1 FROM pg_class WHERE relname = 't_a'`)).length > 0);
    const at = running(db, stepOf(run));
    const second = runStep(at.context);
    await until(async () => (await attempts()) === 2);
    expect(['ServerRestarting', 'FenceBroken', 'Unreachable']).toContain(await first);
    await until(async () => at.progress.some(({ waitingFor }) => waitingFor?.includes('idle in transaction') === true));
    await writer.query('COMMIT');
    expect(await second).toMatchObject({ status: 'done' });
    const [index] = await db.query(`SELECT indisvalid, indisready FROM pg_index WHERE indexrelid = 't_a'::regclass`);
    expect(index).toEqual({ indisvalid: true, indisready: true });
    expect(await db.query(`SELECT count(*)::int AS n FROM pg_index WHERE indrelid = 't'::regclass`)).toEqual([
      { n: 2 },
    ]);
  });
});
