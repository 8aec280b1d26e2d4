/** Plans of kind `blue-green`: defaults, what is refused and where, and the road that `pgshift plan` shows. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parse } from 'yaml';
import { blueGreenControlOf, pairControlOf, syncControlOf } from '../../plan/model/blueGreen';
import { isProblem } from '../../plan/model/errors';
import { roadOf } from '../../plan/model/road';
import { validateBlueGreen } from '../../plan/model/validate';

const plan = (more: Readonly<Record<string, unknown>> = {}) => ({
  kind: 'blue-green',
  name: 'move',
  blue: 'app',
  green: 'app_new',
  traffic: [{ type: 'router', route: 'app' }],
  ...more,
});

function refusal(more: Readonly<Record<string, unknown>>): string {
  try {
    validateBlueGreen(plan(more));
    return 'none';
  } catch (error) {
    return isProblem(error) ? `${error.code} ${error.where?.path ?? ''}` : String(error);
  }
}

describe('kind blue-green', () => {
  test('has the defaults of the contract', () => {
    const made = validateBlueGreen(plan());
    expect(made).toMatchObject({
      switch: {
        maxPause: '3s',
        maxLag: '1MB',
        maxTransactionAge: '30s',
        verify: 'changed',
        retryAfter: '5m',
        attempts: 3,
      },
      sequenceGap: 1000,
      drill: false,
      gates: { switch_traffic: 'manual', decommission: 'manual' },
      monitor: { duration: '15m', health: [] },
      hold: '24h',
      decommission: 'keep',
    });
    expect(syncControlOf(made)).toMatchObject({
      source: 'app',
      target: 'app_new',
      schema: 'create',
      tables: { include: ['*.*'] },
    });
    expect(blueGreenControlOf(made)).toMatchObject({ kind: 'blue-green', database: 'app', hold: '24h' });
    expect(pairControlOf(made)).toMatchObject({ blue: 'app', green: 'app_new', hasChange: false });
  });

  test('naming one gate does not open the other', () => {
    expect(validateBlueGreen(plan({ gates: { switch_traffic: 'none' } })).gates).toEqual({
      switch_traffic: 'none',
      decommission: 'manual',
    });
  });

  test('conditions of the monitoring hold while it monitors', () => {
    const condition = { name: 'errors', source: 'sql', query: 'SELECT 1', failWhen: 'value > 1' };
    const made = validateBlueGreen(plan({ monitor: { health: [condition] } }));
    expect(blueGreenControlOf(made).health).toMatchObject([{ name: 'errors', phases: ['monitor'] }]);
    expect(refusal({ monitor: { health: [condition] }, health: [condition] })).toBe(
      'InvalidPlan monitor.health[0].name',
    );
  });

  test.each([
    [{ map: {} }, 'NotYet map'],
    [{ transforms: {} }, 'NotYet transforms'],
    [{ onDdl: 'follow' }, 'NotYet onDdl'],
    [{ sync: { apply: 'pgshift' } }, 'NotYet sync.apply'],
    [{ tables: { include: ['public.*'] } }, 'NotYet tables.include'],
    [{ tables: { exclude: ['audit_*'] } }, 'NotYet tables.exclude'],
    [{ green: 'app' }, 'SameDatabase green'],
    [{ traffic: [] }, 'InvalidPlan traffic'],
    [{ traffic: undefined }, 'InvalidPlan traffic'],
    [
      {
        traffic: [
          { type: 'router', route: 'a' },
          { type: 'router', route: 'a' },
        ],
      },
      'InvalidPlan traffic',
    ],
    [{ gates: { pause: 'manual' } }, 'InvalidPlan gates.pause'],
    [{ gates: { fence: 'manual' } }, 'InvalidPlan gates.fence'],
    [{ gates: { contract: 'manual' } }, 'InvalidPlan gates.contract'],
    [{ hooks: { 'before:fence': [{ name: 'x', run: ['x'] }] } }, 'InvalidPlan hooks.before:fence'],
    [{ hooks: { 'after:pause': [{ name: 'x', run: ['x'] }] } }, 'InvalidPlan hooks.after:pause'],
    [{ change: { sql: 'SELECT 1', sqlFile: 'x.sql' } }, 'InvalidPlan change'],
    [{ change: {} }, 'InvalidPlan change'],
    [{ allow: [{ rule: 'green_empty', reason: 'x' }] }, 'InvalidPlan allow[0].rule'],
    [{ blue: 'postgres://u:p@h/d' }, 'InvalidPlan blue'],
    [{ switch: { maxPause: 3 } }, 'InvalidPlan switch.maxPause'],
    [{ surprise: 1 }, 'InvalidPlan surprise'],
  ])('%j is refused', (more, said) => expect(refusal(more)).toBe(said));

  test('hooks around the pause are taken', () => {
    const hook = [{ name: 'x', run: ['x'] }];
    expect(refusal({ hooks: { 'before:pause': hook, 'after:resume': hook, 'before:sync': hook } })).toBe('none');
  });

  test.each([
    [{}, 'keep blue', {}],
    [{ unused: '1h' }, 'keep blue', {}],
    [
      { decommission: 'drop' },
      'drop blue when nobody was seen there for 5m, after a pg_dump of it',
      { unused: '5m', archive: 'pg-dump' },
    ],
    [{ decommission: 'drop', archive: 'none', unused: '0s' }, 'drop blue', { unused: '0s', archive: 'none' }],
    [
      { decommission: 'rename', unused: '36h' },
      'rename blue when nobody was seen there for 36h',
      { unused: '36h', archive: 'none' },
    ],
  ])('%j: %s', (more, title, control) => {
    const made = validateBlueGreen(plan(more));
    expect(roadOf(made).steps.at(-1)).toMatchObject({ id: 'decommission', title });
    const { unused, archive } = pairControlOf(made);
    expect({ ...(unused === undefined ? {} : { unused }), ...(archive === undefined ? {} : { archive }) }).toEqual(
      control,
    );
  });

  test('the example has a road from guardrails to decommission, each step with its way back', () => {
    const file = resolve(__dirname, '../../examples/06_shop_new_server.yaml');
    const road = roadOf(validateBlueGreen(parse(readFileSync(file, 'utf8'))));
    expect(road.steps.map(({ id }) => id)).toEqual([
      ...[
        'guardrails',
        'create_green',
        'sync',
        'validate_green',
        'performance_check',
        'gate',
        'pause',
        'fence',
        'catch_up',
      ],
      ...['reverse', 'switch_traffic', 'probe', 'resume', 'monitor', 'hold', 'decommission'],
    ]);
    expect(road.steps.filter(({ wayBack }) => wayBack === '')).toEqual([]);
  });
});
