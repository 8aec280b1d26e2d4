/** What is written for people to read later: log, audit, leases. Keeps true: no row's value, no URL; DETAIL never comes this far. */
import type { Problem } from '../../plan/model/errors';
import { isProblem } from '../../plan/model/errors';
import type { Session } from '../session';

export interface LogEntry {
  readonly migration: string;
  readonly level: 'debug' | 'info' | 'warning' | 'error';
  readonly phase: string | null;
  readonly step: string | null;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>> | null;
}

/** One line in pgshift.migration_log. */
export async function writeLog(session: Session, entry: LogEntry): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.migration_log (migration_name, level, phase, step, message, error_details)
     VALUES ($1, $2, $3, $4, $5, $6::jsonb)`,
    [
      entry.migration,
      entry.level,
      entry.phase,
      entry.step,
      entry.message,
      entry.details ? JSON.stringify(entry.details) : null,
    ],
  );
}

/** An error as a log entry's message and details. */
export function errorEntry(error: unknown): Pick<LogEntry, 'message' | 'details'> {
  if (!isProblem(error)) return { message: error instanceof Error ? error.name : 'unknown error', details: null };
  const problem: Problem = error;
  return { message: problem.message, details: { code: problem.code, ...problem.details } };
}

export interface AuditEntry {
  readonly by: string;
  readonly via: 'cli' | 'signal' | 'update' | 'api' | 'health';
  readonly action: string;
  readonly gate: string | null;
  readonly reason: string | null;
  readonly requestId: string | null;
  readonly workflowId: string;
}

/** Who did what. The same request id of the same workflow is written once. */
export async function writeAudit(session: Session, entry: AuditEntry): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.audit (by, via, action, gate, reason, request_id, workflow_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (workflow_id, request_id) WHERE request_id IS NOT NULL DO NOTHING`,
    [entry.by, entry.via, entry.action, entry.gate, entry.reason, entry.requestId, entry.workflowId],
  );
}

/** Takes or keeps a lease; null = somebody else holds it. The epoch grows with every change of hands. */
export async function takeLease(session: Session, resource: string, holder: string): Promise<number | null> {
  const row = await session.one<{ epoch: string }>(
    `INSERT INTO pgshift.leases AS l (resource, holder, epoch) VALUES ($1, $2, 1)
     ON CONFLICT (resource) DO UPDATE SET seen_at = now() WHERE l.holder = excluded.holder RETURNING l.epoch`,
    [resource, holder],
  );
  return row ? Number(row.epoch) : null;
}

/** Gives a lease back. Idempotent; another holder's lease stays. */
export async function releaseLease(session: Session, resource: string, holder: string): Promise<void> {
  await session.run(`DELETE FROM pgshift.leases WHERE resource = $1 AND holder = $2`, [resource, holder]);
}
