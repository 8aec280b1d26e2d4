/**
 * A plan over the tables of two databases (data-migration, validation) as `pgshift plan` prints it and as the report of a dry run has it. Keeps true:
 * both are made from the same look at both databases. Types alone.
 */
import type { Dependent, Finding, Risk, RiskTable, RunPhase, Step } from './steps';
import type { ValidationPhase } from './validationState';

export interface PlannedStep extends Omit<Step, 'run' | 'undo' | 'phase'> {
  readonly phase: RunPhase | ValidationPhase;
}

/** What is said of one key of the plan: `path` as in where.path of an error; null = of none. */
export interface KeyedFinding extends Finding {
  readonly path: string | null;
}

export interface PlannedTable {
  /** For people: the source's, and the target's. */
  readonly table: string;
  readonly to: string;
  /** The planner's figure; null = never analysed. */
  readonly rows: number | null;
  /** With TOAST, without indexes. */
  readonly bytes: number;
  /** Ranges it is cut into; null = decided when it is read. */
  readonly ranges: number | null;
  /** `as it is`, `map: where, columns`, `upsert`, ... */
  readonly how: string;
}

export interface TablesPlan {
  readonly kind: 'data-migration' | 'validation';
  readonly name: string;
  /** The target: the database that is written, or that keeps the result. */
  readonly database: string;
  readonly source: string;
  readonly mode: 'dry-run' | 'safe' | 'production';
  readonly checksum: string;
  /** Of the target, and of the source. */
  readonly serverVersion: number;
  readonly sourceVersion: number;
  /** False: a finding refuses it. */
  readonly runnable: boolean;
  readonly risk: { readonly overall: Risk } & RiskTable;
  readonly estimate: { readonly seconds: readonly [number, number]; readonly bytes: readonly [number, number] };
  readonly steps: readonly PlannedStep[];
  readonly chosen: {
    readonly include: readonly string[];
    readonly exclude: readonly string[];
    readonly tables: number;
    readonly leftOut: number;
    /** Some of those that are left out. */
    readonly leftOutNames: readonly string[];
  };
  /** Largest first. */
  readonly tables: readonly PlannedTable[];
  readonly findings: readonly KeyedFinding[];
  readonly dependents: readonly Dependent[];
}

/** Of a dry run's report: without what the report says anyway. */
export type ShownTablesPlan = Pick<
  TablesPlan,
  'steps' | 'findings' | 'dependents' | 'tables' | 'chosen' | 'risk' | 'estimate'
>;

const SHOWN = 100;

/** No more than an answer may hold. */
export const shownTables = (plan: TablesPlan): ShownTablesPlan => {
  const { steps, findings, dependents, tables, chosen, risk, estimate } = plan;
  return {
    steps,
    findings: findings.slice(0, SHOWN),
    dependents,
    tables: tables.slice(0, SHOWN),
    chosen,
    risk,
    estimate,
  };
};
