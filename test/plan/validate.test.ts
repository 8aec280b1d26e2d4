import { isProblem } from '../../plan/model/errors';
import type { Problem } from '../../plan/model/errors';
import { validatePlan, validateRollback, validateStart } from '../../plan/model/validate';
import { windowAt } from '../../plan/model/window';

const base = { name: 'add_note', database: 'app', sql: 'ALTER TABLE a ADD COLUMN b int' };

function problem(run: () => unknown): Problem {
  try {
    run();
  } catch (error) {
    if (isProblem(error)) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('a plan is validated', () => {
  test('defaults are filled in', () => {
    const plan = validatePlan(base);
    expect(plan).toMatchObject({ kind: 'schema-migration', mode: 'production', onFailure: 'rollback', hold: '24h' });
    expect(plan.throttle).toMatchObject({ maxReplicationLag: '5s', batch: { target: '500ms' } });
    expect(validatePlan(plan)).toEqual(plan);
  });

  test.each<[string, Record<string, unknown>, string, string]>([
    ['an unknown key', { gate: {} }, 'InvalidPlan', 'gate'],
    ['an unknown key inside', { throttle: { batch: { targt: '1s' } } }, 'InvalidPlan', 'throttle.batch.targt'],
    ['a wrong type', { dependsOn: 'x' }, 'InvalidPlan', 'dependsOn'],
    ['a bare number as a duration', { hold: 5 }, 'InvalidPlan', 'hold'],
    ['a wrong duration', { lockTimeout: '5 minutes' }, 'InvalidPlan', 'lockTimeout'],
    ['a gate nowhere', { gates: { nowhere: 'manual' } }, 'InvalidPlan', 'gates.nowhere'],
    [
      'a wrong gate',
      { gates: { contract: { type: 'manual', expires: '3' } } },
      'InvalidPlan',
      'gates.contract.expires',
    ],
    ['a wrong hook', { hooks: { 'before:nowhere': [] } }, 'InvalidPlan', 'hooks.before:nowhere'],
    [
      'a hook that is neither',
      { hooks: { 'before:expand': [{ name: 'x' }] } },
      'InvalidPlan',
      'hooks.before:expand[0]',
    ],
    ['a window that never comes', { window: { cron: '0 0 31 2 *', duration: '1h' } }, 'InvalidPlan', 'window.cron'],
    [
      'an unknown timezone',
      { window: { cron: '0 0 * * *', duration: '1h', timezone: 'Mars/X' } },
      'InvalidPlan',
      'window.cron',
    ],
    [
      'a wrong expression',
      { health: [{ name: 'h', source: 'sql', query: 'select 1', failWhen: 'value >' }] },
      'InvalidPlan',
      'health[0].failWhen',
    ],
    [
      'a condition without a query',
      { health: [{ name: 'h', source: 'sql', failWhen: 'value > 1' }] },
      'InvalidPlan',
      'health[0]',
    ],
    [
      'a router condition',
      { health: [{ name: 'h', source: 'router', failWhen: 'value > 1' }] },
      'NotYet',
      'health[0].source',
    ],
    ['itself as a dependency', { dependsOn: ['add_note'] }, 'DependencyCycle', 'dependsOn'],
    ['versions', { versions: { from: 'a', to: 'b' } }, 'NotYet', 'versions'],
    ['another kind', { kind: 'fleet' }, 'NotYet', 'kind'],
    ['no kind at all', { kind: 'schema' }, 'InvalidPlan', 'kind'],
    ['a rollback', { kind: 'rollback' }, 'InvalidPlan', 'kind'],
    ['no sql', { sql: undefined }, 'InvalidPlan', 'sql'],
    ['both', { sqlFile: 'x.sql' }, 'InvalidPlan', 'sqlFile'],
    ['no name', { name: undefined }, 'InvalidPlan', 'name'],
    ['a bad name', { name: 'Add Note' }, 'InvalidPlan', 'name'],
  ])('%s is refused', (_, change, code, path) => {
    const found = problem(() => validatePlan({ ...base, ...change }));
    expect([found.code, found.where?.path]).toEqual([code, path]);
  });

  test('a URL is refused and not shown', () => {
    for (const change of [
      { database: 'postgres://me:s3cret@db/app' },
      { 'postgres://me:s3cret@db/app': 1 },
      { gates: { 'postgres://me:s3cret@db/app': 'manual' } },
      { mode: 'postgres://me:s3cret@db/app' },
    ])
      expect(JSON.stringify(problem(() => validatePlan({ ...base, ...change })))).not.toContain('s3cret');
  });

  test('a bare start with sqlFile is refused with what to do', () => {
    expect(problem(() => validateStart({ ...base, sql: undefined, sqlFile: 'a.sql' })).hint).toContain('pgshift start');
  });

  test('a reference has no other keys', () => {
    const ref = { name: 'a', database: 'app', planRef: 'pgshift.plans/12' };
    expect(validateStart(ref)).toEqual({ kind: 'schema-migration', ...ref });
    expect(problem(() => validateStart({ ...ref, sql: 'x' })).where?.path).toBe('sql');
  });

  test('a rollback names the migration', () => {
    expect(validateRollback({ database: 'app', migration: 'add_note' })).toMatchObject({ kind: 'rollback' });
    expect(problem(() => validateRollback({ database: 'app' })).where?.path).toBe('migration');
  });
});

describe('windows', () => {
  const window = { cron: '0 2 * * 6,0', duration: '4h', timezone: 'UTC' };
  const at = (text: string) => windowAt(window, Date.parse(text));
  const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());

  test('open from its start until its end', () => {
    expect(at('2026-11-21T01:59:59Z').open).toBe(false);
    expect(iso(at('2026-11-21T01:59:59Z').untilMs)).toBe('2026-11-21T02:00:00.000Z');
    expect(at('2026-11-21T02:00:00Z').open).toBe(true);
    expect(iso(at('2026-11-21T05:59:59Z').untilMs)).toBe('2026-11-21T06:00:00.000Z');
    expect(at('2026-11-21T06:00:00Z')).toEqual({ open: false, untilMs: Date.parse('2026-11-22T02:00:00Z') });
  });

  test('its timezone has summer time', () => {
    const vienna = { cron: '30 3 * * *', duration: '1h', timezone: 'Europe/Vienna' };
    expect(windowAt(vienna, Date.parse('2026-07-01T01:30:00Z')).open).toBe(true);
    expect(windowAt(vienna, Date.parse('2026-12-01T01:30:00Z')).open).toBe(false);
    expect(windowAt(vienna, Date.parse('2026-12-01T02:30:00Z')).open).toBe(true);
  });
});
