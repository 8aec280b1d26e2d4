/** `pgshift schema`. */
import type { Context } from '../context';
import { planJsonSchema } from '../planSchema';

export function schema(context: Context): Promise<void> {
  context.terminal.printJson(planJsonSchema());
  return Promise.resolve();
}
