/**
 * A worker: workflows from the built bundle, activities with their dependencies, and what a worker of this product needs to be quick: a
 * cancel or a pause is seen within a second or two, and a worker that died is missed after ten.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { NativeConnection } from '@temporalio/worker';
import { Worker } from '@temporalio/worker';
import { createActivities } from '../activities';
import type { Settings } from '../plan/model/state';
import { DEFAULT_SETTINGS } from '../plan/model/state';
import { BUNDLE_FILE } from './bundle';
import type { Config } from './config';
import type { Log } from './logger';
import type { Metrics } from './metrics';

export interface WorkerParts {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly config: Config;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly settings?: Settings;
  /** A bundle made elsewhere (tests); default: the built one, else the sources. */
  readonly workflowBundle?: string;
  readonly taskQueue?: string;
}

const positive = (text: string | undefined): number | null =>
  text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : null;

/** Timing for tests; nobody else needs these variables. */
export function settingsFrom(env: NodeJS.ProcessEnv): Settings {
  return {
    heartbeatMs: positive(env.PGSHIFT_HEARTBEAT_MS) ?? DEFAULT_SETTINGS.heartbeatMs,
    watchMs: positive(env.PGSHIFT_WATCH_MS) ?? DEFAULT_SETTINGS.watchMs,
    continueAsNewEvents: positive(env.PGSHIFT_CONTINUE_AS_NEW_EVENTS) ?? DEFAULT_SETTINGS.continueAsNewEvents,
  };
}

function workflowSource(given: string | undefined) {
  const built = given ?? BUNDLE_FILE;
  if (existsSync(built)) return { workflowBundle: { codePath: built } };
  return { workflowsPath: require.resolve(join(__dirname, '..', 'workflows', 'index')) };
}

/** Resolves when it is connected and may be run. */
export function createWorker(parts: WorkerParts): Promise<Worker> {
  const { connection, namespace, config, log, metrics } = parts;
  const settings = parts.settings ?? settingsFrom(process.env);
  return Worker.create({
    connection,
    namespace,
    taskQueue: parts.taskQueue ?? config.taskQueue,
    ...workflowSource(parts.workflowBundle),
    activities: createActivities({ config, log, metrics, settings }),
    maxConcurrentActivityTaskExecutions: config.maxActivities * 4,
    maxCachedWorkflows: 200,
    maxHeartbeatThrottleInterval: '1s',
    defaultHeartbeatThrottleInterval: '1s',
    stickyQueueScheduleToStartTimeout: '3s',
    shutdownGraceTime: '1s',
    shutdownForceTime: '40s',
  });
}
