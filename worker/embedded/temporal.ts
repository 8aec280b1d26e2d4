/**
 * Temporal's dev server, kept in a file, on 127.0.0.1 only, with our search attributes. Killed with -9 and started again on the same
 * file it has its runs. Ready means that it serves: the namespace answers and the attributes are there, not only that a port is open.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { Problem } from '../../plan/model/errors';
import { missingSearchAttributes, SEARCH_ATTRIBUTES } from '../searchAttributes';
import { endProcess, startChild } from './process';
import type { Child, ProcessMark } from './process';

const START_TIMEOUT_MS = 60_000;

export interface TemporalOptions {
  /** The Temporal CLI. */
  readonly cli: string;
  readonly port: number;
  /** null = no Web UI. */
  readonly uiPort: number | null;
  /** Where runs are kept; null = in memory, for tests. */
  readonly file: string | null;
  readonly logFile: string;
  readonly namespace?: string;
}

export interface RunningTemporal {
  readonly address: string;
  readonly uiUrl: string | null;
  readonly mark: ProcessMark;
  readonly ended: Child['ended'];
  readonly stop: () => Promise<void>;
}

/** Starts it; answers when it serves. `onSpawn` hears the pid first. Throws Unreachable with the end of the log. */
export async function startTemporal(
  options: TemporalOptions,
  onSpawn: (mark: ProcessMark) => void = () => undefined,
): Promise<RunningTemporal> {
  const namespace = options.namespace ?? 'default';
  const args = ['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(options.port), '--namespace', namespace];
  args.push(...(options.uiPort === null ? ['--headless'] : ['--ui-port', String(options.uiPort)]));
  if (options.file !== null) args.push('--db-filename', options.file);
  args.push('--log-format', 'json', '--log-level', 'warn');
  for (const [name, type] of Object.entries(SEARCH_ATTRIBUTES)) args.push('--search-attribute', `${name}=${type}`);
  // Attributes made later are seen at once, not after up to a minute.
  args.push('--dynamic-config-value', 'system.forceSearchAttributesCacheRefreshOnRead=true');

  const child = await startChild({ command: options.cli, args, logFile: options.logFile, env: serverEnv() });
  onSpawn(child.mark);
  const address = `127.0.0.1:${options.port}`;
  const until = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < until && child.running()) {
    if (await serves(address, namespace)) {
      return {
        address,
        uiUrl: options.uiPort === null ? null : `http://127.0.0.1:${options.uiPort}`,
        mark: child.mark,
        ended: child.ended,
        stop: async () => void (await endProcess(child.mark)),
      };
    }
    await sleep(100);
  }
  await endProcess(child.mark);
  throw new Problem('Unreachable', `the embedded Temporal does not start on port ${options.port}`, {
    value: logTail(options.logFile),
    hint: `see ${options.logFile}`,
  });
}

/** The caller's own Temporal settings name a server to talk to, not the one to be. */
const serverEnv = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TEMPORAL_')));

async function serves(address: string, namespace: string): Promise<boolean> {
  let connection: Connection | undefined;
  try {
    connection = await Connection.connect({ address, connectTimeout: 2_000 });
    await connection.workflowService.describeNamespace({ namespace });
    return (await missingSearchAttributes(connection, namespace)).length === 0;
  } catch {
    return false;
  } finally {
    await connection?.close().catch(() => undefined);
  }
}

function logTail(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim().slice(-600);
  } catch {
    return '';
  }
}
