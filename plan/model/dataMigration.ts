/**
 * Kind `data-migration`: what is copied from where to where, as the contract has it. What this version does not build is refused with
 * NotYet, never ignored. Pure: the workflow validates a bare start with the same function.
 */
import { z } from 'zod';
import type { ModeControl } from './dataModes';
import { MODES, incrementalSchema, modesOf, streamingSchema } from './dataModes';
import { commonKeys, connectionName, hooksOf, size } from './plan';
import type { Control } from './state';
import { DATA_PHASES } from './steps';
import { mapSchema } from './tableMapping';
import { parseTablePattern } from './tableNames';
import { parseSize } from './values';

const pattern = z.string().refine((text) => parseTablePattern(text) !== null, {
  error: 'not a table pattern; write it as public.*, audit_* or "Odd Name".*',
});

export const dataMigrationSchema = z.strictObject({
  kind: z.literal('data-migration'),
  ...commonKeys,
  hooks: hooksOf(DATA_PHASES),
  source: connectionName,
  target: connectionName,
  tables: z
    .strictObject({ include: z.array(pattern).min(1).default(['public.*']), exclude: z.array(pattern).default([]) })
    .prefault({}),
  transfer: z.enum(MODES).default('full'),
  streaming: streamingSchema.optional(),
  incremental: incrementalSchema.optional(),
  schema: z.enum(['create', 'existing']).default('create'),
  keep: z
    .strictObject({
      indexes: z.boolean().default(true),
      constraints: z.boolean().default(true),
      triggers: z.boolean().default(true),
      views: z.boolean().default(true),
      functions: z.boolean().default(true),
    })
    .prefault({}),
  parallel: z
    .strictObject({
      tables: z.int().min(1).max(32).default(2),
      rangesPerTable: z.int().min(1).max(16).default(2),
      rangeSize: size.default('256MB'),
    })
    .prefault({}),
  profile: z.literal('bulk').optional(),
  load: z
    .strictObject({
      method: z.enum(['copy', 'insert', 'upsert']).default('copy'),
      onConflict: z.enum(['update', 'ignore', 'fail']).optional(),
      disable: z.array(z.enum(['indexes', 'constraints', 'triggers'])).default([]),
    })
    .prefault({}),
  map: mapSchema,
  errors: z
    .strictObject({
      max: z.int().nonnegative().optional(),
      rate: z.number().min(0).max(1).optional(),
      onLimit: z.literal('stop').default('stop'),
    })
    .prefault({}),
  verify: z.enum(['full', 'sample', 'none']).default('full'),
});
/** With every default filled in. */
export type DataMigrationPlan = z.output<typeof dataMigrationSchema>;
/** As typed by a person. */
export type DataMigrationInput = z.input<typeof dataMigrationSchema>;

/** Values of built keys that are not built: `key: value`. */
export const NOT_YET_VALUES: readonly (readonly [string, unknown])[] = [];

/** How many bad rows the run takes. Null = that one is no limit. */
export interface ErrorBudget {
  readonly max: number | null;
  /** Of the rows read, 0..1. */
  readonly rate: number | null;
}

/** Neither is given: no error at all. One of them alone is the only limit. */
export const errorBudget = ({ max, rate }: DataMigrationPlan['errors']): ErrorBudget =>
  max === undefined && rate === undefined ? { max: 0, rate: null } : { max: max ?? null, rate: rate ?? null };

export interface LoadControl {
  readonly method: 'copy' | 'insert' | 'upsert';
  readonly onConflict: 'update' | 'ignore' | 'fail';
  readonly disable: readonly ('indexes' | 'constraints' | 'triggers')[];
}

/** What the workflow keeps of the plan's own part. `map` lies in pgshift.copy_maps of the target: it may be large. */
export interface CopyControl
  extends
    Pick<DataMigrationPlan, 'source' | 'target' | 'tables' | 'schema' | 'keep' | 'parallel' | 'verify'>,
    ModeControl {
  /** Left out: method copy, nothing taken off. */
  readonly load?: LoadControl;
  /** Left out: none. */
  readonly errors?: ErrorBudget;
  /** Rows of a range; left out: ranges are cut by `parallel.rangeSize`. */
  readonly batchRows?: number;
  /** How often a range is tried again after an error that is not of its rows. */
  readonly retries?: number;
}

/** `profile: bulk`, under what the plan says itself. */
export const BULK = {
  parallel: { tables: 5, rangesPerTable: 1 },
  timeout: '1h',
  errors: { max: 100, rate: 0.01 },
} as const;
const BULK_BATCH_ROWS = 10_000;
const BULK_RETRIES = 3;

/** The part that a run of any kind goes by. The state lies in the target, so that is its database. */
export function dataControlOf(plan: DataMigrationPlan): Control {
  const own = ['labels', 'description', 'source', 'tables', 'schema', 'keep', 'parallel', 'verify'] as const;
  const more = ['profile', 'load', 'map', 'errors', 'transfer', 'streaming', 'incremental'] as const;
  const rest = Object.fromEntries(
    Object.entries(plan).filter(
      ([key]) => !(own as readonly string[]).includes(key) && !(more as readonly string[]).includes(key),
    ),
  ) as Omit<DataMigrationPlan, (typeof own)[number] | (typeof more)[number]>;
  const { target, ...control } = rest;
  return { ...control, database: target, strategy: 'versioned', searchPath: [] };
}

export function copyControlOf(plan: DataMigrationPlan): CopyControl {
  const { source, target, tables, schema, keep, parallel, verify, load, errors, profile } = plan;
  const onConflict = load.onConflict ?? (load.method === 'upsert' ? 'update' : 'fail');
  return {
    source,
    target,
    tables,
    schema,
    keep,
    parallel,
    verify,
    load: { ...load, onConflict },
    errors: errorBudget(errors),
    ...modesOf(plan),
    ...(profile === 'bulk' ? { batchRows: BULK_BATCH_ROWS, retries: BULK_RETRIES } : {}),
  };
}

export const rangeBytes = (control: Pick<CopyControl, 'parallel'>): number =>
  parseSize(control.parallel.rangeSize) ?? 256 * 1024 ** 2;
