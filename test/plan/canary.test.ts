/** Plans of kind `canary`: defaults, what is refused and where, the road, and what a stage's readings come to. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parse } from 'yaml';
import { canaryControlOf, canaryPartOf, verdictOf } from '../../plan/model/canary';
import { isProblem } from '../../plan/model/errors';
import type { ConditionState, Watched } from '../../plan/model/health';
import { freshCondition, judge } from '../../plan/model/health';
import { roadOf } from '../../plan/model/road';
import { CANARY_STEPS } from '../../plan/model/steps';
import { validateCanary } from '../../plan/model/validateCanary';

const plan = (more: Readonly<Record<string, unknown>> = {}) => ({
  kind: 'canary',
  name: 'move',
  blue: 'app',
  green: 'app_new',
  traffic: [{ type: 'router', route: 'app' }],
  ...more,
});
const ALWAYS = ['error_rate', 'error_rate_high', 'response', 'response_slower'];
const errors = { source: 'sql', query: 'SELECT 1', failWhen: 'value > 0.05' };
const full = { name: 'all', percent: 100 };

function refusal(more: Readonly<Record<string, unknown>>): string {
  try {
    validateCanary(plan(more));
    return 'none';
  } catch (error) {
    return isProblem(error) ? `${error.code} ${error.where?.path ?? ''}` : String(error);
  }
}

describe('kind canary', () => {
  test('has the defaults of the contract', () => {
    const made = validateCanary(plan());
    expect(made).toMatchObject({
      maxReadLag: '1s',
      routing: { moves: 'shadow-reads', tables: {} },
      onGateExpiry: 'reject',
      gates: { switch_traffic: 'manual', decommission: 'manual' },
      monitor: { duration: '15m', health: [] },
      hold: '24h',
      drill: false,
    });
    expect(made.stages.map(({ name, percent, duration }) => [name, percent, duration])).toEqual([
      ['internal', 0, '1h'],
      ['alpha', 5, '2h'],
      ['beta', 20, '4h'],
      ['production', 100, '1h'],
    ]);
    expect(canaryPartOf(made)).toMatchObject({ salt: 'move', maxReadLagMs: 1_000 });
    expect(canaryControlOf(made)).toMatchObject({ kind: 'canary', database: 'app' });
  });

  test('who is over by name stays over, and a stage finds its analyses by name', () => {
    const made = canaryPartOf(
      validateCanary(
        plan({
          analyses: { errors },
          stages: [
            { name: 'one', percent: 0, keys: ['7', 8], analysis: ['errors'] },
            { name: 'two', percent: 0.07, keys: ['9'], duration: '5s', gate: 'manual' },
            full,
          ],
        }),
      ),
    );
    expect(made.stages.map(({ keys }) => keys)).toEqual([
      ['7', '8'],
      ['7', '8', '9'],
      ['7', '8', '9'],
    ]);
    expect(made.stages[0]?.analysis[0]).toMatchObject({ name: 'errors', failWhen: 'value > 0.05' });
    expect(made.stages[1]?.analysis.map(({ name }) => name)).toEqual(ALWAYS);
    expect(made.stages[1]).toMatchObject({ percent: 0.07, durationMs: 5_000, gated: true });
  });

  test('a condition of the plan replaces the default of its name', () => {
    const made = canaryPartOf(validateCanary(plan({ analyses: { error_rate: errors } })));
    // It holds in every stage, also in those that do not name it.
    expect(made.stages[0]?.analysis.map(({ name }) => name)).toEqual([
      'error_rate',
      'error_rate_high',
      'response',
      'response_slower',
    ]);
    expect(made.stages[0]?.analysis[0]).toMatchObject({ source: 'sql' });
  });

  test('each stage has the defaults of what it moves', () => {
    const of = (more: Readonly<Record<string, unknown>>) =>
      canaryPartOf(validateCanary(plan(more))).stages.map(({ analysis }) =>
        Object.fromEntries(analysis.map(({ name, failWhen, onFail }) => [name, `${failWhen ?? ''}: ${onFail}`])),
      );
    const [internal, alpha, , production] = of({ routing: { moves: 'reads' } });
    expect(alpha).toEqual({
      error_rate: 'value > 0.05: rollback',
      error_rate_high: 'value > 0.02: alert',
      response: 'value > 1000: rollback',
      response_slower: 'green > 1.5 * blue: alert',
      reads_error_rate: 'value > 0.1: rollback',
      reads_response: 'value > 5000: rollback',
      reads_connections: 'green < 1 and blue * 5 >= 300: rollback',
    });
    // Nobody has to be there yet.
    expect(internal).not.toHaveProperty('reads_connections');
    // Nobody asks blue any more: what it was like before is what the writes are compared with.
    expect(production).toEqual({
      error_rate: 'value > 0.05: rollback',
      error_rate_high: 'value > 0.02: alert',
      response: 'value > 1000: rollback',
      response_slower_writes: 'value > 2 * baseline: alert',
    });
    expect(Object.keys(of({})[1] ?? {})).toEqual(ALWAYS);
  });

  test('a source of complaints is enough: more than ten end any stage', () => {
    const source = { source: 'http', url: 'http://127.0.0.1/x', jsonPath: '$.n' };
    const found = (analyses: object) =>
      canaryPartOf(validateCanary(plan({ analyses }))).stages.map(
        ({ analysis }) => analysis.find(({ name }) => name === 'complaints')?.failWhen,
      );
    expect(found({ complaints: source })).toEqual(Array(4).fill('value > 10'));
    expect(found({ complaints: { ...source, failWhen: 'value > 3' } })).toEqual(Array(4).fill('value > 3'));
    expect(refusal({ analyses: { sales: source } })).toBe('InvalidPlan analyses.sales');
    expect(refusal({ analyses: { complaints: 'many' } })).toBe('InvalidPlan analyses.complaints');
  });

  test.each([
    [{}, 'none'],
    [{ database: 'app' }, 'none'],
    [{ failWhen: 'green < 1' }, 'none'],
    [{ query: 'SELECT 1' }, 'InvalidPlan analyses.c'],
    [{ url: 'http://127.0.0.1/x' }, 'InvalidPlan analyses.c'],
  ])('connections of a side with %j: %s', (more, said) =>
    expect(refusal({ analyses: { c: { source: 'connections', failWhen: 'value > 200', ...more } } })).toBe(said),
  );

  describe('without the router library', () => {
    const reads = { backend: 'ro', servers: { blue: 'b', green: 'g' }, check: { user: 'look', database: 'app' } };
    const proxy = { type: 'haproxy', admin: ['/x.sock'], backend: 'db', servers: { blue: 'b', green: 'g' } };
    const judged = (percent: number, more = {}) => ({ name: `s${percent}`, percent, analysis: ['errors'], ...more });
    const gateway = (more: Readonly<Record<string, unknown>> = {}) => ({
      traffic: [{ ...proxy, reads }],
      routing: { moves: 'reads' },
      maxReadLag: '5s',
      analyses: { errors },
      stages: [judged(5), judged(100)],
      ...more,
    });
    test.each([
      [gateway(), 'none'],
      [gateway({ traffic: [proxy] }), 'InvalidPlan traffic'],
      [
        gateway({ traffic: [{ type: 'pgbouncer', admin: ['p'], database: 'app', databasesFile: 'x' }] }),
        'InvalidPlan traffic',
      ],
      [gateway({ routing: {} }), 'InvalidPlan routing.moves'],
      [gateway({ routing: { moves: 'keys' } }), 'NotYet routing.moves'],
      [
        gateway({ traffic: [{ ...proxy, reads: { ...reads, backend: 'db' } }] }),
        'InvalidPlan traffic[0].reads.backend',
      ],
      [
        gateway({
          traffic: [
            { ...proxy, reads },
            { ...proxy, backend: 'db2', reads },
          ],
        }),
        'InvalidPlan traffic[1].reads.backend',
      ],
      [gateway({ maxReadLag: '3900ms' }), 'InvalidPlan traffic[0].reads.check.every'],
      [gateway({ stages: [judged(5, { keys: ['1'] }), judged(100)] }), 'InvalidPlan stages[0].keys'],
      [gateway({ stages: [judged(0.3), judged(100)] }), 'InvalidPlan stages[0].percent'],
      [gateway({ stages: [judged(5, { analysis: [] }), judged(100)] }), 'InvalidPlan stages[0].analysis'],
      [gateway({ stages: [judged(5), judged(100, { analysis: [] })] }), 'InvalidPlan stages[1].analysis'],
      [
        gateway({
          stages: [judged(5, { analysis: [] }), judged(100, { analysis: [] })],
          health: [{ ...errors, name: 'h' }],
        }),
        'none',
      ],
    ])('%j: %s', (more, said) => expect(refusal(more)).toBe(said));

    test('nobody counts for it, and the plan shows what HAProxy has to ask', () => {
      const made = validateCanary(plan(gateway()));
      expect(canaryPartOf(made).stages.map(({ analysis }) => analysis.map(({ name }) => name))).toEqual([
        ['errors', 'reads_connections'],
        ['errors'],
      ]);
      const notes = roadOf(made).notes.join('\n');
      expect(notes).toContain(
        'server g GREEN:PORT weight 0 check inter 200ms fall 1 rise 1 on-marked-down shutdown-sessions',
      );
      expect(notes).toContain('reads_connections (green < 1 and blue * percent >= 300: rollback) in s5');
    });
  });

  test('a gate that does not say what its expiry does goes by onGateExpiry', () => {
    const gate = { type: 'manual', expires: '1h' };
    const made = validateCanary(
      plan({
        onGateExpiry: 'hold',
        stages: [
          { name: 'a', percent: 1, gate },
          { name: 'b', percent: 2, gate: { ...gate, onExpiry: 'reject' } },
          full,
        ],
      }),
    );
    expect(made.stages.slice(0, 2).map((stage) => stage.gate)).toMatchObject([
      { onExpiry: 'hold' },
      { onExpiry: 'reject' },
    ]);
    expect(canaryControlOf(made).gates).toMatchObject({ a: { onExpiry: 'hold' }, switch_traffic: 'manual' });
  });

  test.each([
    [{ routing: { moves: 'keys' } }, 'NotYet routing.moves'],
    [{ routing: { tables: { orders: 'customer_id' } } }, 'NotYet routing.tables'],
    [{ map: {} }, 'NotYet map'],
    [{ onDdl: 'follow' }, 'NotYet onDdl'],
    [{ traffic: [{ type: 'command', run: ['x'] }] }, 'InvalidPlan traffic'],
    [{ maxReadLag: '0s' }, 'InvalidPlan maxReadLag'],
    [{ stages: [] }, 'InvalidPlan stages'],
    [{ stages: [{ name: 'a', percent: 50 }] }, 'InvalidPlan stages[0].percent'],
    [{ stages: [{ name: 'a', percent: 100 }, full] }, 'InvalidPlan stages[0].percent'],
    [{ stages: [{ name: 'a', percent: 20 }, { name: 'b', percent: 5 }, full] }, 'InvalidPlan stages[1].percent'],
    [{ stages: [{ name: 'a', percent: 101 }, full] }, 'InvalidPlan stages[0].percent'],
    [{ stages: [{ name: 'a', percent: 0.001 }, full] }, 'InvalidPlan stages[0].percent'],
    [{ stages: [{ name: 'all', percent: 1 }, full] }, 'InvalidPlan stages[1].name'],
    [{ stages: [{ name: 'hold', percent: 1 }, full] }, 'InvalidPlan stages[0].name'],
    [{ stages: [{ name: 'A b', percent: 1 }, full] }, 'InvalidPlan stages[0].name'],
    [{ stages: [{ name: 'a', percent: 1, analysis: ['nothing'] }, full] }, 'InvalidPlan stages[0].analysis[0]'],
    [
      { stages: [{ name: 'a', percent: 1, gate: 'manual' }, full], gates: { a: 'manual' } },
      'InvalidPlan stages[0].gate',
    ],
    [{ gates: { nothing: 'manual' } }, 'InvalidPlan gates.nothing'],
    [{ analyses: { errors: { ...errors, name: 'other' } } }, 'InvalidPlan analyses.errors.name'],
    [{ analyses: { errors: { ...errors, failWhen: 'value >' } } }, 'InvalidPlan analyses.errors.failWhen'],
    [{ analyses: { errors: { ...errors, source: 'router', query: 'x' } } }, 'InvalidPlan analyses.errors.query'],
    [
      { analyses: { errors: { ...errors, database: 'app', failWhen: 'green > blue' } } },
      'InvalidPlan analyses.errors.database',
    ],
    [
      { analyses: { errors: { ...errors, source: 'prometheus', query: 'up', failWhen: 'green > blue' } } },
      'InvalidPlan analyses.errors',
    ],
    [{ analyses: { errors }, health: [{ ...errors, name: 'errors' }] }, 'InvalidPlan analyses.errors.name'],
    [{ surprise: 1 }, 'InvalidPlan surprise'],
    [{ green: 'app' }, 'SameDatabase green'],
  ])('%j is refused', (more, said) => expect(refusal(more)).toBe(said));

  test('gates and windows may name stages; sources that can be asked for one side may compare', () => {
    const query = 'rate{database="$side"}';
    expect(
      refusal({
        gates: { alpha: 'manual', beta: { type: 'manual', expires: '1h' } },
        window: { cron: '0 2 * * *', duration: '1h', phases: ['alpha', 'switch_traffic'] },
        analyses: { rate: { source: 'prometheus', query, failWhen: 'green > 1.5 * blue' } },
      }),
    ).toBe('none');
  });

  test('stages lie before the gate of the switch, the last one after it', () => {
    const at = (step: string): number => (CANARY_STEPS as readonly string[]).indexOf(step);
    expect(at('stages')).toBe(at('gate') - 1);
    expect(at('full')).toBe(at('resume') + 1);
  });

  test('the example has a road with every stage in its place', () => {
    const file = resolve(__dirname, '../../examples/07_shop_few_at_a_time.yaml');
    const road = roadOf(validateCanary(parse(readFileSync(file, 'utf8'))));
    const ids = road.steps.map(({ id }) => id);
    expect(ids.slice(ids.indexOf('performance_check'), ids.indexOf('pause') + 1)).toEqual([
      ...['performance_check', 'internal', 'alpha', 'beta', 'gate', 'pause'],
    ]);
    expect(ids.slice(ids.indexOf('resume'))).toEqual(['resume', 'production', 'monitor', 'hold', 'decommission']);
    expect(road.steps.find(({ id }) => id === 'alpha')).toMatchObject({ clients: 'some read green' });
  });
});

describe('what a stage comes to', () => {
  const condition = (more: Partial<Watched> = {}): Watched => ({
    ...{ name: 'c', source: 'sql', query: 'x', failWhen: 'value > 1', interval: '1s', initialDelay: '0s' },
    ...{ failureLimit: 0, consecutiveErrorLimit: 4, onFail: 'rollback', onInconclusive: 'hold', dryRun: false },
    ...more,
  });
  const after = (c: Watched, ...values: (number | null | 'error')[]): Record<string, ConditionState> => ({
    c: values.reduce<ConditionState>(
      (state, value) =>
        judge(
          c,
          state,
          value === 'error' ? { value: null, error: 'Unreachable', ageMs: 0 } : { value, error: null, ageMs: 0 },
          null,
          '2026-11-21T00:00:00.000Z',
        ),
      freshCondition,
    ),
  });

  test.each([
    ['nothing judges it', [], {}, 'passed'],
    ['it was never read', [condition()], {}, 'inconclusive'],
    ['it was read and is well', [condition()], after(condition(), 0.5), 'passed'],
    ['it failed', [condition()], after(condition(), 2), 'failed'],
    [
      'it failed as often as is forgiven',
      [condition({ failureLimit: 1 })],
      after(condition({ failureLimit: 1 }), 2),
      'passed',
    ],
    ['the last reading says nothing', [condition()], after(condition(), 0.5, null), 'inconclusive'],
    ['it could not be measured', [condition()], after(condition(), 0.5, 'error'), 'error'],
    ['nobody waits for it', [condition({ onInconclusive: 'ignore' })], after(condition(), null), 'passed'],
    ['it is only told', [condition({ onFail: 'alert' })], after(condition(), 2), 'passed'],
    ['it is only tried', [condition({ dryRun: true })], after(condition(), 2), 'passed'],
  ] as const)('%s', (_, conditions, states, said) => expect(verdictOf(conditions, states)).toBe(said));

  test('sides are compared with each other, and an unknown side is no pass', () => {
    const c = condition({ failWhen: 'green > 1.5 * blue' });
    const one = (blue: number | null, green: number | null) =>
      judge(c, freshCondition, { value: green, blue, green, error: null, ageMs: 0 }, null, '').last;
    expect([one(10, 14), one(10, 16), one(null, 16), one(10, null)]).toEqual([
      'passed',
      'failed',
      'inconclusive',
      'inconclusive',
    ]);
  });
});
