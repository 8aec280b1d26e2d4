/**
 * Run at build time: the workflows as ONE file beside this one, so that a worker starts fast and what runs is what was built. The
 * bundler refuses everything that is not deterministic.
 */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleWorkflowCode } from '@temporalio/worker';
import type { Logger } from '@temporalio/worker';

/** Where the build puts it and the worker looks for it. */
export const BUNDLE_FILE = join(__dirname, '..', 'workflow-bundle.js');

const said = (message: string): void => void process.stderr.write(`${message}\n`);
const nothing = (): void => undefined;
/** The bundler's progress is noise in a build; its complaints are not. */
const QUIET: Logger = { log: nothing, trace: nothing, debug: nothing, info: nothing, warn: said, error: said };

/** Answers the bundle's size in bytes. Written beside and renamed: a running worker never reads half of it. */
export async function bundleWorkflows(workflowsPath: string, file = BUNDLE_FILE): Promise<number> {
  const { code } = await bundleWorkflowCode({ workflowsPath, logger: QUIET });
  const next = `${file}.${process.pid}`;
  writeFileSync(next, code);
  renameSync(next, file);
  return Buffer.byteLength(code);
}

async function main(): Promise<void> {
  const workflows = join(__dirname, '..', 'workflows', 'index.js');
  if (!existsSync(workflows)) {
    said('workflows/index.ts does not exist: no workflow bundle was made, a worker cannot start from this build');
    return;
  }
  await bundleWorkflows(workflows);
}

if (require.main === module) {
  main().catch((error: unknown) => {
    said(`the workflows cannot be bundled: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  });
}
