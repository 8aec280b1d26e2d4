/** `pgshift report ID`: what was done and proven. Rows that differ are read here, by the CLI's own connection, and masked unless asked otherwise. */
import type { Report } from '../../plan/model/status';
import type { ValidationReport } from '../../plan/model/validationState';
import type { Context } from '../context';
import { isOutOfSight, onDatabase, targetOf } from '../direct';
import { renderReport } from '../render/report';
import type { Difference, ReportView } from '../render/report';
import { renderHtml } from '../render/reportHtml';
import { renderMarkdown } from '../render/reportMarkdown';
import { noSuchRun, resolveRun } from '../resolveRun';
import { renderStatus } from '../render/status';
import { asReport, isValidation, viewValidation } from '../validationReport';
import type { Temporal } from '../temporal';
import { readStatus } from './status';

/** Enough to see what is wrong; all of them lie in pgshift.differences. */
const SHOWN_DIFFERENCES = 20;

interface ReportOptions {
  readonly format?: 'text' | 'json' | 'markdown' | 'html';
  readonly showValues?: boolean;
}

/** Without a worker: the status that is known, and no steps. @throws Problem NoSuchRun, Unreachable. */
export async function readReport(temporal: Temporal, id: string): Promise<ReportView> {
  const live = await temporal.query<Report>(id, 'report');
  if (live !== null) return { ...live, live: true };
  const seen = await temporal.describe(id);
  if (seen === null) throw noSuchRun(id);
  return {
    ...(await readStatus(temporal, seen)),
    steps: [],
    proof: [],
    longestLock: null,
    health: [],
    catalogDiff: { asked: [], other: [] },
    measured: {},
  };
}

interface Row {
  readonly [column: string]: unknown;
  readonly table: string;
  readonly column: string | null;
  readonly rule: string;
  readonly reason: string | null;
  readonly key: string | null;
  readonly source: string | null;
  readonly target: string | null;
}

/** Null: the CLI cannot see the database. */
async function differences(context: Context, report: ReportView, showValues: boolean): Promise<Difference[] | null> {
  try {
    const target = await targetOf(context, report.database);
    return await onDatabase(target, 'report', async (session) => {
      const rows = await session.rows<Row>(
        `SELECT d.table_name AS "table", d.column_name AS "column", d.rule, d.reason, d.key::text AS key,
                d.source_value AS source, d.target_value AS target
           FROM pgshift.differences AS d WHERE d.migration_name = $1 ORDER BY d.id LIMIT $2`,
        [report.name, SHOWN_DIFFERENCES],
      );
      const mask = (value: string | null): string | null => (value === null || showValues ? value : '***');
      return rows.map((row) => ({ ...row, key: mask(row.key), source: mask(row.source), target: mask(row.target) }));
    });
  } catch (error) {
    // No schema pgshift (a dry run leaves none) is no rows.
    if (isOutOfSight(error)) return null;
    return [];
  }
}

const mayDiffer = (report: ReportView): boolean =>
  report.proof.some((proof) => proof.differing > 0 || proof.remaining > 0) ||
  ['ProofFailed', 'TransformFailed', 'DuplicateRows'].includes(report.lastError?.code ?? '');

export async function report(context: Context, [typed = '']: readonly string[], options: ReportOptions): Promise<void> {
  const { terminal } = context;
  const temporal = await context.temporal();
  const seen = await resolveRun(temporal, typed);
  const found = await readReport(temporal, seen.id);
  if (isValidation(found)) return reportValidation(context, found, options);
  const rows = mayDiffer(found) ? await differences(context, found, options.showValues === true) : [];
  if (rows === null) terminal.note(`no connection to ${found.database}: the rows that differ are not shown`);
  const view: ReportView = { ...found, ...(rows === null || rows.length === 0 ? {} : { differences: rows }) };
  const format = terminal.json ? 'json' : (options.format ?? 'text');
  if (format === 'json') terminal.printJson(view);
  else if (format === 'markdown') terminal.print(renderMarkdown(view));
  else if (format === 'html') terminal.print(renderHtml(view));
  else terminal.print(renderReport(view, terminal.colors));
}

async function reportValidation(context: Context, found: ReportView, options: ReportOptions): Promise<void> {
  const { terminal } = context;
  const seen = await viewValidation(context, found as unknown as ValidationReport, options.showValues === true);
  const format = terminal.json ? 'json' : (options.format ?? 'text');
  if (format === 'json') terminal.printJson(seen.json);
  else if (format === 'text') terminal.print(seen.text ?? renderStatus(found, null, null, terminal.colors));
  else terminal.print((format === 'markdown' ? renderMarkdown : renderHtml)(asReport(seen, found)));
}
