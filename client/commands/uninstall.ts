/** `pgshift uninstall --database NAME`: removes schema pgshift, unless something is open or in hold. */
import { Problem } from '../../plan/model/errors';
import { uninstall as remove } from '../../postgres/state/install';
import type { Context } from '../context';
import { onDatabase, targetOf } from '../direct';
import { quoted } from '../resolveRun';

/** Runs that Temporal knows to be open there; an unreachable Temporal leaves the answer to the database's own records. */
async function openRuns(context: Context, database: string): Promise<readonly string[]> {
  try {
    const temporal = await context.temporal();
    const { items } = await temporal.list(
      `MigrationDatabase = ${quoted(database)} AND ExecutionStatus = 'Running'`,
      20,
    );
    return items.map((run) => run.id);
  } catch {
    context.terminal.note('Temporal does not answer: only the records in the database are looked at');
    return [];
  }
}

export async function uninstall(
  context: Context,
  _args: readonly string[],
  { database }: { readonly database: string },
): Promise<void> {
  const target = await targetOf(context, database);
  const open = await openRuns(context, database);
  if (open.length > 0)
    throw new Problem('NotNow', `runs of ${database} are open or in hold: ${open.join(', ')}`, {
      hint: 'end them first: pgshift approve ID --gate cleanup, or pgshift rollback ID',
      details: { open },
    });
  await onDatabase(target, 'uninstall', remove);
  if (context.terminal.json) context.terminal.printJson({ database, removed: true });
  else context.terminal.print(`schema pgshift is gone from ${database}`);
}
