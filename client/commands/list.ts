/** `pgshift list`: from visibility, so that it answers without a worker; open runs are asked for their percentage while one does. */
import { Problem } from '../../plan/model/errors';
import { KINDS } from '../../plan/model/plan';
import { RUN_STATUSES } from '../../plan/model/status';
import type { Progress, Status } from '../../plan/model/status';
import type { Context } from '../context';
import { renderList } from '../render/list';
import type { ListItem } from '../render/list';
import { quoted } from '../resolveRun';
import type { Seen, Temporal } from '../temporal';
import { phaseOf, statusOf } from './status';

const WORKFLOW_TYPES = [
  'schemaMigration',
  'dataMigration',
  'blueGreen',
  'canary',
  'rollback',
  'release',
  'fleet',
  'validation',
];
/** Temporal's own limit of a page. */
const MAX_PAGE = 1_000;

interface ListOptions {
  readonly status?: string;
  readonly database?: string;
  readonly kind?: string;
  readonly limit?: number;
  readonly query?: string;
  readonly after?: string;
}

function oneOf(flag: string, given: string, allowed: readonly string[]): string {
  if (allowed.includes(given)) return given;
  throw new Problem('InvalidUsage', `${flag}: one of ${allowed.join(', ')}`, { value: given });
}

function filterOf({ status, database, kind, query }: ListOptions): string {
  const parts = [`WorkflowType IN (${WORKFLOW_TYPES.map(quoted).join(', ')})`];
  if (status !== undefined) parts.push(`MigrationStatus = ${quoted(oneOf('--status', status, RUN_STATUSES))}`);
  if (database !== undefined) parts.push(`MigrationDatabase = ${quoted(database)}`);
  if (kind !== undefined) parts.push(`MigrationKind = ${quoted(oneOf('--kind', kind, KINDS))}`);
  if (query !== undefined) parts.push(`(${query})`);
  return parts.join(' AND ');
}

const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);

function itemOf(seen: Seen): ListItem {
  const [, database = '', name = seen.id] = seen.id.split('/');
  return {
    id: seen.id,
    name: text(seen.attributes['MigrationName']) ?? name,
    database: text(seen.attributes['MigrationDatabase']) ?? database,
    kind: text(seen.attributes['MigrationKind']) ?? seen.type,
    status: statusOf(seen),
    phase: phaseOf(seen),
    waitingFor: seen.attributes['NeedsApproval'] === true && seen.execution === 'RUNNING' ? 'gate' : null,
    percent: statusOf(seen) === 'completed' ? 100 : null,
    startedAt: seen.startedAt,
    endedAt: seen.endedAt,
  };
}

/** Null: no worker answered. */
async function askRun(temporal: Temporal, item: ListItem): Promise<ListItem | null> {
  const [status, progress] = await Promise.all([
    temporal.query<Status>(item.id, 'status'),
    temporal.query<Progress>(item.id, 'progress'),
  ]);
  if (status === null) return null;
  const wait = status.waitingFor;
  return {
    ...item,
    status: status.status,
    phase: status.phase,
    waitingFor: wait === null ? null : [wait.type, wait.gate].filter((part) => part !== null).join(' '),
    percent: progress?.percent ?? null,
  };
}

export async function list(context: Context, _args: readonly string[], options: ListOptions): Promise<void> {
  const temporal = await context.temporal();
  const limit = Math.min(options.limit ?? 50, MAX_PAGE);
  const page = await temporal.list(filterOf(options), limit, options.after);
  const found = page.items.map(itemOf);
  const open = found.filter((item) => item.endedAt === null);
  // One run is asked first: without a worker each question would cost its whole deadline.
  const [first, ...others] = open;
  const firstAnswer = first === undefined ? null : await askRun(temporal, first);
  const live = first === undefined || firstAnswer !== null;
  const answers = new Map<string, ListItem>();
  for (const answer of [firstAnswer, ...(live ? await Promise.all(others.map((item) => askRun(temporal, item))) : [])])
    if (answer !== null) answers.set(answer.id, answer);
  const items = found.map((item) => (item.endedAt === null ? (answers.get(item.id) ?? item) : item));
  if (context.terminal.json) return context.terminal.printJson({ items, next: page.next, live });
  context.terminal.print(renderList(items, context.terminal.colors));
  if (page.next !== null) context.terminal.note(`more: pgshift list --after ${page.next}`);
  if (!live) context.terminal.note('no worker answers: this is what Temporal itself knows');
}
