/** The road of a blue-green as `pgshift plan` shows it: what each step does, what clients notice, and the way back from there. Pure. */
import type { BlueGreenPlan } from './blueGreen';
import type { BlueGreenStep } from './steps';

export interface RoadStep {
  readonly id: BlueGreenStep;
  readonly title: string;
  /** What clients notice. */
  readonly clients: 'nothing' | 'they wait' | 'they work on green';
  readonly wayBack: string;
}

export interface Road {
  readonly kind: 'blue-green';
  readonly name: string;
  readonly database: string;
  readonly green: string;
  readonly mode: BlueGreenPlan['mode'];
  readonly runnable: true;
  readonly steps: readonly RoadStep[];
  readonly notes: readonly string[];
}

const DROP = 'drop what was made';
const UNDO = 'blue takes the writes again';
const BACK = 'switch back, lossless';

const trafficOf = ({ traffic }: BlueGreenPlan): string =>
  traffic
    .map((one) =>
      one.type === 'router' ? `router ${one.route}` : one.type === 'pgbouncer' ? `pgbouncer ${one.database}` : one.type,
    )
    .join(', ');

export function roadOf(plan: BlueGreenPlan): Road {
  const s = plan.switch;
  const backed = plan.backup !== undefined && plan.backup !== 'none';
  const steps: (RoadStep | null)[] = [
    { id: 'guardrails', title: 'look at both servers and databases; claim the name', clients: 'nothing', wayBack: '-' },
    backed ? { id: 'backup_blue', title: 'pg_dump of blue, read back', clients: 'nothing', wayBack: '-' } : null,
    {
      id: 'create_green',
      title: `make blue's schema on ${plan.green}, without indexes; fence it`,
      clients: 'nothing',
      wayBack: DROP,
    },
    plan.change
      ? {
          id: 'apply_change',
          title: 'apply the change on green, in one transaction',
          clients: 'nothing',
          wayBack: DROP,
        }
      : null,
    {
      id: 'sync',
      title: 'slot and snapshot, parallel copy, indexes and constraints, subscription',
      clients: 'nothing',
      wayBack: `${DROP}; slot, publication and replica identities of blue as before`,
    },
    { id: 'validate_green', title: 'compare every row while both live', clients: 'nothing', wayBack: DROP },
    { id: 'performance_check', title: 'plans, caches and statistics of green', clients: 'nothing', wayBack: DROP },
    {
      id: 'gate',
      title: `wait for gate switch_traffic${plan.window ? ' and the window' : ''}; guardrails again`,
      clients: 'nothing',
      wayBack: DROP,
    },
    {
      id: 'pause',
      title: `hold new work of ${trafficOf(plan)}, at most ${s.maxPause} to the resume`,
      clients: 'they wait',
      wayBack: UNDO,
    },
    { id: 'fence', title: 'take CONNECT, end sessions, wall every table of blue', clients: 'they wait', wayBack: UNDO },
    { id: 'catch_up', title: 'green has the fence position durably; sequences', clients: 'they wait', wayBack: UNDO },
    {
      id: 'reverse',
      title: 'replication from green to blue, before the first write',
      clients: 'they wait',
      wayBack: UNDO,
    },
    {
      id: 'switch_traffic',
      title: 'lift the fence of green: the point of no return; lead clients there',
      clients: 'they wait',
      wayBack: BACK,
    },
    { id: 'probe', title: 'a write on green, and a look at where clients lead', clients: 'they wait', wayBack: BACK },
    { id: 'resume', title: 'let clients go on', clients: 'they work on green', wayBack: BACK },
    { id: 'monitor', title: `watch for ${plan.monitor.duration}`, clients: 'they work on green', wayBack: BACK },
    { id: 'hold', title: `keep blue in step for ${plan.hold}`, clients: 'they work on green', wayBack: BACK },
    { id: 'decommission', title: `${plan.decommission} blue`, clients: 'they work on green', wayBack: 'none' },
  ];
  return {
    kind: 'blue-green',
    name: plan.name,
    database: plan.blue,
    green: plan.green,
    mode: plan.mode,
    runnable: true,
    steps: steps.filter((step) => step !== null),
    notes: [
      ...(plan.drill ? ['drill: there and back once before the switch that stays'] : []),
      'the other server connects by PGSHIFT_DATABASE_<NAME>_FROM_PEER; its password lies in pg_subscription of the other side (superusers can read it)',
      ...plan.allow.map(({ rule, reason }) => `guardrail ${rule} is answered for: ${reason}`),
    ],
  };
}
