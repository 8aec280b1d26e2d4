/**
 * What plans over tables of two databases are shown from: one look at both, steps with their locks and ways back, tables with sizes, what speaks
 * against it. Pure. Keeps true: sizes are the planner's own figures of the source.
 */
import type { DataMigrationPlan } from '../model/dataMigration';
import type { Problem } from '../model/errors';
import { shownRelation } from '../model/quote';
import type { Estimate, PlannedLock, RelationName, Risk, RiskTable } from '../model/steps';
import type { TableMapping } from '../model/tableMapping';
import type { KeyedFinding, PlannedStep, PlannedTable, TablesPlan } from '../model/tablesPlan';
import { formatCount } from '../model/values';
import { brief, plannedLock, risk, sumEstimates, worse } from './figures';

/** One table as it was found. */
export interface LookedTable extends RelationName {
  readonly to: RelationName;
  readonly bytes: number;
  /** -1 or 0 with bytes = never analysed. */
  readonly rows: number;
  readonly ranges: number | null;
  readonly how: string;
}

export interface Look {
  readonly checksum: string;
  readonly sourceVersion: number;
  readonly serverVersion: number;
  readonly tables: readonly LookedTable[];
  /** How many the patterns choose, where some of them have no counterpart. */
  readonly chosen?: number;
  readonly leftOut: readonly RelationName[];
  readonly findings: readonly KeyedFinding[];
}

/** Locks of so many tables are listed, the largest first. */
export const LOCKS_LISTED = 10;
const NAMES_LISTED = 20;

export const over = (bytes: number, [slow, fast]: readonly [number, number], rows: number | null): Estimate => ({
  seconds: [bytes / fast, 0.1 + bytes / slow],
  bytes: [0, 0],
  rows,
});

type Given = Pick<PlannedStep, 'id' | 'phase' | 'action' | 'title' | 'statement'> & Partial<PlannedStep>;

export const step = (given: Given): PlannedStep => ({
  from: null,
  transactional: true,
  locks: [],
  work: 'metadata',
  estimate: brief(),
  risk: risk(),
  wayBack: null,
  because: given.wayBack ? null : 'nothing to undo',
  ...given,
});

export const back = (statement: string) => ({ statement, lossless: true });

/** What the plan itself says of one of its keys. */
export const said = (
  rule: string,
  level: KeyedFinding['level'],
  path: string | null,
  message: string,
  more: Partial<KeyedFinding> = {},
): KeyedFinding => ({
  rule,
  level,
  file: null,
  line: 1,
  column: 1,
  statement: 0,
  relation: null,
  message,
  alternative: null,
  allowed: false,
  path,
  ...more,
});

export const warning = (rule: string, path: string | null, message: string, more: Partial<KeyedFinding> = {}) =>
  said(rule, 'warning', path, message, more);

/** What would refuse the run. */
export const refusal = ({ code, message, where, hint }: Problem): KeyedFinding =>
  said(code.replace(/(?<=[a-z])[A-Z]/g, '_$&').toLowerCase(), 'error', where?.path ?? null, message, {
    alternative: hint,
  });

const KEYS = ['to', 'where', 'columns', 'omit', 'sample', 'deduplicate', 'nulls', 'validate', 'enrich'] as const;

/** What an entry of `map` does, in its own words. */
export function mapWords(mapping: TableMapping): string {
  const keys = KEYS.filter((key) => {
    const value = mapping[key];
    return value !== undefined && (typeof value !== 'object' || Object.keys(value).length > 0);
  });
  return keys.length === 0 ? 'through a stage' : `map: ${keys.join(', ')}`;
}

export interface Sums {
  readonly bytes: number;
  readonly rows: number;
  readonly unknown: number;
}

export const sumsOf = (tables: readonly LookedTable[]): Sums => ({
  bytes: tables.reduce((sum, table) => sum + table.bytes, 0),
  rows: tables.reduce((sum, table) => sum + Math.max(0, table.rows), 0),
  unknown: tables.filter(({ rows, bytes }) => isUnknown(rows, bytes)).length,
});

/** An empty table has no figure either. */
const isUnknown = (rows: number, bytes: number): boolean => rows <= 0 && bytes > 16 * 1024;

export const largest = (tables: readonly LookedTable[]): LookedTable[] =>
  [...tables].sort((a, b) => b.bytes - a.bytes || (shownRelation(a) < shownRelation(b) ? -1 : 1));

const tablesOf = (tables: readonly LookedTable[]): PlannedTable[] =>
  largest(tables).map((table) => ({
    table: shownRelation(table),
    to: shownRelation(table.to),
    rows: isUnknown(table.rows, table.bytes) ? null : Math.max(0, table.rows),
    bytes: table.bytes,
    ranges: table.ranges,
    how: table.how,
  }));

/** Reading takes nothing from anybody but ACCESS EXCLUSIVE. */
export const readLocks = (tables: readonly LookedTable[]): PlannedLock[] =>
  largest(tables)
    .slice(0, LOCKS_LISTED)
    .map((table) => plannedLock(table, 'ACCESS SHARE', 'scan'));

export const many = (n: number, what: string): string => `${formatCount(n)} ${what}${n === 1 ? '' : 's'}`;

export function whole(
  look: Look,
  of: Pick<TablesPlan, 'kind' | 'name' | 'database' | 'source' | 'mode'> & {
    readonly tables: DataMigrationPlan['tables'];
    readonly steps: readonly PlannedStep[];
    readonly risk: RiskTable;
    readonly findings: readonly KeyedFinding[];
  },
): TablesPlan {
  const { unknown } = sumsOf(look.tables);
  const unanalysed =
    unknown === 0
      ? []
      : [
          said(
            'never_analysed',
            'info',
            'tables',
            `${many(unknown, 'table')} of the source never analysed: no rows known`,
            {
              alternative: 'ANALYZE;',
            },
          ),
        ];
  const findings = [...look.findings, ...of.findings, ...unanalysed];
  const { kind, name, database, source, mode, steps } = of;
  const risks: readonly Risk[] = Object.values(of.risk);
  return {
    kind,
    name,
    database,
    source,
    mode,
    checksum: look.checksum,
    serverVersion: look.serverVersion,
    sourceVersion: look.sourceVersion,
    runnable: findings.every(({ level, allowed }) => level !== 'error' || allowed),
    risk: { overall: risks.reduce(worse, 'low'), ...of.risk },
    estimate: sumEstimates(steps.map(({ estimate }) => estimate)),
    steps,
    chosen: {
      include: of.tables.include,
      exclude: of.tables.exclude,
      tables: look.chosen ?? look.tables.length,
      leftOut: look.leftOut.length,
      leftOutNames: look.leftOut.slice(0, NAMES_LISTED).map(shownRelation),
    },
    tables: tablesOf(look.tables),
    findings,
    dependents: [],
  };
}
