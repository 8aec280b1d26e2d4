/**
 * What is asked: the plan file's shape, one source for types, validation and the published JSON Schema. Keys of kinds that are not built
 * yet are refused with NotYet, never ignored. Pure: it runs inside workflows, so that a bare Temporal start is validated the same way.
 */
import { z } from 'zod';
import { CONNECTION_NAME, MIGRATION_NAME, parseDuration, parseRate, parseRatio, parseSize } from './values';
import { BLUE_GREEN_STEPS, DATA_PHASES, PHASES } from './steps';

const written = (what: string, parse: (text: string) => number | null, example: string) =>
  z.string().refine((text) => parse(text) !== null, { error: `not a ${what}; write it as ${example}` });

export const duration = written('duration', parseDuration, '200ms, 5s, 90m, 24h or 1h30m');
export const size = written('size', parseSize, '16kB, 50MB or 2GB');
export const rate = written('rate', parseRate, '50MB/s');
const ratio = written('ratio', parseRatio, '1.5x');

const looksLikeUrl = (text: string) => text.includes('://') || /\bpassword=|\bhost=/.test(text);
/** Refused without being echoed: the message never holds the value. */
export const connectionName = z
  .string()
  .refine((text) => !looksLikeUrl(text), { error: 'a connection is a name, never a URL (the value is not shown)' })
  .refine((text) => looksLikeUrl(text) || CONNECTION_NAME.test(text), {
    error: 'a connection name is [a-z][a-z0-9_]*',
  });

export const migrationName = z.string().regex(MIGRATION_NAME, { error: 'a name is [a-z0-9][a-z0-9_.-]{0,99}' });

const phase = z.enum([...PHASES, ...DATA_PHASES, ...BLUE_GREEN_STEPS, 'stages', 'full']);

export const conditionSchema = z.strictObject({
  name: z.string().min(1),
  source: z.enum(['prometheus', 'sql', 'http', 'router', 'connections']),
  query: z.string().optional(),
  url: z.string().optional(),
  jsonPath: z.string().optional(),
  database: connectionName.optional(),
  failWhen: z.string().optional(),
  successWhen: z.string().optional(),
  interval: duration.default('30s'),
  initialDelay: duration.default('0s'),
  count: z.int().positive().optional(),
  failureLimit: z.int().nonnegative().default(0),
  consecutiveErrorLimit: z.int().nonnegative().default(4),
  phases: z.array(phase).optional(),
  onFail: z.enum(['rollback', 'pause', 'alert']).default('rollback'),
  onInconclusive: z.enum(['hold', 'ignore']).default('hold'),
  dryRun: z.boolean().default(false),
});
export type Condition = z.output<typeof conditionSchema>;

const manualGate = z.strictObject({
  type: z.literal('manual'),
  expires: duration.optional(),
  onExpiry: z.enum(['reject', 'hold']).default('reject'),
  quorum: z.int().positive().default(1),
  roles: z.array(z.string()).default([]),
  notBy: z.enum(['starter', 'none']).default('none'),
});
const metricGate = conditionSchema.extend({ type: z.literal('metric') });
const oneGate = z.union([z.enum(['none', 'manual']), manualGate, metricGate]);
export const gateSchema = z.union([oneGate, z.array(oneGate)]);
export type Gate = z.output<typeof gateSchema>;
export type ManualGate = z.output<typeof manualGate>;
export type MetricGate = z.output<typeof metricGate>;

export const throttleSchema = z.strictObject({
  maxReplicationLag: z.union([duration, size, z.literal('none')]).default('5s'),
  maxLockWait: z.union([duration, z.literal('none')]).default('200ms'),
  maxWalRate: z.union([rate, z.literal('none')]).default('none'),
  maxArchiveBacklog: z.union([z.int().nonnegative(), z.literal('none')]).default(42),
  autovacuum: z.enum(['wait', 'ignore']).default('wait'),
  appP95: z.union([ratio, duration, z.literal('none')]).default('none'),
  batch: z
    .strictObject({
      target: duration.default('500ms'),
      min: z.int().positive().default(100),
      max: z.int().positive().default(100_000),
    })
    .prefault({}),
  parallel: z.int().min(1).max(16).default(1),
  every: duration.default('1s'),
});
export type Throttle = z.output<typeof throttleSchema>;

