/**
 * SQL and a catalogue snapshot -> steps. Pure: the same input gives the same plan, whether it is shown, run or reported. A refusal is a
 * finding of level error that nobody allowed; then the plan is not runnable but still shows everything that was found.
 */
import { createHash } from 'node:crypto';
import { Problem } from '../model/errors';
import { PlanBuilder } from './context';
import { sumEstimates, worse } from './figures';
import { addLint } from './lint';
import { refuseWrongOrder } from './order';
import { loadParser, parseSql } from './parse';
import { RULES } from './rules';
import { planStatement } from './statements';
import { findRetypes } from './statements/changeType';
import { transformNames } from './statements/setNotNull';
import { catalogueFindings } from './uses';
import type { Catalog } from '../model/catalog';
import type { SchemaMigrationPlan } from '../model/plan';
import type { Risk, RiskTable, SchemaPlan, Step } from '../model/steps';
import type { Statement } from './parse';

export interface PlanOptions {
  /** Shown in findings and errors; null when the SQL stands in the plan itself. */
  readonly file?: string | null;
  /** In place of plan.sql, which is the default. */
  readonly sql?: string;
  /** Also lint's own findings (advice). */
  readonly lint?: boolean;
}

export const checksumOf = (sql: string): string => createHash('sha256').update(sql, 'utf8').digest('hex');

/**
 * Throws SqlSyntax, NoSuchObject, TransformMissing, MeaningChanged, InvalidPlan (no sql). Refusals do not throw: see `runnable`.
 */
export async function planMigration(
  plan: SchemaMigrationPlan,
  catalog: Catalog,
  options: PlanOptions = {},
): Promise<SchemaPlan> {
  await loadParser();
  const source = options.sql ?? plan.sql;
  if (source === undefined) throw new Problem('InvalidPlan', 'the plan has no sql', { where: { path: 'sql' } });
  const file = options.file ?? null;
  checkAllowed(plan);
  const parsed = parseSql(source, file);
  if (parsed.statements.length === 0)
    throw new Problem('InvalidPlan', 'the SQL holds no statement', {
      where: { path: 'sql', ...(file === null ? {} : { file }) },
    });
  const retypes = findRetypes(parsed.statements, catalog, plan.searchPath);
  const builder = new PlanBuilder({ plan, catalog, file, source, allow: plan.allow, retypes, place: parsed.place });
  for (const statement of parsed.statements) planStatement(builder.context(statement));
  builder.runDeferred();
  checkTransforms(builder, parsed.statements);
  refuseWrongOrder(builder, parsed.statements, retypes);
  catalogueFindings(builder);
  if (options.lint) addLint(builder, parsed.statements);
  return assemble(plan, catalog, source, builder);
}

/** A rule that does not exist allows nothing: a misspelt one is told, not passed over. */
function checkAllowed(plan: SchemaMigrationPlan): void {
  plan.allow.forEach(({ rule }, i) => {
    if (!Object.hasOwn(RULES, rule))
      throw new Problem('InvalidPlan', `allow[${i}].rule: no such rule`, {
        where: { path: `allow[${i}].rule` },
        hint: 'the finding that refuses a plan names its rule: pgshift lint FILE',
      });
  });
}

/** Transforms that no statement asked for: a misspelt column would be filled by nothing. */
function checkTransforms(builder: PlanBuilder, statements: readonly Statement[]): void {
  const tables = [...builder.overlay.all(), ...builder.overlay.base.tables];
  const [first] = statements;
  for (const key of Object.keys(builder.transforms)) {
    if (!tables.some((t) => t.columns.some((c) => transformNames(t, c.name).includes(key))))
      throw new Problem('NoSuchObject', `transforms: no column is called ${key}`, {
        where: { path: `transforms.${key}` },
        value: key,
      });
    if (first && !builder.usedTransforms.has(key))
      builder.context(first).finding({
        rule: 'unused_transform',
        level: 'warning',
        message: `transforms: nothing in this plan asks how ${key} changes`,
        alternative: 'leave it out',
      });
  }
}

function assemble(plan: SchemaMigrationPlan, catalog: Catalog, source: string, builder: PlanBuilder): SchemaPlan {
  const forward = plan.strategy === 'forward-only';
  const steps = builder
    .steps()
    .map((step): Step =>
      forward ? { ...step, undo: [], wayBack: null, because: 'the plan says strategy: forward-only' } : step,
    );
  const table = worstOf(steps);
  const overall = Object.values(table).reduce<Risk>((a, b) => worse(a, b), 'low');
  return {
    kind: 'schema-migration',
    name: plan.name,
    database: plan.database,
    mode: plan.mode,
    checksum: checksumOf(source),
    serverVersion: catalog.serverVersion,
    runnable: !builder.findings.some((f) => f.level === 'error' && !f.allowed),
    risk: { overall, ...table },
    estimate: sumEstimates(steps.map((s) => s.estimate)),
    steps,
    findings: builder.findings,
    dependents: builder.dependents,
    asked: builder.asked,
    preChecks: builder.preChecks,
    keepsOld: builder.keepsOld,
  };
}

function worstOf(steps: readonly Step[]): RiskTable {
  const worst = (key: keyof RiskTable): Risk => steps.reduce<Risk>((a, step) => worse(a, step.risk[key]), 'low');
  return {
    dataLoss: worst('dataLoss'),
    downtime: worst('downtime'),
    performance: worst('performance'),
    rollback: worst('rollback'),
  };
}
