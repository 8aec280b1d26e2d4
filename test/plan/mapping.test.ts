/** Kind data-migration: map, load, errors and profile as they are written, and what is refused where. */
import type { DataMigrationInput } from '../../plan/model/dataMigration';
import { copyControlOf, errorBudget } from '../../plan/model/dataMigration';
import { isProblem } from '../../plan/model/errors';
import { emptyInbox } from '../../plan/model/inbox';
import { parseOrder, parsePercent } from '../../plan/model/tableMapping';
import { mergeTuning } from '../../plan/model/tuning';
import { validateDataMigration } from '../../plan/model/validate';
import { judgeTable } from '../../postgres/map/alerts';

const plan = (change: Record<string, unknown>) =>
  validateDataMigration({ name: 'move', source: 'old', target: 'app', ...change } as DataMigrationInput);
const control = (change: Record<string, unknown>) => copyControlOf(plan(change));

test('defaults: COPY, no conflicts, not one bad row', () => {
  expect(control({})).toMatchObject({
    load: { method: 'copy', onConflict: 'fail', disable: [] },
    errors: { max: 0, rate: null },
    parallel: { tables: 2, rangesPerTable: 2 },
  });
  expect(control({ load: { method: 'upsert' } }).load).toMatchObject({ onConflict: 'update' });
  expect(control({ load: { method: 'insert' } }).load).toMatchObject({ onConflict: 'fail' });
});

test('of max and rate the one that is given is the limit', () => {
  expect(errorBudget({ onLimit: 'stop' })).toEqual({ max: 0, rate: null });
  expect(errorBudget({ max: 5, onLimit: 'stop' })).toEqual({ max: 5, rate: null });
  expect(errorBudget({ rate: 0.1, onLimit: 'stop' })).toEqual({ max: null, rate: 0.1 });
});

test('profile: bulk is five workers, 10,000 rows, three retries, an hour, 100 errors and 1 %; the plan wins', () => {
  expect(control({ profile: 'bulk' })).toMatchObject({
    parallel: { tables: 5, rangesPerTable: 1 },
    batchRows: 10_000,
    retries: 3,
    errors: { max: 100, rate: 0.01 },
  });
  expect(plan({ profile: 'bulk' }).timeout).toBe('1h');
  expect(plan({ profile: 'bulk', timeout: '2h', parallel: { tables: 1 }, errors: { max: 1 } })).toMatchObject({
    timeout: '2h',
    parallel: { tables: 1, rangesPerTable: 1 },
    errors: { max: 1 },
  });
});

test.each([
  [{ profile: 'slow' }, 'profile'],
  [{ load: { method: 'merge' } }, 'load.method'],
  [{ load: { method: 'copy', onConflict: 'ignore' } }, 'load.onConflict'],
  [{ load: { method: 'insert', onConflict: 'update' } }, 'load.onConflict'],
  [{ load: { disable: ['rules'] } }, 'load.disable[0]'],
  [{ errors: { max: -1 } }, 'errors.max'],
  [{ errors: { rate: 1.5 } }, 'errors.rate'],
  [{ map: { a: { too: 'b' } } }, 'map.a.too'],
  [{ map: { a: { to: 'x.y.z' } } }, 'map.a.to'],
  [{ map: { a: { sample: '10' } } }, 'map.a.sample'],
  [{ map: { a: { sample: '0%' } } }, 'map.a.sample'],
  [{ map: { a: { deduplicate: {} } } }, 'map.a.deduplicate.key'],
  [{ map: { a: { deduplicate: { key: 'id', keep: 'last' } } } }, 'map.a.deduplicate.order'],
  [{ map: { a: { validate: { x: 'zip' } } } }, 'map.a.validate.x'],
  [{ map: { a: { validate: { x: {} } } } }, 'map.a.validate.x'],
  [{ map: { a: { columns: { x: { lookup: { column: 'y' } } } } } }, 'map.a.columns.x.lookup.values'],
  [{ map: { a: { columns: { x: { sql: '' } } } } }, 'map.a.columns.x.sql'],
  [{ map: { a: { columns: { x: 'y' }, enrich: { x: { sql: '1' } } } } }, 'map.a.enrich.x'],
  [{ map: { a: { to: 'c' }, b: { to: 'c' } } }, 'map.b.to'],
])('%j is refused at %s', (change, path) => {
  try {
    plan(change);
  } catch (error) {
    expect(isProblem(error) && [error.code, error.where?.path]).toEqual(['InvalidPlan', path]);
    return;
  }
  throw new Error('it was taken');
});

