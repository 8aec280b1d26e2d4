/**
 * Kind `canary`: a blue-green whose people go over a few at a time, each stage judged before the next one. Keeps true: a stage only ever adds keys to those
 * before it; the writes go over in one switch, at the last stage, which is 100 percent. What is not built is refused with NotYet. Pure.
 */
import { z } from 'zod';
import { blueGreenControlOf, blueGreenSchema } from './blueGreen';
import { defaultsFor, WELL_KNOWN } from './canaryDefaults';
import type { ConditionState, Judgement, Point, Watched } from './health';
import { tripped } from './health';
import type { Condition, Gate } from './plan';
import { conditionSchema, duration, gateSchema, hooksOf } from './plan';
import type { Control } from './state';
import { CANARY_STEPS } from './steps';
import { parseDuration } from './values';

export const STAGE_NAME = /^[a-z0-9][a-z0-9_.-]{0,39}$/;
const stageName = z.string().regex(STAGE_NAME, { error: 'a stage is called [a-z0-9][a-z0-9_.-]{0,39}' });
/** Named by its key in `analyses`. */
const analysisSchema = conditionSchema.extend({ name: z.string().min(1).optional() });

export const stageSchema = z.strictObject({
  name: stageName,
  /** 0..100, two decimals count. */
  percent: z.number().min(0).max(100).multipleOf(0.01),
  duration: duration.default('1h'),
  /** Keys that go over whatever their bucket. */
  keys: z
    .array(z.union([z.string().min(1).max(200), z.int()]).transform(String))
    .max(1_000)
    .default([]),
  analysis: z.array(z.union([z.string().min(1), conditionSchema])).default([]),
  /** Waited for at the end of the stage, with what was seen. */
  gate: gateSchema.optional(),
});

export const DEFAULT_STAGES = [
  { name: 'internal', percent: 0, duration: '1h' },
  { name: 'alpha', percent: 5, duration: '2h' },
  { name: 'beta', percent: 20, duration: '4h' },
  { name: 'production', percent: 100, duration: '1h' },
] as const;

export const MOVES = ['shadow-reads', 'reads', 'keys'] as const;

export const canarySchema = blueGreenSchema.extend({
  kind: z.literal('canary'),
  hooks: hooksOf(CANARY_STEPS),
  routing: z
    .strictObject({
      key: z.string().min(1).optional(),
      /** Table -> its column of the routing key; for `moves: keys`. */
      tables: z.record(z.string(), z.string()).default({}),
      /** Default: the plan's name. */
      salt: z.string().min(1).max(200).optional(),
      moves: z.enum(MOVES).default('shadow-reads'),
    })
    .prefault({}),
  maxReadLag: duration.default('1s'),
  analyses: z.record(z.string().min(1), analysisSchema).default({}),
  onGateExpiry: z.enum(['reject', 'hold']).default('reject'),
  stages: z
    .array(stageSchema)
    .min(1)
    .max(50)
    .prefault(() => DEFAULT_STAGES.map((stage) => ({ ...stage }))),
});
/** With every default filled in. */
export type CanaryPlan = z.output<typeof canarySchema>;

/** One stage as the run goes by it. */
export interface StageControl {
  readonly name: string;
  readonly percent: number;
  readonly durationMs: number;
  /** Of this stage and of those before it: who is over stays over. */
  readonly keys: readonly string[];
  readonly analysis: readonly Watched[];
  /** Its own gate, at its end. */
  readonly gated: boolean;
}

export interface CanaryControl {
  readonly salt: string;
  readonly moves: (typeof MOVES)[number];
  readonly maxReadLagMs: number;
  readonly stages: readonly StageControl[];
}

/** A condition that a stage names, or has written out. null = no such analysis. */
export function analysisOf(plan: Pick<CanaryPlan, 'analyses'>, one: string | Condition): Condition | null {
  if (typeof one !== 'string') return one;
  const found = Object.hasOwn(plan.analyses, one) ? plan.analyses[one] : undefined;
  return found === undefined ? null : { ...found, name: one };
}

/** Every name that the plan gives to a condition. */
const namesTaken = ({ health, monitor, analyses, stages }: CanaryPlan): ReadonlySet<string> =>
  new Set([
    ...[...health, ...monitor.health].map(({ name }) => name),
    ...Object.keys(analyses),
    ...stages.flatMap(({ analysis }) => analysis.map((one) => (typeof one === 'string' ? one : one.name))),
  ]);

/** What judges one stage: its own, the plan's analyses of a well-known name, and the defaults whose names the plan does not use. */
export function analysesOf(plan: CanaryPlan, index: number): readonly Watched[] {
  const stage = plan.stages[index];
  if (stage === undefined) return [];
  const own = stage.analysis.map((one) => analysisOf(plan, one)).filter((one) => one !== null);
  const everywhere = WELL_KNOWN.filter((name) => !own.some((one) => one.name === name))
    .map((name) => analysisOf(plan, name))
    .filter((one) => one !== null);
  const taken = namesTaken(plan);
  const defaults = defaultsFor({
    counted: plan.traffic.some(({ type }) => type === 'router'),
    reads: plan.routing.moves === 'reads',
    percent: stage.percent,
    last: index === plan.stages.length - 1,
  });
  return [...own, ...everywhere, ...defaults.filter(({ name }) => !taken.has(name))];
}

