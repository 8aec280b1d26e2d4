/** `pgshift status ID`: from the run itself while a worker answers, else from what Temporal knows. */
import type { Progress, Status } from '../../plan/model/status';
import { RUN_STATUSES } from '../../plan/model/status';
import type { RunStatus } from '../../plan/model/status';
import type { Kind } from '../../plan/model/plan';
import type { Context } from '../context';
import { renderStatus } from '../render/status';
import type { StatusView } from '../render/status';
import { resolveRun } from '../resolveRun';
import type { Seen, Temporal } from '../temporal';

/** What a close status of Temporal's means when no worker tells more. */
const CLOSED: Readonly<Record<string, RunStatus>> = {
  COMPLETED: 'completed',
  FAILED: 'failed',
  TIMED_OUT: 'failed',
  TERMINATED: 'failed',
  CANCELLED: 'cancelled',
};

export const statusOf = (seen: Seen): RunStatus => {
  const said = seen.attributes['MigrationStatus'];
  const closed = CLOSED[seen.execution];
  if (closed === 'failed' && said === 'rolled_back') return 'rolled_back';
  if (closed !== undefined) return closed;
  return RUN_STATUSES.find((status) => status === said) ?? 'pending';
};

const textOf = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise);

export const phaseOf = (seen: Seen): Status['phase'] | null => textOf(seen.attributes['MigrationPhase'], '') || null;

/** A status of what visibility has: enough to see where a run stands. */
async function fromVisibility(temporal: Temporal, seen: Seen): Promise<StatusView> {
  const [, database = '', name = seen.id] = seen.id.split('/');
  const failure = seen.execution === 'FAILED' ? await temporal.failure(seen.id, seen.runId) : null;
  return {
    id: seen.id,
    name: textOf(seen.attributes['MigrationName'], name),
    database: textOf(seen.attributes['MigrationDatabase'], database),
    kind: textOf(seen.attributes['MigrationKind'], seen.type === 'rollback' ? 'rollback' : 'schema-migration') as Kind,
    mode: 'production',
    status: statusOf(seen),
    phase: phaseOf(seen) ?? 'preflight',
    step: null,
    attempt: 0,
    startedAt: seen.startedAt,
    updatedAt: seen.endedAt ?? seen.startedAt,
    endedAt: seen.endedAt,
    waitingFor: null,
    approvals: [],
    lastError: failure === null ? null : { code: failure.code, message: failure.message, hint: failure.hint },
    wayBack: { possible: false, lossless: false, until: null, how: 'not known without a worker' },
    messages: [],
    live: false,
  };
}

/** @throws Problem Unreachable. */
export async function readStatus(temporal: Temporal, seen: Seen): Promise<StatusView> {
  const live = await temporal.query<Status>(seen.id, 'status', seen.runId);
  return live === null ? fromVisibility(temporal, seen) : { ...live, live: true };
}

export async function status(context: Context, [typed = '']: readonly string[]): Promise<void> {
  const temporal = await context.temporal();
  const seen = await resolveRun(temporal, typed);
  const view = await readStatus(temporal, seen);
  if (context.terminal.json) return context.terminal.printJson(view);
  const progress = view.live && view.endedAt === null ? await temporal.query<Progress>(seen.id, 'progress') : null;
  context.terminal.print(renderStatus(view, progress, temporal.url(seen.id), context.terminal.colors));
}
