/** How far the copy is, from the target alone: whoever works writes there, and a worker that died does not count. */
import type { TableProgress } from '../../plan/model/status';
import { shownRelation } from '../../plan/model/quote';
import type { Session } from '../session';

export interface CopyProgress {
  readonly tables: readonly TableProgress[];
  readonly rowsDone: number;
  readonly rowsTotal: number;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly done: number;
}

interface Row extends Record<string, unknown> {
  readonly schema: string;
  readonly name: string;
  readonly state: TableProgress['state'] | 'skipped';
  readonly rows: number;
  readonly total: number;
  readonly bytes: number;
  readonly bytes_total: number;
  readonly seconds: number;
}

const SHOWN = 20;

/** The tables that run, then those that failed, then the last ones that ended: twenty at most. */
export async function copyProgress(target: Session, migration: string): Promise<CopyProgress> {
  const rows = await target.rows<Row>(
    `WITH lanes AS (
       SELECT l.step_id, sum(l.rows) AS rows, avg(l.done::int) AS part FROM pgshift.lanes AS l
        WHERE l.migration_name = $1 AND l.scope = 'do' GROUP BY l.step_id)
     SELECT t.schema_name AS schema, t.table_name AS name, t.state, coalesce(l.rows, t.rows)::float8 AS rows,
            greatest(t.rows_estimate, coalesce(l.rows, 0))::float8 AS total,
            (CASE WHEN t.state = 'done' THEN 1 ELSE coalesce(l.part, 0) END * t.bytes)::float8 AS bytes, t.bytes::float8 AS bytes_total,
            greatest(0.001, extract(epoch FROM coalesce(t.finished_at, clock_timestamp()) - t.started_at))::float8 AS seconds
       FROM pgshift.copy_tables AS t LEFT JOIN lanes AS l ON l.step_id = 'copy.' || t.table_no
      WHERE t.migration_name = $1 AND t.state <> 'waiting'
      ORDER BY t.state = 'running' DESC, t.state = 'quarantined' DESC, t.finished_at DESC NULLS LAST LIMIT ${SHOWN}`,
    [migration],
  );
  const sum = await target.one<{ rows: number; total: number; bytes: number; bytes_total: number; done: number }>(
    `WITH lanes AS (
       SELECT l.step_id, sum(l.rows) AS rows, avg(l.done::int) AS part FROM pgshift.lanes AS l
        WHERE l.migration_name = $1 AND l.scope = 'do' GROUP BY l.step_id)
     SELECT coalesce(sum(coalesce(l.rows, t.rows)), 0)::float8 AS rows,
            coalesce(sum(CASE WHEN t.state = 'done' THEN t.rows ELSE greatest(t.rows_estimate, coalesce(l.rows, 0)) END), 0)::float8 AS total,
            coalesce(sum(CASE WHEN t.state = 'done' THEN 1 ELSE coalesce(l.part, 0) END * t.bytes), 0)::float8 AS bytes,
            coalesce(sum(t.bytes), 0)::float8 AS bytes_total, count(*) FILTER (WHERE t.state = 'done')::float8 AS done
       FROM pgshift.copy_tables AS t LEFT JOIN lanes AS l ON l.step_id = 'copy.' || t.table_no WHERE t.migration_name = $1`,
    [migration],
  );
  return {
    tables: rows.map(progressOf),
    rowsDone: sum?.rows ?? 0,
    rowsTotal: sum?.total ?? 0,
    bytesDone: sum?.bytes ?? 0,
    bytesTotal: sum?.bytes_total ?? 0,
    done: sum?.done ?? 0,
  };
}

function progressOf(row: Row): TableProgress {
  const running = row.state === 'running';
  const rate = running ? row.rows / row.seconds : 0;
  return {
    table: shownRelation(row),
    rowsDone: row.rows,
    rowsTotal: running ? row.total : Math.max(row.rows, row.state === 'done' ? 0 : row.total),
    estimated: row.state !== 'done',
    bytesDone: row.bytes,
    bytesTotal: row.bytes_total,
    rowsPerSecond: Math.round(rate),
    etaSeconds: running && row.bytes > 0 ? Math.ceil(((row.bytes_total - row.bytes) / row.bytes) * row.seconds) : null,
    batchRows: 0,
    throttledBy: null,
    state: row.state === 'skipped' ? 'quarantined' : row.state,
  };
}
