/** A real worker on the run's Temporal, a real database, and the few words that tests of the run need. */
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import { NativeConnection, Runtime } from '@temporalio/worker';
import type { Worker } from '@temporalio/worker';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../../plan/model/state';
import type { Progress, Report, Status } from '../../plan/model/status';
import { loadConfig } from '../../worker/config';
import { createLogger } from '../../worker/logger';
import { createMetrics } from '../../worker/metrics';
import { createWorker } from '../../worker/worker';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { temporalAddress, workflowBundle } from '../support/temporal';

export interface Harness {
  readonly client: Client;
  readonly database: FreshDatabase;
  readonly taskQueue: string;
  /** Starts `schemaMigration` (or another type) and answers its handle. */
  start(
    plan: Record<string, unknown>,
    options?: { id?: string; type?: string; memo?: Record<string, unknown> },
  ): Promise<WorkflowHandle>;
  startWorker(settings?: Partial<Settings>): Promise<void>;
  stopWorker(): Promise<void>;
  close(): Promise<void>;
}

let counter = 0;
Runtime.install({ telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' } } }, logger: silent() });

function silent() {
  const nothing = () => undefined;
  const failing = (message: string, meta?: unknown) => {
    if (process.env.PGSHIFT_TEST_VERBOSE) process.stderr.write(`${message} ${JSON.stringify(meta)}\n`);
  };
  return { log: nothing, trace: nothing, debug: nothing, info: nothing, warn: failing, error: failing };
}

/** `more` are further connections by their names. */
export async function harness(
  setup?: string,
  settings: Partial<Settings> = {},
  more: Readonly<Record<string, string>> = {},
): Promise<Harness> {
  const database = await freshDatabase(18, setup);
  const connection = await Connection.connect({ address: temporalAddress() });
  const client = new Client({ connection });
  const native = await NativeConnection.connect({ address: temporalAddress() });
  const taskQueue = `test-${database.name}`;
  const workflows = await workflowBundle();
  const level = process.env.PGSHIFT_TEST_VERBOSE ? 'info' : 'silent';
  let worker: Worker | null = null;
  let running: Promise<void> = Promise.resolve();
  const self: Harness = {
    client,
    database,
    taskQueue,
    async start(plan, options = {}) {
      counter += 1;
      const workflowId = options.id ?? `test/${database.name}/${counter}`;
      return client.workflow.start(options.type ?? 'schemaMigration', {
        workflowId,
        taskQueue,
        args: [{ database: 'app', name: `change_${counter}`, ...plan }],
        ...(options.memo ? { memo: options.memo } : {}),
      });
    },
    async startWorker(over = {}) {
      const config = loadConfig({
        env: {
          PGSHIFT_DATABASE_APP: database.url,
          PGSHIFT_HOME: process.env.PGSHIFT_TEST_HOME,
          ...Object.fromEntries(
            Object.entries(more).map(([name, url]) => [`PGSHIFT_DATABASE_${name.toUpperCase()}`, url]),
          ),
        },
        useDev: false,
      });
      worker = await createWorker({
        connection: native,
        namespace: 'default',
        config,
        log: createLogger(level),
        metrics: createMetrics(),
        settings: { heartbeatMs: 5_000, watchMs: 3_600_000, continueAsNewEvents: null, ...settings, ...over },
        workflowBundle: workflows,
        taskQueue,
      });
      running = worker.run();
    },
    async stopWorker() {
      if (worker?.getState() === 'RUNNING') worker.shutdown();
      await running;
      worker = null;
    },
    async close() {
      await self.stopWorker();
      await native.close();
      await connection.close();
      await database.drop();
    },
  };
  await self.startWorker();
  return self;
}

export const statusOf = (handle: WorkflowHandle): Promise<Status> => handle.query<Status>('status');
export const reportOf = (handle: WorkflowHandle): Promise<Report> => handle.query<Report>('report');
export const progressOf = (handle: WorkflowHandle): Promise<Progress> => handle.query<Progress>('progress');

/** Polls the status query. @throws Error with the last status when it never comes. */
export async function until(handle: WorkflowHandle, what: (status: Status) => boolean, ms = 30_000): Promise<Status> {
  const end = Date.now() + ms;
  for (;;) {
    const status = await statusOf(handle);
    if (what(status)) return status;
    if (Date.now() > end) throw new Error(`never came; last: ${JSON.stringify(status, null, 1)}`);
    await sleep(50);
  }
}

/** Type and details of the failure that ended the run. */
export async function failure(
  handle: WorkflowHandle,
): Promise<{ type: string; message: string; details: Record<string, unknown> }> {
  try {
    await handle.result();
  } catch (error) {
    let at = error as { cause?: unknown; type?: string; message: string; details?: unknown[]; name: string };
    for (let depth = 0; depth < 5 && at.type === undefined && at.cause; depth += 1) at = at.cause as typeof at;
    return {
      type: at.type ?? at.name,
      message: at.message,
      details: (at.details?.[0] ?? {}) as Record<string, unknown>,
    };
  }
  throw new Error('the run did not fail');
}

export const send = (handle: WorkflowHandle, name: string, argument: Record<string, unknown>): Promise<void> =>
  handle.signal(name, argument);