export function canaryPartOf(plan: CanaryPlan): CanaryControl {
  const keys = new Set<string>();
  const stages = plan.stages.map((stage, index): StageControl => {
    for (const key of stage.keys) keys.add(key);
    return {
      name: stage.name,
      percent: stage.percent,
      durationMs: parseDuration(stage.duration) ?? 0,
      keys: [...keys],
      analysis: analysesOf(plan, index),
      gated: stage.gate !== undefined,
    };
  });
  return {
    salt: plan.routing.salt ?? plan.name,
    moves: plan.routing.moves,
    maxReadLagMs: parseDuration(plan.maxReadLag) ?? 1_000,
    stages,
  };
}

/** As every run's; the gates of stages among those of steps (their names differ). */
export function canaryControlOf(plan: CanaryPlan): Control {
  const gates: Record<string, Gate> = { ...plan.gates };
  for (const { name, gate } of plan.stages) if (gate !== undefined) gates[name] = gate;
  return { ...blueGreenControlOf(plan), kind: 'canary', gates };
}

// As the run knows it ----------------------------------------------------------------------------------------------------

export interface StageMetric {
  readonly name: string;
  /** null = not read yet. */
  readonly verdict: Judgement | null;
  readonly value: number | null;
  readonly baseline: number | null;
  readonly readings: number;
  readonly failures: number;
  readonly at: string | null;
  /** For the chart. */
  readonly points: readonly Point[];
}

export interface StageReport {
  readonly name: string;
  readonly percent: number;
  /** null = it is under way. */
  readonly verdict: Judgement | null;
  readonly metrics: readonly StageMetric[];
  /** Keys by name that are over; the keys themselves stay in the plan. */
  readonly keys: number;
  readonly startedAt: string;
  readonly endedAt: string | null;
  /** Routers that live, and those that had heard of the share when it was set. null = not known. */
  readonly routers: { readonly alive: number; readonly heard: number } | null;
  /** A person went on without waiting for its end, or without knowing. */
  readonly skipped: boolean;
}

/** Without its charts: what a person needs at a gate, and what fits where much is told. */
export const slim = (stage: StageReport): StageReport => ({
  ...stage,
  metrics: stage.metrics.map((metric) => ({ ...metric, points: [] })),
});

export interface CanaryState {
  control: CanaryControl;
  /** Which stage runs; -1 = none yet. */
  at: number;
  /** What routers were told last; null = everybody is where the writes are. */
  share: { readonly percent: number; readonly keys: number } | null;
  /** Counts changes of the share: a late one is refused by its number. */
  changes: number;
  /** The stage's metrics are read now. */
  judging: boolean;
  stages: StageReport[];
}

export const newCanaryState = (control: CanaryControl): CanaryState => ({
  control,
  at: -1,
  share: null,
  changes: 0,
  judging: false,
  stages: [],
});

export const stageOf = ({ control, at }: CanaryState): StageControl | null => control.stages[at] ?? null;

/** A stage that is judged: a person may go on without it, or begin it again. */
export function openStage(canary: CanaryState | undefined): readonly string[] {
  const stage = canary?.judging === true ? stageOf(canary) : null;
  return stage === null ? [] : [stage.name];
}

/** The stages that come before the switch, and the one that comes after it. */
export const beforeSwitch = ({ stages }: CanaryControl): readonly StageControl[] => stages.slice(0, -1);
export const lastStage = ({ stages }: CanaryControl): StageControl | null => stages.at(-1) ?? null;

/** What is judged just now. */
export const judgedNow = (canary: CanaryState | undefined): readonly Watched[] =>
  canary?.judging === true ? (stageOf(canary)?.analysis ?? []) : [];

const metricOf = (condition: Watched, state: ConditionState | undefined, baseline: number | null): StageMetric => ({
  name: condition.name,
  verdict: state?.last ?? null,
  value: state?.value ?? null,
  baseline,
  readings: state?.readings ?? 0,
  failures: state?.failures ?? 0,
  at: state?.at ?? null,
  points: state?.points ?? [],
});

export const metricsOf = (
  conditions: readonly Watched[],
  states: Readonly<Record<string, ConditionState>>,
  baselines: Readonly<Record<string, number | null>>,
): StageMetric[] => conditions.map((c) => metricOf(c, states[c.name], baselines[c.name] ?? null));

/** Of a stage that came to its end: what a limit forgives does not count, what is only told does not either. */
export function verdictOf(conditions: readonly Watched[], states: Readonly<Record<string, ConditionState>>): Judgement {
  const judged = conditions.filter((c) => !c.dryRun && c.onFail !== 'alert');
  const ends = judged.map((c): Judgement => {
    const state = states[c.name];
    if (state === undefined) return c.onInconclusive === 'ignore' ? 'passed' : 'inconclusive';
    const over = tripped(c, state);
    if (over !== null) return over;
    if (state.last === 'passed' || state.last === 'failed') return 'passed';
    return c.onInconclusive === 'ignore' ? 'passed' : (state.last ?? 'inconclusive');
  });
  return (['failed', 'error', 'inconclusive'] as const).find((bad) => ends.includes(bad)) ?? 'passed';
}
