/** The road of a blue-green or a canary as `pgshift plan` shows it: what each step does, what clients notice, and the way back from there. Pure. */
import { pairControlOf } from './blueGreen';
import type { BlueGreenPlan, PairPlan } from './blueGreen';
import type { CanaryPlan } from './canary';
import { analysesOf } from './canary';
import { readsLines } from './readsCheck';
import type { AnyPairPlan } from './validateCanary';

export interface RoadStep {
  /** A step, or the name of a stage. */
  readonly id: string;
  readonly title: string;
  /** What clients notice. */
  readonly clients: 'nothing' | 'some read green' | 'they wait' | 'they work on green';
  readonly wayBack: string;
}

export interface Road {
  readonly kind: AnyPairPlan['kind'];
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

const HOME = 'everybody reads blue again, at once';

const analysisText = ({ analysis }: CanaryPlan['stages'][number]): string => {
  const names = analysis.map((one) => (typeof one === 'string' ? one : one.name));
  return `judged by ${names.length === 0 ? 'the defaults' : names.join(', ')}`;
};

/** The conditions that no stage has written out, each once, with the stages that have them where not all do. */
function byDefault(plan: CanaryPlan): string[] {
  const seen = new Map<string, { readonly rule: string; readonly stages: string[] }>();
  plan.stages.forEach((stage, i) => {
    const own = stage.analysis.map((one) => (typeof one === 'string' ? one : one.name));
    for (const { name, failWhen, successWhen, onFail } of analysesOf(plan, i).filter(
      (one) => !own.includes(one.name),
    )) {
      const text = failWhen ?? `not ${successWhen ?? ''}`;
      // The share of the stage is a number in it: shown once for all stages.
      const rule = `${text.replace(/\* [\d.]+ >= 300/, '* percent >= 300')}: ${onFail}`;
      const known = seen.get(`${name} ${rule}`) ?? { rule: `${name} (${rule})`, stages: [] };
      known.stages.push(stage.name);
      seen.set(`${name} ${rule}`, known);
    }
  });
  return [...seen.values()].map(({ rule, stages }) =>
    stages.length === plan.stages.length ? rule : `${rule} in ${stages.join(', ')}`,
  );
}

const linesOf = ({ traffic }: PairPlan): string[] =>
  traffic.flatMap((one) =>
    one.type === 'haproxy' && one.reads !== undefined
      ? [
          `HAProxy asks green by itself whether reads may go there; its file needs:\n${readsLines(one.reads).join('\n')}`,
        ]
      : [],
  );

const gateText = ({ gate }: CanaryPlan['stages'][number]): string =>
  gate === undefined || gate === 'none' ? '' : '; then its gate';

/** What goes over in one stage, and how it is judged. */
function stageStep({ routing }: CanaryPlan, stage: CanaryPlan['stages'][number]): RoadStep {
  const named = stage.keys.length === 0 ? '' : ` and ${stage.keys.length} by name`;
  const shadow = routing.moves === 'shadow-reads';
  return {
    id: stage.name,
    title: `${shadow ? 'compare' : 'send'} reads of ${stage.percent} %${named} for ${stage.duration}; ${analysisText(stage)}${gateText(stage)}`,
    clients: shadow ? 'nothing' : 'some read green',
    wayBack: `${HOME}; ${DROP}`,
  };
}

function stageSteps(plan: AnyPairPlan, which: 'before' | 'after'): RoadStep[] {
  if (plan.kind !== 'canary') return [];
  if (which === 'before') return plan.stages.slice(0, -1).map((stage) => stageStep(plan, stage));
  const last = plan.stages.at(-1);
  if (last === undefined) return [];
  const title = `everybody, writes too, for ${last.duration}; ${analysisText(last)}${gateText(last)}`;
  return [{ id: last.name, title, clients: 'they work on green', wayBack: BACK }];
}

function canaryNotes(plan: CanaryPlan): string[] {
  const blind = plan.stages.filter(({ analysis }) => analysis.length === 0).map(({ name }) => name);
  return [
    plan.routing.moves === 'shadow-reads'
      ? 'reads of a stage are answered by blue and asked of green as well; nobody sees what green says'
      : `reads of a stage are answered by green while it is less than ${plan.maxReadLag} behind; nobody else reads there`,
    'the writes go over in one switch, at the last stage; a metric that fails takes everybody back from any stage',
    `judged by themselves, too: ${byDefault(plan).join(', ') || 'nothing'}`,
    ...(blind.length === 0 ? [] : [`stages without an analysis of their own: ${blind.join(', ')}`]),
  ];
}

const trafficOf = ({ traffic }: PairPlan): string =>
  traffic
    .map((one) =>
      one.type === 'router' ? `router ${one.route}` : one.type === 'pgbouncer' ? `pgbouncer ${one.database}` : one.type,
    )
    .join(', ');

function decommissionText(plan: PairPlan): string {
  const { decommission, unused, archive } = pairControlOf(plan);
  if (decommission === 'keep') return 'keep blue';
  const made = archive === undefined || archive === 'none' ? '' : ', after a pg_dump of it';
  const looked = unused === undefined || unused === '0s' ? '' : ` when nobody was seen there for ${unused}`;
  return `${decommission} blue${looked}${made}`;
}

export function roadOf(plan: AnyPairPlan): Road {
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
    ...stageSteps(plan, 'before'),
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
    ...stageSteps(plan, 'after'),
    { id: 'monitor', title: `watch for ${plan.monitor.duration}`, clients: 'they work on green', wayBack: BACK },
    { id: 'hold', title: `keep blue in step for ${plan.hold}`, clients: 'they work on green', wayBack: BACK },
    { id: 'decommission', title: decommissionText(plan), clients: 'they work on green', wayBack: 'none' },
  ];
  return {
    kind: plan.kind,
    name: plan.name,
    database: plan.blue,
    green: plan.green,
    mode: plan.mode,
    runnable: true,
    steps: steps.filter((step) => step !== null),
    notes: [
      ...(plan.kind === 'canary' ? canaryNotes(plan) : []),
      ...linesOf(plan),
      ...(plan.drill ? ['drill: there and back once before the switch that stays'] : []),
      'the other server connects by PGSHIFT_DATABASE_<NAME>_FROM_PEER; its password lies in pg_subscription of the other side (superusers can read it)',
      ...plan.allow.map(({ rule, reason }) => `guardrail ${rule} is answered for: ${reason}`),
    ],
  };
}
