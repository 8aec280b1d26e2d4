/**
 * What people should hear of while data moves: fewer than 10,000 rows a second, or more than one bad row in a thousand. Keeps true: each is told once
 * for a table, in pgshift.migration_log as a warning and to whoever asks.
 */
import { shownRelation } from '../../plan/model/quote';
import type { Session } from '../session';
import { writeLog } from '../state/journal';

export interface Alert {
  readonly kind: 'throughput' | 'errors';
  readonly table: string;
  /** Rows a second, or the share of bad rows, 0..1. */
  readonly value: number;
  readonly at: string;
}

export const SLOW_ROWS_PER_SECOND = 10_000;
export const BAD_SHARE = 0.001;
/** A table that takes less says nothing of the rate. */
const LONG_SECONDS = 10;

export interface Measured {
  readonly table: string;
  readonly rows: number;
  readonly seconds: number;
  readonly read: number;
  readonly bad: number;
}

/** Pure. */
export function judgeTable({ table, rows, seconds, read, bad }: Measured, at: string): Alert[] {
  const alerts: Alert[] = [];
  const rate = rows / Math.max(0.001, seconds);
  if (seconds >= LONG_SECONDS && rate < SLOW_ROWS_PER_SECOND)
    alerts.push({ kind: 'throughput', table, value: Math.round(rate), at });
  if (read > 0 && bad / read > BAD_SHARE) alerts.push({ kind: 'errors', table, value: bad / read, at });
  return alerts;
}

const words = ({ kind, table, value }: Alert): string =>
  kind === 'throughput'
    ? `${table}: ${value} rows/s, fewer than ${SLOW_ROWS_PER_SECOND}`
    : `${table}: ${(100 * value).toFixed(2)} % of its rows are bad, more than ${100 * BAD_SHARE} %`;

interface Row extends Record<string, unknown> {
  readonly schema: string;
  readonly name: string;
  readonly rows: number;
  readonly seconds: number;
  readonly read: number;
  readonly bad: number;
  readonly at: string;
}

/** Of one table as it stands; null: of all that run, and new ones alone. What was not told before is written down. */
export async function alertsOf(session: Session, migration: string, no: number | null): Promise<Alert[]> {
  const rows = await session.rows<Row>(
    `SELECT t.schema_name AS schema, t.table_name AS name, sum(l.rows)::float8 AS rows,
            extract(epoch FROM coalesce(t.finished_at, clock_timestamp()) - t.started_at)::float8 AS seconds,
            coalesce(sum((l.state->'counts'->>'read')::float8), 0) AS read, coalesce(sum((l.state->'counts'->>'bad')::float8), 0) AS bad,
            to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at
       FROM pgshift.copy_tables AS t JOIN pgshift.lanes AS l ON l.migration_name = $1 AND l.step_id = 'copy.' || t.table_no AND l.scope = 'do'
      WHERE t.migration_name = $1 AND (t.table_no = $2 OR ($2::int IS NULL AND t.state = 'running'))
      GROUP BY t.table_no, t.schema_name, t.table_name, t.started_at, t.finished_at`,
    [migration, no],
  );
  const found = rows.flatMap((row) => judgeTable({ ...row, table: shownRelation(row) }, row.at));
  const fresh: Alert[] = [];
  for (const alert of found) {
    const told = await session.one(
      `SELECT 1 AS one FROM pgshift.migration_log AS l WHERE l.migration_name = $1 AND l.error_details->>'alert' = $2 AND l.error_details->>'table' = $3
          AND l.logged_at >= (SELECT m.started_at FROM pgshift.migrations AS m WHERE m.name = $1) LIMIT 1`,
      [migration, alert.kind, alert.table],
    );
    if (told) continue;
    fresh.push(alert);
    await writeLog(session, {
      migration,
      level: 'warning',
      phase: 'copy',
      step: null,
      message: words(alert),
      details: { alert: alert.kind, table: alert.table, value: alert.value },
    });
  }
  return no === null ? fresh : found;
}
