/**
 * Kind `blue-green`: two databases and the way from one to the other, as the contract has it. What this version does not build is refused with NotYet,
 * never ignored. Pure: the workflow validates a bare start with the same function (validate.ts).
 */
import { z } from 'zod';
import type { CopyControl } from './dataMigration';
import { copyControlOf, dataMigrationSchema } from './dataMigration';
import { commonKeys, conditionSchema, connectionName, duration, hooksOf, size } from './plan';
import type { Control } from './state';
import { BLUE_GREEN_STEPS } from './steps';
import { parseTablePattern } from './tableNames';
import { trafficSchema } from './traffic';
import { parseDuration, parseSize } from './values';

const pattern = z.string().refine((text) => parseTablePattern(text) !== null, {
  error: 'not a table pattern; write it as public.*, audit_* or "Odd Name".*',
});

export const blueGreenSchema = z.strictObject({
  kind: z.literal('blue-green'),
  ...commonKeys,
  hooks: hooksOf(BLUE_GREEN_STEPS),
  blue: connectionName,
  green: connectionName,
  /** Applied on green before the data comes. */
  change: z
    .strictObject({ sql: z.string().min(1).optional(), sqlFile: z.string().min(1).optional() })
    .refine((c) => (c.sql === undefined) !== (c.sqlFile === undefined), { error: 'a change has either sql or sqlFile' })
    .optional(),
  tables: z
    .strictObject({ include: z.array(pattern).min(1).default(['*.*']), exclude: z.array(pattern).default([]) })
    .prefault({}),
  sync: z
    .strictObject({
      apply: z.enum(['auto', 'native', 'pgshift']).default('auto'),
      parallel: z
        .strictObject({
          tables: z.int().min(1).max(32).default(2),
          rangesPerTable: z.int().min(1).max(16).default(2),
          rangeSize: size.default('256MB'),
        })
        .prefault({}),
    })
    .prefault({}),
  onDdl: z.enum(['refuse', 'follow']).default('refuse'),
  applicationRoles: z.array(z.string().min(1)).optional(),
  traffic: trafficSchema,
  switch: z
    .strictObject({
      maxPause: duration.default('3s'),
      maxLag: size.default('1MB'),
      maxTransactionAge: duration.default('30s'),
      verify: z.enum(['changed', 'full']).default('changed'),
      retryAfter: duration.default('5m'),
      attempts: z.int().min(1).max(100).default(3),
    })
    .prefault({}),
  sequenceGap: z.int().min(0).max(1_000_000_000).default(1_000),
  drill: z.boolean().default(false),
  monitor: z
    .strictObject({ duration: duration.default('15m'), health: z.array(conditionSchema).default([]) })
    .prefault({}),
  decommission: z.enum(['keep', 'rename', 'drop']).default('keep'),
  /** For so long blue must have been seen unused before it is renamed or dropped; 0s = nobody looks. */
  unused: duration.default('5m'),
  /** Made of blue before it is renamed or dropped. Default: pg-dump before a drop. */
  archive: z
    .union([
      z.enum(['none', 'pg-dump']),
      z.strictObject({ method: z.literal('pg-dump'), directory: z.string().min(1).optional() }),
    ])
    .optional(),
  /** Guardrails that a person answers for, by their ids. */
  allow: z.array(z.strictObject({ rule: z.string().min(1), reason: z.string().min(1) })).default([]),
});
/** With every default filled in. */
export type BlueGreenPlan = z.output<typeof blueGreenSchema>;
/** As typed by a person. */
export type BlueGreenInput = z.input<typeof blueGreenSchema>;
/** What a blue-green and a canary have in common. */
export type PairPlan = Omit<BlueGreenPlan, 'kind'>;

