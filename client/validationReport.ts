/**
 * A validation as `verify`, `report` and `watch` show it: the run's answer where it is whole, else what lies in the target; rows that differ are read
 * from there by the CLI's own connection, masked unless their values were asked for.
 */
import type { ValidationPlan, VerifyResult } from '../plan/model/validation';
import type { ValidationReport } from '../plan/model/validationState';
import { findPlan, findResult } from '../postgres/verify/claim';
import { withSamples } from '../postgres/verify/samples';
import type { Context } from './context';
import { isOutOfSight, onDatabase, targetOf } from './direct';
import type { ReportView } from './render/report';
import { renderVerify } from './render/verify';

export const isValidation = (report: { readonly kind: string }): boolean => report.kind === 'validation';

/** Null: the CLI cannot see the target. */
export async function storedValidation(
  context: Context,
  database: string,
  name: string,
): Promise<{ readonly plan: ValidationPlan; readonly result: VerifyResult } | null> {
  try {
    return await onDatabase(await targetOf(context, database), 'report', async (session) => {
      const [plan, result] = [await findPlan(session, name), await findResult(session, name)];
      return plan && result ? { plan, result } : null;
    });
  } catch (error) {
    // No schema pgshift is no result.
    if (isOutOfSight(error)) context.terminal.note(`no connection to ${database}: the rows that differ are not shown`);
    return null;
  }
}

export async function sampled(
  context: Context,
  plan: ValidationPlan,
  result: VerifyResult,
  showValues: boolean,
): Promise<VerifyResult> {
  try {
    const of = { name: plan.name, limit: plan.differences, showValues };
    const target = await targetOf(context, plan.target);
    return await onDatabase(target, 'report', (session) => withSamples(session, of, result));
  } catch (error) {
    if (!isOutOfSight(error)) throw error;
    context.terminal.note(`no connection to ${plan.target}: the rows that differ are not shown`);
    return result;
  }
}

export interface ValidationView {
  readonly json: ValidationReport;
  /** For people; null while there is no result. */
  readonly text: string | null;
}

export async function viewValidation(
  context: Context,
  report: ValidationReport,
  showValues: boolean,
): Promise<ValidationView> {
  if (report.endedAt === null || report.status !== 'completed') return { json: report, text: null };
  const stored = await storedValidation(context, report.database, report.name);
  if (stored === null) return { json: report, text: null };
  const result = await sampled(context, stored.plan, stored.result, showValues);
  return { json: { ...report, ...result }, text: renderVerify(result, stored.plan, context.terminal.colors) };
}

/** In the shape of any run's report, for Markdown and HTML. */
export const asReport = ({ json }: ValidationView, report: ReportView): ReportView => ({
  ...report,
  steps: [],
  longestLock: null,
  health: [],
  proof: (json.tables ?? []).map((table) => ({
    table: table.table,
    column: table.table,
    rows: table.sourceRows,
    remaining: 0,
    ranges: table.ranges,
    fingerprintOld: table.fingerprintSource,
    fingerprintNew: table.fingerprintTarget,
    equal: table.equal,
    differing: table.differing,
  })),
  catalogDiff: {
    asked: [],
    other: [...(json.errors ?? []), ...(json.warnings ?? [])].map((f) => `${f.check} ${f.table ?? ''}: ${f.message}`),
  },
  measured: { ...json.statistics },
  differences: (json.tables ?? []).flatMap((table) =>
    (table.samples ?? []).flatMap(({ key, kind, columns }) =>
      (columns.length > 0 ? columns : [{ name: '-', source: null, target: null }]).map((column) => ({
        table: table.table,
        column: column.name,
        rule: 'verify',
        reason: kind,
        key: JSON.stringify(key),
        source: column.source,
        target: column.target,
      })),
    ),
  ),
});
