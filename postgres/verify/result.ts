/**
 * What a verification found, from its checkpoints and lists in the target. Keeps true: a table is equal only when every row was looked at and none
 * differs; what could not be looked at, or never came to rest, is an error and no pass. Counts alone: no key, no value.
 */
import type {
  CheckName,
  ValidationPlan,
  VerifiedTable,
  VerifyFinding,
  VerifyResult,
} from '../../plan/model/validation';
import { formatCount } from '../../plan/model/values';
import type { Session } from '../session';
import type { VerifyLane } from './lanes';
import { addSums, CANDIDATES_MAX, readLanes } from './lanes';

interface Counts {
  readonly missing: number;
  readonly extra: number;
  readonly changed: number;
  readonly unsettled: number;
  readonly repaired: number;
}

interface StepResult {
  readonly findings?: readonly VerifyFinding[];
  readonly errors?: readonly VerifyFinding[];
  readonly warnings?: readonly VerifyFinding[];
  readonly rechecked?: number;
}

interface StepRow extends Record<string, unknown> {
  readonly id: string;
  readonly seconds: number;
  readonly result: StepResult;
}

const NO_COUNTS = { missing: 0, extra: 0, changed: 0, unsettled: 0, repaired: 0 };

const countsSql = `
  SELECT u.name, count(*) FILTER (WHERE u.rule = 'verify' AND u.kind = 'missing')::int AS missing,
         count(*) FILTER (WHERE u.rule = 'verify' AND u.kind = 'extra')::int AS extra,
         count(*) FILTER (WHERE u.rule = 'verify' AND u.kind = 'changed')::int AS changed,
         count(*) FILTER (WHERE u.rule = 'unsettled')::int AS unsettled,
         count(*) FILTER (WHERE u.rule = 'repaired')::int AS repaired
    FROM (SELECT d.table_name AS name, d.key, d.rule, min(d.reason) AS kind FROM pgshift.differences AS d
           WHERE d.migration_name = $1 GROUP BY 1, 2, 3) AS u GROUP BY 1`;

/** Reads the result as it stands; complete once every phase is done. */
export async function readResult(session: Session, plan: ValidationPlan): Promise<VerifyResult> {
  const lanes = await readLanes(session, { migration: plan.name });
  const counts = new Map(
    (await session.rows<Counts & { name: string } & Record<string, unknown>>(countsSql, [plan.name])).map((row) => [
      row.name,
      row,
    ]),
  );
  const steps = await session.rows<StepRow>(
    `SELECT s.step_id AS id, coalesce(extract(epoch FROM s.finished_at - s.started_at), 0)::float8 AS seconds, s.result
       FROM pgshift.steps AS s WHERE s.migration_name = $1 ORDER BY s.started_at`,
    [plan.name],
  );
  const compared = steps.find(({ id }) => id === 'compare');
  const columns = compared?.result.findings ?? [];
  const errors: VerifyFinding[] = plan.checks.includes('rows') ? [...columns] : [];
  const tables: VerifiedTable[] = [];
  for (const list of lanes.values()) {
    const table = tableOf(list, counts.get(list[0]?.scope ?? '') ?? NO_COUNTS, columns);
    tables.push(table.verified);
    errors.push(...table.errors);
  }
  for (const step of steps) errors.push(...(step.result.errors ?? []));
  const warnings = steps.flatMap((step) => step.result.warnings ?? []);
  const missing = ['compare', 'recheck', 'checks'].filter((id) => !steps.some((step) => step.id === id));
  errors.push(...missing.map((id) => finding('rows', null, `phase ${id} did not run to its end`)));
  const sum = (of: (table: VerifiedTable) => number): number => tables.reduce((total, table) => total + of(table), 0);
  const seconds = steps.filter(({ id }) => id !== 'checks').reduce((total, step) => total + step.seconds, 0);
  const rows = sum((table) => table.sourceRows);
  return {
    passed: errors.length === 0,
    errors,
    warnings,
    statistics: {
      rows,
      seconds: Math.round(seconds * 1_000) / 1_000,
      rowsPerSecond: Math.round(rows / Math.max(0.001, compared?.seconds ?? seconds)),
      tables: tables.length,
      ranges: sum((table) => table.ranges),
      rechecked: steps.reduce((total, step) => total + (step.result.rechecked ?? 0), 0),
      repaired: sum((table) => table.repaired),
    },
    tables: tables.sort((a, b) => (a.table < b.table ? -1 : 1)),
  };
}

const finding = (check: CheckName, table: string | null, message: string): VerifyFinding => ({ check, table, message });

function tableOf(
  lanes: readonly VerifyLane[],
  counts: Counts,
  findings: readonly VerifyFinding[],
): { verified: VerifiedTable; errors: VerifyFinding[] } {
  const label = lanes[0]?.label ?? '';
  const to = lanes[0]?.scope ?? '';
  const total = (of: (lane: VerifyLane) => number): number => lanes.reduce((sum, lane) => sum + of(lane), 0);
  const unread = total((lane) => lane.unread);
  const failed = lanes.find((lane) => lane.error !== null)?.error ?? null;
  const unfinished = lanes.some((lane) => !lane.done);
  const differing = counts.missing + counts.extra + counts.changed;
  const complete = unread === 0 && failed === null && !unfinished;
  const errors: VerifyFinding[] = [];
  if (failed !== null) errors.push(finding('rows', label, `could not be compared: ${failed}`));
  if (unfinished && failed === null) errors.push(finding('rows', label, 'was not compared to its end'));
  if (differing > 0 || unread > 0) errors.push(finding('rows', label, differingWords(counts, differing, unread)));
  if (counts.unsettled > 0)
    errors.push(
      finding(
        'rows',
        label,
        `${formatCount(counts.unsettled)} rows never came to rest (written too often, or the target lags): verify again`,
      ),
    );
  return {
    verified: {
      table: label,
      ...(to === label ? {} : { to }),
      sourceRows: total((lane) => lane.sourceRows),
      targetRows: total((lane) => lane.targetRows),
      equal: errors.length === 0 && !findings.some((one) => one.table === label),
      differing,
      complete,
      ranges: total((lane) => lane.ranges),
      repaired: counts.repaired,
      fingerprintSource: lanes.reduce((sum, lane) => addSums(sum, lane.sourceSum), '0'),
      fingerprintTarget: lanes.reduce((sum, lane) => addSums(sum, lane.targetSum), '0'),
    },
    errors,
  };
}

function differingWords(counts: Counts, differing: number, unread: number): string {
  const parts = (['missing', 'extra', 'changed'] as const).filter((kind) => counts[kind] > 0);
  const list = parts.map((kind) => `${formatCount(counts[kind])} ${kind}`).join(', ');
  const more = unread > 0 ? `; more of them were not looked for after ${formatCount(CANDIDATES_MAX)}` : '';
  return `${formatCount(differing)} row${differing === 1 ? ' differs' : 's differ'}${list ? ` (${list})` : ''}${more}`;
}