const hook = z
  .strictObject({
    name: z.string().min(1),
    run: z.array(z.string()).min(1).optional(),
    url: z.string().optional(),
    timeout: duration.default('30s'),
    onFail: z.enum(['stop', 'ignore']).default('stop'),
  })
  .refine((h) => (h.run === undefined) !== (h.url === undefined), { error: 'a hook has either run or url' });
export type Hook = z.output<typeof hook>;

const hookKey = (phases: readonly string[]) =>
  z.string().regex(new RegExp(`^(before|after):(${phases.join('|')})$`), {
    error: `a hook is named before:<phase> or after:<phase>; phases: ${phases.join(', ')}`,
  });
export const hooksOf = (phases: readonly string[]) => z.record(hookKey(phases), z.array(hook)).default({});

const transform = z.strictObject({ up: z.string().optional(), down: z.string().optional() });

/** Keys of every kind that runs through phases. */
export const commonKeys = {
  name: migrationName,
  description: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  dependsOn: z.array(migrationName).default([]),
  mode: z.enum(['dry-run', 'safe', 'production']).default('production'),
  onFailure: z.enum(['rollback', 'pause']).default('rollback'),
  backup: z
    .union([
      z.enum(['none', 'pg-dump']),
      z.strictObject({
        method: z.enum(['none', 'pg-dump']),
        directory: z.string().optional(),
        keep: duration.default('14d'),
      }),
    ])
    .optional(),
  gates: z.record(z.string(), gateSchema).default({}),
  window: z
    .strictObject({
      cron: z.string(),
      duration,
      timezone: z.string().default('UTC'),
      phases: z.array(z.string()).optional(),
    })
    .optional(),
  throttle: z.union([z.literal('none'), throttleSchema]).prefault({}),
  lockTimeout: duration.default('200ms'),
  lockBudget: duration.default('1h'),
  health: z.array(conditionSchema).default([]),
  hold: duration.default('24h'),
  hooks: hooksOf(PHASES),
  timeout: duration.optional(),
};

export const schemaMigrationSchema = z
  .strictObject({
    kind: z.literal('schema-migration'),
    ...commonKeys,
    database: connectionName,
    sql: z.string().optional(),
    sqlFile: z.string().optional(),
    transforms: z.record(z.string(), transform).default({}),
    strategy: z.enum(['versioned', 'forward-only']).default('versioned'),
    allow: z
      .array(
        z.strictObject({
          rule: z.string().min(1),
          statement: z.int().positive().optional(),
          reason: z.string().min(1),
        }),
      )
      .default([]),
    archive: z.union([z.literal('none'), z.strictObject({ to: z.string().min(1) })]).default('none'),
    versions: z.strictObject({ from: z.string(), to: z.string() }).optional(),
    searchPath: z.array(z.string()).default(['public']),
  })
  .refine((p) => p.sql !== undefined || p.sqlFile !== undefined, { error: 'sql or sqlFile is required', path: ['sql'] })
  .refine((p) => p.sql === undefined || p.sqlFile === undefined, {
    error: 'give sql or sqlFile, not both',
    path: ['sqlFile'],
  });

/** With every default filled in. */
export type SchemaMigrationPlan = z.output<typeof schemaMigrationSchema>;
/** As typed by a person. */
export type SchemaMigrationInput = z.input<typeof schemaMigrationSchema>;

export const rollbackSchema = z.strictObject({
  kind: z.literal('rollback'),
  name: migrationName.optional(),
  description: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  database: connectionName,
  migration: migrationName,
  reason: z.string().optional(),
  by: z.string().optional(),
});
export type RollbackPlan = z.output<typeof rollbackSchema>;

export const BUILT_KINDS = [
  'schema-migration',
  'data-migration',
  'blue-green',
  'canary',
  'rollback',
  'validation',
] as const;
export const KINDS = [
  'schema-migration',
  'data-migration',
  'blue-green',
  'canary',
  'validation',
  'rollback',
  'release',
  'fleet',
] as const;
export type Kind = (typeof KINDS)[number];

/** Keys of built kinds that are part of the contract but not of this version. Each is refused with NotYet. */
export const NOT_YET_KEYS: Readonly<Record<string, readonly string[]>> = {
  'schema-migration': ['versions'],
  'blue-green': ['map', 'transforms'],
  canary: ['map', 'transforms'],
  rollback: [],
  validation: [
    'dependsOn',
    'mode',
    'onFailure',
    'backup',
    'gates',
    'window',
    'throttle',
    'lockTimeout',
    'lockBudget',
    'health',
    'hold',
    'hooks',
    'timeout',
  ],
  'data-migration': [],
};
