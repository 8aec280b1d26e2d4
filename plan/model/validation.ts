/**
 * Kind `validation`: what is compared, and what comes back. The plan's shape is the contract's; keys of `map` that verification does not know
 * how to compare are refused with NotYet, never ignored. Results carry counts alone: keys and values lie in pgshift.differences of the target.
 */
import { z } from 'zod';
import { connectionName, migrationName } from './plan';
import { parseColumnName, parseTableName, parseTablePattern } from './tableNames';

export const CHECKS = [
  'rows',
  'schema',
  'constraints',
  'sequences',
  'privileges',
  'rls',
  'orphans',
  'performance',
] as const;
export type CheckName = (typeof CHECKS)[number];

const pattern = z.string().refine((text) => parseTablePattern(text) !== null, {
  error: 'not a table pattern; write it as public.*, audit_* or "Odd Name".*',
});
const table = z.string().refine((text) => parseTableName(text) !== null, {
  error: 'not a table; write it as table or schema.table',
});
const column = z.string().refine((text) => parseColumnName(text) !== null, { error: 'not a column' });
const expression = z.strictObject({ sql: z.string().min(1) });

/** How rows of one source table look on the target. `columns`: new name -> old name or expression over the source row. */
export const tableMapSchema = z.strictObject({
  to: table.optional(),
  where: z.string().min(1).optional(),
  columns: z.record(column, z.union([column, expression])).default({}),
  omit: z.array(column).default([]),
  nulls: z.record(column, z.union([z.string(), z.number(), z.boolean()])).default({}),
  enrich: z.record(column, expression).default({}),
});
export type TableMap = z.output<typeof tableMapSchema>;

/** Of the contract's `map`, what verification cannot undo or repeat by itself. */
export const NOT_YET_MAP_KEYS = ['sample', 'deduplicate', 'validate'] as const;

export const validationSchema = z.strictObject({
  kind: z.literal('validation'),
  name: migrationName,
  description: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  source: connectionName,
  target: connectionName,
  tables: z
    .strictObject({ include: z.array(pattern).min(1).default(['public.*']), exclude: z.array(pattern).default([]) })
    .prefault({}),
  map: z.record(table, tableMapSchema).default({}),
  live: z.enum(['auto', 'static']).default('auto'),
  differences: z.int().min(0).max(1_000).default(100),
  repair: z.enum(['none', 'target']).default('none'),
  checks: z.array(z.enum(CHECKS)).min(1).default(['rows', 'schema', 'constraints', 'sequences']),
  parallel: z.int().min(1).max(16).default(2),
});
/** With every default filled in. */
export type ValidationPlan = z.output<typeof validationSchema>;

export type DifferenceKind = 'missing' | 'extra' | 'changed';

export interface VerifyFinding {
  readonly check: CheckName;
  /** Null: not about one table. */
  readonly table: string | null;
  readonly message: string;
}

/** One row that differs; values are null where there is none. Only the CLI makes these, by its own connection. */
export interface VerifySample {
  readonly key: Readonly<Record<string, string | null>>;
  readonly kind: DifferenceKind;
  readonly columns: readonly {
    readonly name: string;
    readonly source: string | null;
    readonly target: string | null;
  }[];
}

export interface VerifiedTable {
  /** The source's name; `to` is the target's where it is another. */
  readonly table: string;
  readonly to?: string;
  readonly sourceRows: number;
  readonly targetRows: number;
  readonly equal: boolean;
  readonly differing: number;
  /** False: there are more differing rows than were looked for. */
  readonly complete: boolean;
  readonly ranges: number;
  readonly repaired: number;
  /** Order-independent 64-bit sums as text. Of data that changes meanwhile they need not be equal. */
  readonly fingerprintSource: string;
  readonly fingerprintTarget: string;
  readonly samples?: readonly VerifySample[];
}

export interface VerifyStatistics {
  /** Rows of the source. */
  readonly rows: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  readonly tables: number;
  readonly ranges: number;
  /** Rows that were looked at again because they differed at first. */
  readonly rechecked: number;
  readonly repaired: number;
}

export interface VerifyResult {
  readonly passed: boolean;
  readonly errors: readonly VerifyFinding[];
  readonly warnings: readonly VerifyFinding[];
  readonly statistics: VerifyStatistics;
  readonly tables: readonly VerifiedTable[];
}

/** What workflow `validation` answers: the result, without what would make it larger than an answer may be. */
export interface ValidationOutcome extends VerifyResult {
  readonly status: 'completed';
  readonly id: string;
  readonly checksum: string;
  /** Where the whole of it lies: `<target>/<name>`, in schema pgshift of that database. */
  readonly reportRef: string;
}
