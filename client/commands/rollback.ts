/**
 * `pgshift rollback ID`: an update while the run is open, workflow `rollback` after its end, and with --script the way back as text, which needs
 * nothing but the database's own record.
 */
import { Problem, isProblem } from '../../plan/model/errors';
import { CONNECTION_NAME, MIGRATION_NAME } from '../../plan/model/values';
import { rollbackScript } from '../../plan/sql/rollbackScript';
import type { Context } from '../context';
import { isOutOfSight, storedMigration, targetOf } from '../direct';
import type { StoredMigration } from '../direct';
import { pairs } from '../render/table';
import { resolveRun } from '../resolveRun';
import type { Seen, Temporal } from '../temporal';
import { send } from './messages';
import type { MessageOptions } from './messages';
import { followAndReport } from './watch';

interface RollbackOptions extends MessageOptions {
  readonly script?: boolean;
}

/** Database and name, without asking Temporal: `[migration/]<database>/<name>`, or `<name>` looked up in every database that is configured. */
async function findStored(context: Context, typed: string): Promise<{ database: string; found: StoredMigration }> {
  const parts = typed.replace(/^(migration|rollback)\//, '').split('/');
  const name = parts.at(-1) ?? '';
  const [named] = parts.length === 2 ? parts : [];
  if (parts.length > 2 || !MIGRATION_NAME.test(name) || (named !== undefined && !CONNECTION_NAME.test(named)))
    throw new Problem('NoSuchRun', 'for a script the run is named <database>/<name> or <name>');
  const databases = named === undefined ? [...(await context.config()).databases.keys()] : [named];
  const matches: { database: string; found: StoredMigration }[] = [];
  let unseen: unknown = null;
  for (const database of databases) {
    try {
      const found = await storedMigration(await targetOf(context, database), name);
      if (found !== null) matches.push({ database, found });
    } catch (error) {
      if (named !== undefined || !isOutOfSight(error)) throw error;
      unseen = error;
    }
  }
  const [only, ...more] = matches;
  if (only === undefined) {
    if (unseen !== null) throw unseen;
    throw new Problem('NoSuchRun', `no database that is configured here knows ${name}`);
  }
  if (more.length > 0)
    throw new Problem('InvalidUsage', `${name} is in several databases`, {
      hint: `say which: ${matches.map((match) => `${match.database}/${name}`).join(', ')}`,
    });
  return only;
}

async function writeScript(context: Context, typed: string): Promise<void> {
  const { database, found } = await findStored(context, typed);
  if (found.plan === null)
    throw new Problem('NotNow', `${found.name} has no stored plan: nothing was changed yet`, {
      hint: 'there is nothing to take back',
    });
  const script = rollbackScript({ plan: found.plan, begun: found.begun });
  if (context.terminal.json) context.terminal.printJson({ database, name: found.name, status: found.status, script });
  else context.terminal.print(script);
}

/** After the end: a run of its own, behind a manual gate, because the hold is over and the way back may cost something. */
async function startRollback(
  context: Context,
  temporal: Temporal,
  seen: Seen,
  options: RollbackOptions,
): Promise<void> {
  const [, fromId = '', nameFromId = ''] = seen.id.split('/');
  const name = String(seen.attributes['MigrationName'] ?? nameFromId);
  const database = String(seen.attributes['MigrationDatabase'] ?? fromId);
  const id = `rollback/${database}/${name}`;
  const reason = options.reason === undefined ? {} : { reason: options.reason };
  const runId = await temporal.start({
    type: 'rollback',
    id,
    argument: { kind: 'rollback', database, migration: name, by: context.by, ...reason },
    summary: `take back ${name} on ${database}`,
    by: context.by,
    attributes: { name, database, kind: 'rollback' },
  });
  const { terminal } = context;
  const started = { id, runId, database, name, url: temporal.url(id), next: `pgshift approve ${id}` };
  if (terminal.json) (options.wait ? terminal.printJsonLine : terminal.printJson)(started);
  else
    terminal.print(
      pairs([
        ['started', id],
        ['look', started.url],
        ['next', `${started.next}   (${name} has ended: taking it back waits for approval)`],
      ]),
    );
  if (!(await temporal.hasWorker()))
    terminal.note('warning: no worker polls the task queue; the run waits for one (pgshift worker)');
  if (options.wait) await followAndReport(context, temporal, id, { until: 'rest' });
}

export async function rollback(
  context: Context,
  [typed = '']: readonly string[],
  options: RollbackOptions,
): Promise<void> {
  if (options.script) return writeScript(context, typed);
  const temporal = await context.temporal();
  const seen = await resolveRun(temporal, typed);
  if (seen.type === 'rollback')
    throw new Problem('NotNow', `${seen.id} is a rollback itself`, { hint: `pgshift status ${seen.id}` });
  if (seen.endedAt !== null) return startRollback(context, temporal, seen, options);
  try {
    await send(context, temporal, seen, { name: 'rollback', options });
  } catch (error) {
    // It ended between the look and the message.
    if (!isProblem(error) || error.code !== 'NoSuchRun') throw error;
    await startRollback(context, temporal, seen, options);
  }
}
