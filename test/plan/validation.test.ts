/** Kind validation: what is taken, what is refused and where, and names of tables as plans write them. */
import { isProblem } from '../../plan/model/errors';
import { parseColumnName, parseTableName, tableFilter } from '../../plan/model/tableNames';
import { validateValidation } from '../../plan/model/validate';
import { newValidation, renderValidation, RESULT_MAX, smallResult } from '../../plan/model/validationState';

const base = { kind: 'validation', name: 'compare', source: 'blue', target: 'green' };

const problem = (json: unknown): { code: string; path: string | undefined; text: string } => {
  try {
    validateValidation(json);
  } catch (error) {
    if (isProblem(error)) return { code: error.code, path: error.where?.path, text: JSON.stringify(error) };
  }
  throw new Error('it was taken');
};

test('defaults are those of the contract', () => {
  expect(validateValidation(base)).toEqual({
    ...base,
    labels: {},
    tables: { include: ['public.*'], exclude: [] },
    map: {},
    live: 'auto',
    differences: 100,
    repair: 'none',
    checks: ['rows', 'schema', 'constraints', 'sequences'],
    parallel: 2,
  });
  const { kind: _, ...bare } = base;
  expect(validateValidation(bare).kind).toBe('validation');
});

test.each([
  [{ throttle: 'none' }, 'NotYet', 'throttle'],
  [{ gates: {} }, 'NotYet', 'gates'],
  [{ mode: 'dry-run' }, 'NotYet', 'mode'],
  [{ map: { a: { sample: '10%' } } }, 'NotYet', 'map.a.sample'],
  [{ map: { a: { deduplicate: { key: 'id' } } } }, 'NotYet', 'map.a.deduplicate'],
  [{ map: { a: { columns: { x: { lookup: 'l' } } } } }, 'NotYet', 'map.a.columns.x.lookup'],
  [{ kind: 'fleet' }, 'NotYet', 'kind'],
  [{ kind: 'schema-migration' }, 'InvalidPlan', 'kind'],
  [{ source: undefined }, 'InvalidPlan', 'source'],
  [{ target: 'postgres://u:s3cret@h/d' }, 'InvalidPlan', 'target'],
  [{ checks: ['rows', 'rows'] }, 'InvalidPlan', 'checks'],
  [{ checks: ['row'] }, 'InvalidPlan', 'checks[0]'],
  [{ tables: { include: ['a.b.c'] } }, 'InvalidPlan', 'tables.include[0]'],
  [{ map: { a: { too: 'b' } } }, 'InvalidPlan', 'map.a.too'],
  [{ differences: -1 }, 'InvalidPlan', 'differences'],
])('%j is %s at %s', (change, code, path) => {
  const found = problem({ ...base, ...change });
  expect([found.code, found.path]).toEqual([code, path]);
  expect(found.text).not.toContain('s3cret');
});

test('names and patterns are read as SQL would read them', () => {
  expect(parseTableName('Orders')).toEqual({ schema: 'public', name: 'orders' });
  expect(parseTableName('"Odd ""Name"".x"."T.1"')).toEqual({ schema: 'Odd "Name".x', name: 'T.1' });
  expect(parseTableName('a*')).toBeNull();
  expect(parseTableName('"a*"')).toEqual({ schema: 'public', name: 'a*' });
  expect(parseColumnName('"Key, 1"')).toBe('Key, 1');
  expect(parseColumnName('a.b')).toBeNull();
  const filter = tableFilter(['*.*'], ['audit_*', 'tmp.*', '"Big"']);
  const names = [
    ['public', 'orders', true],
    ['public', 'audit_1', false],
    ['other', 'audit_1', true],
    ['tmp', 'x', false],
    ['public', 'Big', false],
    ['public', 'big', true],
  ] as const;
  for (const [schema, name, taken] of names)
    expect([schema, name, filter({ schema, name })]).toEqual([schema, name, taken]);
});

test('a result of 10,000 tables fits into an answer: equal tables go first', () => {
  const table = (n: number, equal: boolean) => ({
    table: `public.table_${n}`,
    sourceRows: 1,
    targetRows: 1,
    equal,
    differing: equal ? 0 : 1,
    complete: true,
    ranges: 1,
    repaired: 0,
    fingerprintSource: '1',
    fingerprintTarget: '1',
  });
  const statistics = { rows: 1, seconds: 1, rowsPerSecond: 1, tables: 10_000, ranges: 1, rechecked: 0, repaired: 0 };
  const tables = Array.from({ length: 10_000 }, (_, n) => table(n, n % 1_000 !== 0));
  const small = smallResult({ passed: false, errors: [], warnings: [], statistics, tables });
  expect(small.whole).toBe(false);
  expect(small.result.tables.map((one) => one.equal)).toEqual(Array.from({ length: 10 }, () => false));
  const worst = smallResult({
    passed: false,
    errors: [],
    warnings: [],
    statistics,
    tables: tables.map((t) => ({ ...t, equal: false })),
  });
  expect(JSON.stringify(worst.result).length).toBeLessThan(RESULT_MAX);
  const state = {
    ...newValidation({ id: 'i', name: 'n', source: 'a', target: 'b' }, '2026-11-21T00:00:00.000Z'),
    result: small.result,
  };
  expect(renderValidation(state)).toMatch(/## n: a against b: DIFFERENT/);
  expect(renderValidation(state).length).toBeLessThan(16_000);
});
