/** The jest run's Temporal server, and the workflow bundle, made once a run from the sources and shared by all test files. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowFailedError } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';

/** host:port of the dev server that globalSetup started. */
export function temporalAddress(): string {
  const address = process.env.PGSHIFT_TEST_TEMPORAL;
  if (!address) throw new Error('globalSetup started no Temporal');
  return address;
}

/** Path of a bundle of workflows/index.ts as it is now in the work tree (not dist/). */
export async function workflowBundle(): Promise<string> {
  const file = join(process.env.PGSHIFT_TEST_HOME ?? '.', 'workflow-bundle.js');
  if (existsSync(file)) return file;
  const { bundleWorkflowCode } = await import('@temporalio/worker');
  const { code } = await bundleWorkflowCode({ workflowsPath: resolve(__dirname, '../../workflows/index.ts') });
  const mine = `${file}.${process.pid}`;
  writeFileSync(mine, code);
  renameSync(mine, file); // two test files at once: both have made the same
  return file;
}

/** As handle.result(), also while Temporal is away: only the run's own failure ends it. */
export async function resultOf(handle: WorkflowHandle): Promise<unknown> {
  for (;;) {
    try {
      return await handle.result();
    } catch (error) {
      if (error instanceof WorkflowFailedError) throw error;
      await sleep(200); // it comes back on the same port
    }
  }
}
