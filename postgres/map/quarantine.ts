/**
 * Rows that are set aside, in pgshift.quarantine of the target, and how many of them a run takes. Keeps true: a row of the list commits with the
 * range that it is of, or with the range's being given up; keys are never logged; nothing is counted that is not on the list, but for what comes
 * behind the limit of a run that stops.
 */
import type { ErrorBudget } from '../../plan/model/dataMigration';
import { Problem } from '../../plan/model/errors';
import type { Attempt } from '../fence';
import type { Session } from '../session';
import { STAGE } from './spec';
import type { SpecRule } from './spec';

export interface BadRow {
  /** jsonb as text. */
  readonly key: string;
  readonly column: string | null;
  /** email, range, ..., lookup, where; type = a value that cannot be what it must be; constraint, conflict. */
  readonly rule: string;
  readonly reason: string;
}

export interface Place {
  readonly attempt: Attempt;
  readonly lane: number;
  /** The source's table, as people read it. */
  readonly table: string;
}

const placed = ({ attempt, lane, table }: Place): unknown[] => [attempt.migration, table, attempt.stepId, lane];

const INTO = `INSERT INTO pgshift.quarantine (migration_name, table_name, step_id, lane, key, column_name, rule, reason)`;

/** Forgets what an earlier try of this range left. */
export const clearLane = (session: Session, { attempt, lane }: Place): Promise<number> =>
  session.run(`DELETE FROM pgshift.quarantine WHERE migration_name = $1 AND step_id = $2 AND lane = $3`, [
    attempt.migration,
    attempt.stepId,
    lane,
  ]);

/** Rows of the stage that a rule refused. */
export const quarantineRuled = (
  session: Session,
  place: Place,
  rules: readonly SpecRule[],
  most: number,
): Promise<number> =>
  session.run(
    `${INTO} SELECT $1, $2, $3, $4, s.k::jsonb, r.column, r.rule, r.reason FROM ${STAGE} AS s
       JOIN jsonb_to_recordset($5::jsonb) AS r(n int, "column" text, rule text, reason text) ON r.n = s.r ORDER BY s.ctid LIMIT $6`,
    [...placed(place), JSON.stringify(rules.map(({ column, rule, reason }, n) => ({ n, column, rule, reason }))), most],
  );

export const quarantineRows = (session: Session, place: Place, rows: readonly BadRow[]): Promise<number> =>
  session.run(
    `${INTO} SELECT $1, $2, $3, $4, r.key::jsonb, r.column, r.rule, r.reason
       FROM jsonb_to_recordset($5::jsonb) AS r(key text, "column" text, rule text, reason text)`,
    [...placed(place), JSON.stringify(rows)],
  );

interface Seen {
  readonly bad: number;
  readonly read: number;
  /** The planner's figure of all tables of the run. */
  readonly expected: number;
}

/** What the committed ranges of the run have had, this one aside. */
export async function seenSoFar(session: Session, { attempt, lane }: Place): Promise<Seen> {
  const row = await session.one<Seen & Record<string, unknown>>(
    `SELECT coalesce(sum((l.state->'counts'->>'bad')::float8), 0) AS bad, coalesce(sum((l.state->'counts'->>'read')::float8), 0) AS read,
            (SELECT coalesce(sum(t.rows_estimate), 0)::float8 FROM pgshift.copy_tables AS t WHERE t.migration_name = $1) AS expected
       FROM pgshift.lanes AS l WHERE l.migration_name = $1 AND l.scope = 'do' AND l.done AND NOT (l.step_id = $2 AND l.lane = $3)`,
    [attempt.migration, attempt.stepId, lane],
  );
  return row ?? { bad: 0, read: 0, expected: 0 };
}

/** Ranges with bad rows are judged one after the other: two that end at once must not both fit under the limit. */
export const judgeAlone = (session: Session, migration: string): Promise<number> =>
  session.run(`SELECT pg_advisory_xact_lock(hashtextextended('pgshift/errors/' || $1, 0))`, [migration]);

/** How many more bad rows fit; the rate counts over all rows that are to be read, so that a few at the beginning are not taken for a trend. */
export function roomLeft({ max, rate }: ErrorBudget, seen: Seen, read: number): number {
  const byRate = rate === null ? Infinity : Math.floor(rate * Math.max(seen.read + read, seen.expected));
  return Math.max(0, Math.min(max ?? Infinity, byRate) - seen.bad);
}

export function budgetSpent({ max, rate }: ErrorBudget, table: string, bad: number, read: number): Problem {
  const limit = [max === null ? '' : `max ${max}`, rate === null ? '' : `rate ${rate}`].filter(Boolean).join(', ');
  return new Problem('ErrorBudgetSpent', `${table}: ${bad} bad rows of ${read} read; errors allows ${limit}`, {
    details: { table, bad, read, max, rate },
    hint: 'their keys and reasons lie in pgshift.quarantine; mend them or the map, or raise errors',
  });
}

/** The run's end: now the rows that were read are known, and need not be guessed. @throws Problem ErrorBudgetSpent. */
export async function refuseOverRate(
  session: Session,
  migration: string,
  budget: ErrorBudget | undefined,
): Promise<void> {
  if (!budget || budget.rate === null) return;
  const row = await session.one<{ bad: number; read: number }>(
    `SELECT coalesce(sum((l.state->'counts'->>'bad')::float8), 0) AS bad, coalesce(sum((l.state->'counts'->>'read')::float8), 0) AS read
       FROM pgshift.lanes AS l WHERE l.migration_name = $1 AND l.scope = 'do' AND l.done`,
    [migration],
  );
  if (row && row.bad > budget.rate * row.read) throw budgetSpent(budget, 'the run', row.bad, row.read);
}