test.each([
  ['incremental', { load: { method: 'insert' } }, 'load.method', /say {2}method: upsert/],
  ['incremental', { load: { method: 'upsert', onConflict: 'ignore' } }, 'load.onConflict', /overwrite ours/],
  ['incremental', { load: { method: 'upsert', disable: ['triggers'] } }, 'load.disable', /every pass/],
  ['incremental', { verify: 'sample' }, 'verify', /row by row/],
  ['incremental', { map: { a: { deduplicate: { key: 'k' } } } }, 'map.a.deduplicate', /still to come/],
  [
    'incremental',
    { map: { a: { columns: { x: { lookup: { column: 'c', table: 't', key: 'k', value: 'v' } } } } } },
    'map.a.columns.x.lookup',
    /another table/,
  ],
  ['streaming', { load: { method: 'upsert' } }, 'load.method', /rows of others/],
  ['streaming', { schema: 'existing' }, 'schema', /refuse changes/],
  ['streaming', { errors: { max: 3 } }, 'errors', /onError/],
  ['streaming', { map: { a: { sample: '10%' } } }, 'map.a.sample', /hash/],
  ['streaming', { map: { a: { validate: { x: 'email' } } } }, 'map.a.validate', /old row/],
  [
    'streaming',
    { map: { a: { columns: { x: { lookup: { column: 'c', values: { a: 'b' } } } } } } },
    'map.a.columns.x.lookup',
    /keep {2}or null/,
  ],
])('transfer: %s with %j is NotYet at %s, and says why', (transfer, change, path, why) => {
  const mode = transfer === 'incremental' ? { incremental: { column: 'id' } } : {};
  try {
    plan({ transfer, ...mode, ...change });
  } catch (error) {
    expect(isProblem(error) && [error.code, error.where?.path, error.message]).toEqual([
      'NotYet',
      path,
      expect.stringMatching(why),
    ]);
    return;
  }
  throw new Error('it was taken');
});

test('what goes on after the copy goes through the map', () => {
  const map = { a: { to: 'b', where: 'x > 1', columns: { c: { sql: 'x + 1' } }, omit: ['y'], nulls: { z: 0 } } };
  expect(plan({ transfer: 'streaming', map }).transfer).toBe('streaming');
  const incremental = { transfer: 'incremental', incremental: { column: 'id' }, map, errors: { max: 5 } };
  expect(plan({ ...incremental, schema: 'existing', load: { method: 'upsert' } }).transfer).toBe('incremental');
});

test('shares and orders', () => {
  expect([parsePercent('10%'), parsePercent('0.5%'), parsePercent('101%'), parsePercent('x')]).toEqual([
    10,
    0.5,
    null,
    null,
  ]);
  expect(parseOrder('updated_at DESC')).toEqual({ column: 'updated_at', descending: true });
  expect(parseOrder('"Odd desc" asc')).toEqual({ column: 'Odd desc', descending: false });
});

test('a tuning of parallel keeps the keys that it does not name', () => {
  const first = mergeTuning(emptyInbox.tuning, { parallel: { tables: 4 } });
  expect(mergeTuning(first, { parallel: { rangesPerTable: 1 }, hold: '1h' })).toEqual({
    parallel: { tables: 4, rangesPerTable: 1 },
    hold: '1h',
  });
});

test('slow tables and bad rows raise an alert; a table that takes a moment says nothing', () => {
  const of = { table: 'public.a', rows: 50_000, seconds: 10, read: 50_000, bad: 50 };
  const at = '2026-11-21T00:00:00.000Z';
  expect(judgeTable(of, at)).toEqual([{ kind: 'throughput', table: 'public.a', value: 5_000, at }]);
  expect(judgeTable({ ...of, seconds: 5, bad: 51 }, at)).toMatchObject([{ kind: 'errors', value: 51 / 50_000 }]);
  expect(judgeTable({ ...of, seconds: 4 }, at)).toEqual([]);
});
