/**
 * Everything that `pgshift dev` runs, for `dev`, the demo and tests: Temporal, Postgres and a worker as separate processes that are
 * noted in dev.json BEFORE they are used, started again when they die, and taken over by the next one after a kill -9 of all of it.
 */
import { resolve } from 'node:path';
import { Client } from 'pg';
import { Problem } from '../plan/model/errors';
import { ident } from '../postgres/ident';
import { loadConfig } from './config';
import { homeFolder, readDevFile, writeDevFile } from './devFile';
import type { DevChild, DevFile } from './devFile';
import { choosePorts, embeddedPassword, emptyHome, endOrphans, logFile } from './devHome';
import { postgresFolder, takeHome, temporalFile } from './devHome';
import type { PortName } from './devHome';
import { stackEnvironment, startWorker, workerAnswers } from './devWorker';
import { startPostgres } from './embedded/postgres';
import type { RunningPostgres } from './embedded/postgres';
import { markOf } from './embedded/process';
import type { ProcessMark } from './embedded/process';
import { startTemporal } from './embedded/temporal';
import { findPostgresBin, findTemporalCli } from './embedded/tools';
import type { Tool } from './embedded/tools';
import { supervise } from './supervise';
import type { Supervised } from './supervise';

/** The embedded Postgres' connection and database. */
export const EMBEDDED_NAME = 'app';

export interface DevOptions {
  /** Default PGSHIFT_HOME, else `.pgshift`. */
  readonly home?: string;
  readonly configFile?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Given ports are taken or refused (PortInUse); others move on. */
  readonly ports?: Readonly<Partial<Record<PortName, number>>>;
  /** Run the embedded Postgres beside configured databases. */
  readonly postgres?: boolean;
  /** false: bring a worker of your own. */
  readonly worker?: boolean;
  /** Forget what an earlier dev left in the home. */
  readonly fresh?: boolean;
  /** For the embedded Postgres, over the defaults. */
  readonly postgresSettings?: Readonly<Record<string, string>>;
  /** More variables for the worker alone. */
  readonly workerEnv?: NodeJS.ProcessEnv;
  /** The worker's program instead of the built one. */
  readonly workerMain?: string;
  /** What is found, moved, restarted: one line each. */
  readonly log?: (line: string) => void;
}

export interface DevStack {
  readonly home: string;
  /** dev.json as it is now. */
  readonly file: () => DevFile;
  /** Environment in which every other command finds this stack. */
  readonly env: NodeJS.ProcessEnv;
  readonly temporalAddress: string;
  readonly namespace: string;
  readonly uiUrl: string | null;
  readonly metricsUrl: string | null;
  /** Connections that this stack runs itself: name -> URL (a secret). */
  readonly databases: Readonly<Record<string, string>>;
  /** The Temporal CLI and the folder of Postgres programs in use; null = none was needed. */
  readonly temporalCli: Tool | null;
  readonly postgresBin: Tool | null;
  readonly pid: (child: DevChild) => number | null;
  /** Ends everything, the worker first. */
  readonly stop: () => Promise<void>;
}

/** Starts what is asked for; answers when it serves. On failure everything that was started is ended again. */
export async function startDevStack(options: DevOptions = {}): Promise<DevStack> {
  const { env = process.env, log = () => undefined } = options;
  const home = resolve(options.home ?? homeFolder(env));
  const held = [await takeHome(home)];
  const release = (): void => held.forEach((one) => one());
  const children: Supervised[] = [];
  const stopAll = async (): Promise<void> => {
    for (const child of [...children].reverse()) await child.stop();
  };
  try {
    return await start({ ...options, env, log }, home, held, children, stopAll);
  } catch (error) {
    await stopAll();
    release();
    throw error;
  }
}

type Wanted = DevOptions & Required<Pick<DevOptions, 'env' | 'log'>>;

