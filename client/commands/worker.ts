/** `pgshift worker`: the production process; worker/main runs it, until it is told to stop. */
import { runWorker } from '../../worker/main';
import type { Context } from '../context';

export async function worker(
  context: Context,
  _args: readonly string[],
  { taskQueue }: { readonly taskQueue?: string },
): Promise<void> {
  await runWorker({
    ...(context.configFile === undefined ? {} : { file: context.configFile }),
    ...(taskQueue === undefined ? {} : { flags: { taskQueue } }),
  });
}
