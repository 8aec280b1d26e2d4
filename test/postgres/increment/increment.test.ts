/** Passes by a monotone column miss no row, whoever was still writing while the bound was read; they go on behind the last slice. */
import type { DataMigrationInput } from '../../../plan/model/dataMigration';
import { observeBounds, runPass } from '../../../postgres/increment/run';
import type { CopyContext } from '../../../postgres/copy/context';
import { contents, copyAll, copyPair } from '../../support/copy';
import type { CopyPair } from '../../support/copy';
import { codeOf } from '../../support/engine';
import { aloneOnItsServer } from '../../support/ownServers';

// Rows at a bound are read again while somebody on the server may have been writing since.
aloneOnItsServer();

const SETUP = `
CREATE TABLE event (id bigserial PRIMARY KEY, changed timestamptz NOT NULL DEFAULT now(), t text);
INSERT INTO event (t) SELECT 'e' || g FROM generate_series(1, 300) g; CREATE TABLE empty (id serial PRIMARY KEY, changed timestamptz NOT NULL DEFAULT now());`;

async function pairBy(column: string, plan: Partial<DataMigrationInput> = {}): Promise<CopyPair> {
  const pair = await copyPair(SETUP, { transfer: 'incremental', incremental: { column }, ...plan });
  await observeBounds(pair.context);
  await copyAll(pair.context);
  return pair;
}
const impatient = (context: CopyContext): CopyContext => ({ ...context, lockBudgetMs: 300 });
const expectSame = async (pair: CopyPair) =>
  expect((await contents(pair.target)).rows).toEqual((await contents(pair.source)).rows);

for (const column of ['id', 'changed'])
  test(`by ${column}: a transaction that commits late is not missed`, async () => {
    const pair = await pairBy(column);
    try {
      const late = await pair.source.client();
      await late.query('BEGIN');
      await late.query(`INSERT INTO event (t) VALUES ('late')`);
      await pair.source.query(`INSERT INTO event (t) VALUES ('early'); INSERT INTO empty DEFAULT VALUES`);
      // Someone who could still write a smaller value is open: nothing beyond is read.
      expect(await runPass(impatient(pair.context))).toMatchObject({ rows: 0, behind: 2 });
      await pair.source.query(`INSERT INTO event (t) VALUES ('middle')`);
      expect(await runPass(impatient(pair.context))).toMatchObject({ rows: 0, behind: 2 });
      await late.query('COMMIT');
      expect(await runPass(pair.context)).toMatchObject({ rows: 4, behind: 0 });
      await expectSame(pair);
      expect(await runPass(pair.context)).toMatchObject({ rows: 0, behind: 0 });
    } finally {
      await pair.drop();
    }
  });

for (const [type, value] of [
  ['date', `'2026-01-01'`],
  ['timestamp(0)', `'2026-01-01 10:00'`],
  ['int', '5'],
] as const)
  test(`a value that comes again after its bound was taken, ${type}: read once more, and once only`, async () => {
    const pair = await copyPair(
      `CREATE TABLE e (id serial PRIMARY KEY, changed ${type} NOT NULL, t text); INSERT INTO e (changed) SELECT ${value} FROM generate_series(1, 10);`,
      { transfer: 'incremental', incremental: { column: 'changed' } },
    );
    try {
      await observeBounds(pair.context);
      await copyAll(pair.context);
      expect(await runPass(pair.context)).toMatchObject({ rows: 0, behind: 0 });
      await pair.source.query(
        `INSERT INTO e (changed, t) VALUES (${value}, 'tie'); UPDATE e SET t = 'again' WHERE id = 3`,
      );
      expect(await runPass(pair.context)).toMatchObject({ rows: 2, behind: 0 });
      await expectSame(pair);
      expect(await runPass(pair.context)).toMatchObject({ rows: 0 });
      // Inside a savepoint, whose number no snapshot lists, and committed after a pass.
      const late = await pair.source.client();
      await late.query(`BEGIN; SAVEPOINT s; INSERT INTO e (changed, t) VALUES (${value}, 'late'); RELEASE s`);
      await pair.source.query(`INSERT INTO e (changed, t) VALUES (${value}, 'between')`);
      expect((await runPass(impatient(pair.context))).behind).toBe(1);
      await late.query('COMMIT');
      expect((await runPass(pair.context)).rows).toBeGreaterThanOrEqual(1);
      await expectSame(pair);
    } finally {
      await pair.drop();
    }
  });

test('an earlier look serves while new transactions are open all the time', async () => {
  const pair = await pairBy('id');
  try {
    const [a, b] = [await pair.source.client(), await pair.source.client()];
    await a.query('BEGIN; SELECT 1');
    await pair.source.query(`INSERT INTO event (t) VALUES ('one')`);
    expect(await runPass(impatient(pair.context))).toMatchObject({ rows: 0, behind: 2 });
    await b.query('BEGIN; SELECT 1');
    await a.query('COMMIT');
    await pair.source.query(`INSERT INTO event (t) VALUES ('two')`);
    // What the first look saw is safe now; what came later is not.
    expect(await runPass(impatient(pair.context))).toMatchObject({ rows: 1, behind: 2 });
    await b.query('COMMIT');
    expect(await runPass(pair.context)).toMatchObject({ rows: 1, behind: 0 });
    await expectSame(pair);
  } finally {
    await pair.drop();
  }
});

test('rows that changed are written over; a pass that died goes on; what has no bound is refused', async () => {
  const pair = await pairBy('changed');
  try {
    await pair.source.query(
      `UPDATE event SET t = 'changed', changed = now() WHERE id <= 10; INSERT INTO event (t) VALUES ('new')`,
    );
    const abort = new AbortController();
    abort.abort();
    expect(await codeOf(runPass({ ...pair.context, signal: abort.signal }))).toBe('AbortError');
    expect(await runPass(pair.context)).toMatchObject({ rows: 11 });
    await expectSame(pair);
    const open = await pair.source.client();
    await open.query('BEGIN; SELECT 1');
    expect(await codeOf(observeBounds(impatient(pair.context)))).toBe('Timeout');
    await open.query('COMMIT');
  } finally {
    await pair.drop();
  }
});