async function start(
  options: Wanted,
  home: string,
  held: (() => void)[],
  children: Supervised[],
  stopAll: () => Promise<void>,
): Promise<DevStack> {
  const { env, log } = options;
  const config = loadConfig({ file: options.configFile, env, useDev: false });
  const own = options.postgres === true || config.databases.size === 0;
  if (own && config.databases.has(EMBEDDED_NAME)) {
    throw new Problem(
      'InvalidUsage',
      `--postgres would run as connection ${EMBEDDED_NAME}, which is configured already`,
    );
  }
  const external = env.TEMPORAL_ADDRESS || null;
  const namespace = env.TEMPORAL_NAMESPACE || 'default';
  const withWorker = options.worker !== false;

  for (const line of await endOrphans(home, readDevFile(home))) log(line);
  if (options.fresh) emptyHome(home);
  const before = readDevFile(home);
  const needed: PortName[] = [];
  if (external === null) needed.push('temporal', 'ui');
  if (own) needed.push('postgres');
  if (withWorker) needed.push('metrics');
  const { ports, release } = await choosePorts(needed, options.ports ?? {}, before, log);
  held.push(release);

  const nobody = { dev: null, temporal: null, postgres: null, worker: null };
  const self = markOf(process.pid);
  let file: DevFile = {
    home,
    temporalAddress: external,
    uiUrl: null,
    apiUrl: null,
    metricsUrl: ports.metrics === null ? null : `http://127.0.0.1:${ports.metrics}/metrics`,
    databases: {},
    pids: { ...nobody, dev: self?.pid ?? null },
    started: { ...nobody, dev: self?.started ?? null },
    // A port that this run does not use stays remembered for the next one.
    ports: { ...(before?.ports ?? ports), ...Object.fromEntries(needed.map((name) => [name, ports[name]])) },
  };
  const update = (change: Partial<DevFile>): void => {
    file = { ...file, ...change };
    writeDevFile(home, file);
  };
  const note = (child: DevChild) => (mark: ProcessMark | null) =>
    update({
      pids: { ...file.pids, [child]: mark?.pid ?? null },
      started: { ...file.started, [child]: mark?.started ?? null },
    });
  update({});

  const tools = await findTools({ env, log, temporal: external === null, postgres: own || withWorker });
  const { temporalCli, postgresBin } = tools;
  const started = await Promise.allSettled([
    (async () => {
      if (!temporalCli || ports.temporal === null) return;
      const port = ports.temporal;
      const serve = () =>
        startTemporal(
          {
            cli: temporalCli.path,
            port,
            uiPort: ports.ui,
            file: temporalFile(home),
            logFile: logFile(home, 'temporal'),
            namespace,
          },
          note('temporal'),
        );
      const { first, child } = await supervise('temporal', serve, log);
      children.push(child);
      update({ temporalAddress: first.address, uiUrl: first.uiUrl });
    })(),
    (async () => {
      if (!own || !postgresBin || ports.postgres === null) return;
      const port = ports.postgres;
      const serve = () =>
        startPostgres(
          {
            bin: postgresBin.path,
            data: postgresFolder(home),
            port,
            logFile: logFile(home, 'postgres'),
            settings: options.postgresSettings,
            password: embeddedPassword(home),
          },
          note('postgres'),
        );
      const { first, child } = await supervise('postgres', serve, log);
      children.push(child);
      await createDatabase(first);
      update({ databases: { [EMBEDDED_NAME]: first.urlOf(EMBEDDED_NAME) } });
    })(),
  ]);
  // Both are settled before one's failure ends the other: nothing starts behind the back of the clean-up.
  for (const result of started) if (result.status === 'rejected') throw result.reason;

  const stackEnv = stackEnvironment(env, file, home, {
    external,
    namespace,
    configFile: options.configFile,
    postgresBin,
  });
  if (withWorker) {
    const workerEnv = { ...stackEnv, ...options.workerEnv };
    const serve = () => startWorker({ env: workerEnv, home, main: options.workerMain, note: note('worker') });
    const { child } = await supervise('worker', serve, log);
    children.push(child);
    if (!(await workerAnswers(file.metricsUrl))) log(`the worker does not answer yet; see ${logFile(home, 'worker')}`);
  }

  return {
    home,
    file: () => file,
    env: stackEnv,
    temporalAddress: file.temporalAddress ?? '',
    namespace,
    uiUrl: file.uiUrl,
    metricsUrl: file.metricsUrl,
    databases: file.databases,
    temporalCli,
    postgresBin,
    pid: (child) => file.pids[child],
    stop: async () => {
      await stopAll();
      update({ pids: nobody, started: nobody });
      held.forEach((one) => one());
    },
  };
}

async function findTools(wanted: {
  readonly env: NodeJS.ProcessEnv;
  readonly log: (line: string) => void;
  readonly temporal: boolean;
  readonly postgres: boolean;
}): Promise<{ readonly temporalCli: Tool | null; readonly postgresBin: Tool | null }> {
  const temporalCli = wanted.temporal ? await findTemporalCli(wanted) : null;
  const postgresBin = wanted.postgres ? await findPostgresBin(wanted) : null;
  for (const tool of [temporalCli, postgresBin]) if (tool) wanted.log(tool.says);
  return { temporalCli, postgresBin };
}

async function createDatabase(server: RunningPostgres): Promise<void> {
  const client = new Client({ connectionString: server.url });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [EMBEDDED_NAME]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${ident(EMBEDDED_NAME)}`);
  } finally {
    await client.end();
  }
}
