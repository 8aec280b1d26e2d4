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

const MAP = '//# sourceMappingURL=data:application/json;charset=utf-8;base64,';

/** Places in a stack need the map, not the texts of the sources: they make up a third of the file, and every start of a worker reads all of it. */
function withoutSources(code: string): string {
  const at = code.lastIndexOf(MAP);
  if (at < 0) return code;
  const map = JSON.parse(Buffer.from(code.slice(at + MAP.length), 'base64').toString()) as Record<string, unknown>;
  delete map['sourcesContent'];
  return `${code.slice(0, at)}${MAP}${Buffer.from(JSON.stringify(map)).toString('base64')}`;
}

/** Answers the bundle's size in bytes. Written beside and renamed: a running worker never reads half of it. */
export async function bundleWorkflows(workflowsPath: string, file = BUNDLE_FILE): Promise<number> {
  const made = await bundleWorkflowCode({ workflowsPath, logger: QUIET });
  const code = withoutSources(made.code);
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