/** Asked unless the plan says otherwise for that very gate: naming one gate does not open the other. */
export const DEFAULT_GATES = { switch_traffic: 'manual', decommission: 'manual' } as const;
/** Clients wait from here to there: nothing else may wait then. */
export const INSIDE_THE_PAUSE: readonly string[] = ['fence', 'catch_up', 'reverse', 'probe', 'resume'];
/** What nobody can answer for: the switch would lose rows, or make two writable sides. */
export const NEVER_ALLOWED: readonly string[] = [
  ...['different_databases', 'green_empty', 'version', 'primary', 'one_writable_side', 'other_side_fenced'],
  ...['replication_well', 'all_published', 'prepared_transactions', 'replica_identity'],
];

/** The plan's own part, as the run and its activities need it: names and limits, no SQL. */
export interface PairControl extends Pick<
  BlueGreenPlan,
  'blue' | 'green' | 'traffic' | 'switch' | 'sequenceGap' | 'drill' | 'decommission'
> {
  readonly applicationRoles: readonly string[];
  /** Ids of guardrails that a person answers for. */
  readonly allowed: readonly string[];
  readonly hasChange: boolean;
  readonly monitor: string;
  /** Before blue is renamed or dropped; absent in runs from before it was looked for. */
  readonly unused?: string;
  readonly archive?: NonNullable<BlueGreenPlan['archive']>;
}

export const pairControlOf = (plan: PairPlan): PairControl => ({
  blue: plan.blue,
  green: plan.green,
  traffic: plan.traffic,
  switch: plan.switch,
  sequenceGap: plan.sequenceGap,
  drill: plan.drill,
  decommission: plan.decommission,
  applicationRoles: plan.applicationRoles ?? [],
  allowed: plan.allow.map(({ rule }) => rule),
  hasChange: plan.change !== undefined,
  monitor: plan.monitor.duration,
  ...(plan.decommission === 'keep'
    ? {}
    : { unused: plan.unused, archive: plan.archive ?? (plan.decommission === 'drop' ? 'pg-dump' : 'none') }),
});

/** The part that a run of any kind goes by; blue is the database that holds its record. */
export function blueGreenControlOf(plan: PairPlan): Control {
  const { name, dependsOn, mode, onFailure, backup, window, throttle, lockTimeout, lockBudget, hold, hooks } = plan;
  const monitored = plan.monitor.health.map((c) => ({ ...c, phases: c.phases ?? ['monitor' as const] }));
  return {
    ...{ kind: 'blue-green', name, database: plan.blue, dependsOn, mode, onFailure, throttle, lockTimeout, lockBudget },
    ...{ hold, hooks, gates: plan.gates, health: [...plan.health, ...monitored], strategy: 'versioned' },
    searchPath: ['public'],
    ...(window === undefined ? {} : { window }),
    ...(plan.timeout === undefined ? {} : { timeout: plan.timeout }),
    ...(backup === undefined ? (mode === 'safe' ? { backup: 'pg-dump' } : {}) : { backup }),
  };
}

/** What the copy engine is told: every table, from blue to an empty green; rows are proven later, while both live. */
export const syncControlOf = ({ name, blue, green, tables, sync }: PairPlan): CopyControl =>
  copyControlOf(
    dataMigrationSchema.parse({
      kind: 'data-migration',
      name,
      source: blue,
      target: green,
      tables,
      parallel: sync.parallel,
      verify: 'none',
    }),
  );

export interface SwitchLimits {
  readonly maxPauseMs: number;
  readonly maxLagBytes: number;
  readonly maxTransactionAgeMs: number;
  readonly retryAfterMs: number;
}

export const switchLimits = ({ switch: s }: Pick<PairControl, 'switch'>): SwitchLimits => ({
  maxPauseMs: parseDuration(s.maxPause) ?? 3_000,
  maxLagBytes: parseSize(s.maxLag) ?? 1_048_576,
  maxTransactionAgeMs: parseDuration(s.maxTransactionAge) ?? 30_000,
  retryAfterMs: parseDuration(s.retryAfter) ?? 300_000,
});
