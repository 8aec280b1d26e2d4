import type { TransactionRun } from '../../plan/model/steps';
import { runStep } from '../../postgres/engine';
import type { FreshDatabase } from '../support/database';
import { describeVersions } from '../support/database';
import { codeOf, doStep, engineDatabase, running, stepOf, until } from '../support/engine';

const lock = (name: string): TransactionRun['lockFirst'][number] => ({
  relation: { schema: 'public', name },
  mode: 'ACCESS EXCLUSIVE',
});
const alter: TransactionRun = {
  kind: 'transaction',
  lockFirst: [lock('t')],
  statements: ['ALTER TABLE t ADD COLUMN c int'],
  long: false,
};

describeVersions('the lock ladder', (version) => {
  let db: FreshDatabase;
  beforeEach(async () => {
    db = await engineDatabase(version, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int)`);
  });
  afterEach(() => db.drop());

  test('waits beside the queue: readers go on while somebody sits on the table', async () => {
    const sitter = await db.client();
    await sitter.query('BEGIN; SELECT * FROM t');
    const at = running(db, stepOf(alter));
    const done = runStep(at.context);
    const reader = await db.client();
    let longest = 0;
    for (const end = Date.now() + 2_500; Date.now() < end;) {
      const from = performance.now();
      await reader.query('SELECT * FROM t');
      longest = Math.max(longest, performance.now() - from);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(at.progress.some(({ waitingFor }) => waitingFor?.includes('idle in transaction') === true)).toBe(true);
    await sitter.query('COMMIT');
    expect(await done).toMatchObject({ status: 'done' });
    expect(longest).toBeLessThan(300 + 100);
  });

  test('names the blockers when the budget is spent, and changes nothing', async () => {
    const sitter = await db.client();
    const [{ pid }] = (await sitter.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows as [{ pid: number }];
    await sitter.query('BEGIN; SELECT * FROM t');
    const error = await doStep(db, stepOf(alter), { lockBudgetMs: 1_200 }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'LockBudgetSpent' });
    expect((error as { details: { blockers: unknown[] } }).details.blockers).toEqual([
      expect.objectContaining({ pid, applicationName: 'pgshift-test', state: 'idle in transaction' }),
    ]);
    expect(JSON.stringify(error)).not.toContain('SELECT');
    await sitter.query('COMMIT');
    // A new attempt of a failed step has a new budget.
    expect(await doStep(db, stepOf(alter), { lockBudgetMs: 1_200 })).toMatchObject({ status: 'done' });
  });

  test('a later lock is not waited for: the first is given back at once', async () => {
    const sitter = await db.client();
    await sitter.query('BEGIN; SELECT * FROM u');
    const both = { ...alter, lockFirst: [lock('t'), lock('u')] };
    const done = runStep(running(db, stepOf(both)).context);
    const reader = await db.client();
    let longest = 0;
    for (const end = Date.now() + 1_500; Date.now() < end;) {
      const from = performance.now();
      await reader.query('SELECT * FROM t');
      longest = Math.max(longest, performance.now() - from);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await sitter.query('COMMIT');
    expect(await done).toMatchObject({ status: 'done' });
    expect(longest).toBeLessThan(200);
  });

  test('records how long it really waited', async () => {
    const sitter = await db.client();
    await sitter.query('BEGIN; SELECT * FROM t');
    const done = runStep(running(db, stepOf({ ...alter, lockFirst: [] }), { lockTimeoutMs: 5_000 }).context);
    await until(
      async () => (await db.query(`SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass`)).length > 0,
    );
    await new Promise((resolve) => setTimeout(resolve, 400));
    await sitter.query('COMMIT');
    const { locks } = await done;
    const held = locks.find(({ mode }) => mode === 'ACCESS EXCLUSIVE');
    expect(held?.waitedMs).toBeGreaterThan(300);
    expect(held?.heldMs).toBeLessThan(300);
    const [row] = await db.query(
      `SELECT waited_ms::float8 AS waited FROM pgshift.locks_held WHERE mode = 'ACCESS EXCLUSIVE'`,
    );
    expect(row!.waited).toBeGreaterThan(300);
  });

  test('a cancel ends the waiting at once', async () => {
    const sitter = await db.client();
    await sitter.query('BEGIN; SELECT * FROM t');
    const at = running(db, stepOf(alter));
    const ended = codeOf(runStep(at.context));
    await until(async () => at.progress.length > 0);
    const from = performance.now();
    at.abort();
    expect(await ended).toBe('AbortError');
    expect(performance.now() - from).toBeLessThan(1_000);
  });
});
