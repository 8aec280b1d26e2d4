/** Fills columns of the rows that were there when it began; rows written since are the sync trigger's. Idempotent by `pending`. */
import { Problem } from '../plan/model/errors';
import { fillSql } from '../plan/model/fillSql';
import type { BackfillRun } from '../plan/model/steps';
import type { BatchJob } from './batches';
import { runBatches } from './batches';
import { refusedRows } from './bisect';
import { ident, relation } from './ident';
import { heap, rangeSql } from './ranges';
import type { Session } from './session';
import type { Work, WorkResult } from './work';

/** Runs it to its end. Throws TransformFailed (keys listed), PrivilegeMissing (with the GRANT), FenceBroken, AbortError. */
export async function runBackfill(work: Work, run: BackfillRun): Promise<WorkResult> {
  const silenced = await mustSilence(work.session, run);
  const job: BatchJob = {
    table: run.table,
    key: run.key,
    settings: run.settings,
    ours: silenced ? ['session_replication_role = replica'] : [],
    openEnd: false,
    execute: async (session, range, lane) => {
      const where = rangeSql('t', run.key, range);
      const table = heap({ table: lane.table, key: run.key });
      return { rows: await session.run(fillSql(run, table, where.text), where.values) };
    },
    rowsRefused: (refusal, lanes) => refusedRows(work, job, { ...refusal, lanes, column: run.column }),
  };
  return runBatches(work, job);
}

/** Triggers and rules that an UPDATE would fire for everybody, ours (ENABLE ALWAYS) and foreign keys aside. */
async function hasUserTriggers(session: Session, run: BackfillRun): Promise<boolean> {
  const row = await session.one<{ there: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM pg_trigger AS t
        WHERE t.tgrelid IN (SELECT relid FROM pg_partition_tree($1::regclass) UNION SELECT $1::regclass)
          AND NOT t.tgisinternal AND t.tgenabled = 'O' AND t.tgtype & 16 <> 0)
      OR EXISTS (SELECT 1 FROM pg_rewrite AS r WHERE r.ev_class = $1::regclass AND r.ev_type = '2' AND r.ev_enabled = 'O') AS there`,
    [relation(run.table)],
  );
  return row?.there ?? true;
}

/** Must the batches silence triggers? Throws PrivilegeMissing, with the GRANT, when they must and may not. */
export async function mustSilence(session: Session, run: BackfillRun): Promise<boolean> {
  if (!run.quiet || !(await hasUserTriggers(session, run))) return false;
  const may =
    session.serverVersion >= 150000
      ? `pg_catalog.has_parameter_privilege('session_replication_role', 'SET')`
      : `(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)`;
  const row = await session.one<{ may: boolean }>(`SELECT ${may} AS may`);
  if (row?.may) return true;
  throw new Problem(
    'PrivilegeMissing',
    `${session.name}: the table has triggers that a backfill must not fire, and role ${session.role} may not silence them`,
    {
      hint:
        session.serverVersion >= 150000
          ? `GRANT SET ON PARAMETER session_replication_role TO ${ident(session.role)};`
          : 'before PostgreSQL 15 only a superuser may set session_replication_role: use a superuser connection',
    },
  );
}
