/**
 * Entry of `pgshift worker`: configuration, logs, metrics, search attributes checked, then work until SIGINT or SIGTERM. Exits 2 with the exact lines to
 * run when search attributes are missing, 4 when Temporal cannot be reached, 0 after a graceful stop.
 */
import { NativeConnection, Runtime } from '@temporalio/worker';
import { ERRORS, Problem, isProblem } from '../plan/model/errors';
import { anyFreePort } from './embedded/ports';
import type { Config } from './config';
import { loadConfig } from './config';
import { createLogger, temporalLogger } from './logger';
import type { Log } from './logger';
import { createMetrics, serveMetrics } from './metrics';
import { checkSearchAttributes } from './searchAttributes';
import { temporalOptions } from './temporal';
import type { TemporalLocation } from './temporal';
import { createWorker } from './worker';
import { loadParser } from '../plan/sql/parse';

async function connect(location: TemporalLocation): Promise<NativeConnection> {
  try {
    return await NativeConnection.connect(location.connectionOptions);
  } catch {
    throw new Problem('Unreachable', `Temporal does not answer at ${location.address}`, {
      hint: 'is it running? `pgshift dev` starts one here; TEMPORAL_ADDRESS names another',
    });
  }
}

/** Once a process, before anything else of Temporal's. Answers the URL of the Runtime's own metrics. */
async function installRuntime(config: Config, log: Log): Promise<string | null> {
  const port = config.metrics === null ? null : await anyFreePort();
  Runtime.install({
    logger: temporalLogger(log),
    telemetryOptions: {
      logging: { forward: {}, filter: { core: 'WARN', other: 'WARN' } },
      ...(port === null ? {} : { metrics: { prometheus: { bindAddress: `127.0.0.1:${port}` } } }),
    },
  });
  return port === null ? null : `http://127.0.0.1:${port}/metrics`;
}

/** Runs until it is told to stop. @throws Problem. */
export async function runWorker(sources: Parameters<typeof loadConfig>[0] = {}): Promise<void> {
  const config = loadConfig(sources);
  const log = createLogger(config.logLevel);
  const metrics = createMetrics();
  const temporal = await installRuntime(config, log);
  const location = temporalOptions();
  const connection = await connect(location);
  const page = config.metrics === null ? null : await serveMetrics(metrics, config.metrics, temporal);
  try {
    await Promise.all([checkSearchAttributes(connection, location.namespace), loadParser()]);
    const worker = await createWorker({ connection, namespace: location.namespace, config, log, metrics });
    log.info(
      {
        operation: 'worker',
        status: 'ready',
        taskQueue: config.taskQueue,
        temporal: location.address,
        namespace: location.namespace,
        databases: [...config.databases.keys()],
        metricsPage: page?.url ?? null,
        pid: process.pid,
      },
      'worker is ready',
    );
    // SIGINT and SIGTERM are the Runtime's: it stops every worker gracefully.
    await worker.run();
    log.info({ operation: 'worker', status: 'stopped' }, 'worker has stopped');
  } finally {
    await page?.close();
    await connection.close().catch(() => undefined);
  }
}

if (require.main === module)
  runWorker().then(
    () => process.exit(0),
    (error: unknown) => {
      if (!isProblem(error)) {
        process.stderr.write(`error[Bug]: ${error instanceof Error ? (error.stack ?? error.message) : 'unknown'}\n`);
        process.exit(70);
      }
      process.stderr.write(`error[${error.code}]: ${error.message}\n  help: ${error.hint}\n`);
      process.exit(ERRORS[error.code].exit);
    },
  );
