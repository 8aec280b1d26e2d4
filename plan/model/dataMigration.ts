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
  verify: z.enum(['full', 'sample', 'none']).default('full'),
});
/** With every default filled in. */
export type DataMigrationPlan = z.output<typeof dataMigrationSchema>;
/** As typed by a person. */
export type DataMigrationInput = z.input<typeof dataMigrationSchema>;

/** Values of built keys that are not built: `key: value`. */
export const NOT_YET_VALUES: readonly (readonly [string, unknown])[] = [['verify', 'sample']];

/** What the workflow keeps of the plan's own part. */
export type CopyControl = Pick<
  DataMigrationPlan,
  'source' | 'target' | 'tables' | 'schema' | 'keep' | 'parallel' | 'verify'
> &
  ModeControl;

/** The part that a run of any kind goes by. The state lies in the target, so that is its database. */
export function dataControlOf(plan: DataMigrationPlan): Control {
  const {
    labels: _1,
    description: _2,
    source: _3,
    tables: _4,
    schema: _5,
    keep: _6,
    parallel: _7,
    verify: _8,
    ...rest
  } = plan;
  const { transfer: _9, streaming: _10, incremental: _11, target, ...control } = rest;
  return { ...control, database: target, strategy: 'versioned', searchPath: [] };
}

export const copyControlOf = (plan: DataMigrationPlan): CopyControl => {
  const { source, target, tables, schema, keep, parallel, verify } = plan;
  return { source, target, tables, schema, keep, parallel, verify, ...modesOf(plan) };
};

export const rangeBytes = (control: Pick<CopyControl, 'parallel'>): number =>
  parseSize(control.parallel.rangeSize) ?? 256 * 1024 ** 2;
