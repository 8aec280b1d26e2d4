/** `pgshift worker`: the production process; worker/ runs it, until it is told to stop. */
import type { Context } from '../context';
import { part } from '../parts';

interface WorkerOptions {
  readonly config?: string;
  readonly taskQueue?: string;
}

export async function worker(context: Context, _args: readonly string[], flags: { taskQueue?: string }): Promise<void> {
  const runWorker = await part<(options: WorkerOptions) => Promise<void>>('worker/worker', 'runWorker');
  await runWorker({
    ...(context.configFile === undefined ? {} : { config: context.configFile }),
    ...(flags.taskQueue === undefined ? {} : { taskQueue: flags.taskQueue }),
  });
}
