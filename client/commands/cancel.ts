/** `pgshift cancel ID`: Temporal's own cancel. The run takes back what can be taken back and ends Cancelled. */
import { Problem } from '../../plan/model/errors';
import type { Context } from '../context';
import { resolveRun } from '../resolveRun';

export async function cancel(
  context: Context,
  [typed = '']: readonly string[],
  options: { readonly reason?: string },
): Promise<void> {
  const temporal = await context.temporal();
  const seen = await resolveRun(temporal, typed);
  if (seen.endedAt !== null)
    throw new Problem('NotNow', `${seen.id} has ended`, { hint: `take it back: pgshift rollback ${seen.id}` });
  // Temporal records who asked by its own identity only: the reason carries the name.
  await temporal.cancel(seen.id, [context.by, options.reason].filter(Boolean).join(': '));
  if (context.terminal.json) return context.terminal.printJson({ id: seen.id, requested: true });
  context.terminal.print(`cancel requested: ${seen.id}\nnext  pgshift watch ${seen.id} --until end`);
}
