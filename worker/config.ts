/**
 * Configuration: flag, environment, file, default, in this order. A secret is read at the moment it is used (so that one missing
 * variable does not stop work on another database) and is never part of the value: printing a Config shows no URL.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Problem } from '../plan/model/errors';
import type { Where } from '../plan/model/errors';
import { CONNECTION_NAME } from '../plan/model/values';
import { target } from '../postgres/types';
import type { Target } from '../postgres/types';
import { NO_CONFIG_FILE, readConfigFile } from './configFile';
import type { DatabaseEntry } from './configFile';
import { homeFolder, liveDevFile } from './devFile';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface DatabaseConfig {
  readonly name: string;
  /** `development`, `staging`, `production`, ...: decides which defaults hold. */
  readonly environment: string;
  readonly replicas: readonly string[];
  readonly applicationRoles: readonly string[];
  readonly poolMax: number;
  /** Where the entry came from, for people. */
  readonly from: 'variable' | 'file' | 'dev';
  /** Secret: the direct one when a pooler stands before the database. Throws InvalidConfig when it cannot be read. */
  readonly url: () => string;
  /** Secret: how the other server reaches this one (FROM_PEER); the plain URL when nothing else is said. */
  readonly peerUrl: () => string;
}

export interface Config {
  readonly file: string | null;
  readonly databases: ReadonlyMap<string, DatabaseConfig>;
  readonly environment: string;
  readonly taskQueue: string;
  readonly logLevel: LogLevel;
  /** host and port of the metrics page; null = none. */
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly maxActivities: number;
  readonly poolMax: number;
  readonly prometheusUrl: string | null;
  /** Connection that holds the state of releases and fleets. */
  readonly control: string | null;
  /** Environment -> plan keys as typed; a plan's own keys win. */
  readonly defaults: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly home: string;
}

export interface ConfigSources {
  /** `--config`. */
  readonly file?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly flags?: { readonly taskQueue?: string; readonly logLevel?: string; readonly metricsAddress?: string };
  /** false = do not look for a running `pgshift dev` (dev itself). */
  readonly useDev?: boolean;
  readonly cwd?: string;
}

/** Throws InvalidConfig (with the place, when a file is wrong) and NoSuchFile. */
export function loadConfig(sources: ConfigSources = {}): Config {
  const { env = process.env, flags = {}, cwd = process.cwd() } = sources;
  const named = sources.file ?? (env.PGSHIFT_CONFIG || undefined);
  const standard = resolve(cwd, 'pgshift.config.yaml');
  const path = named === undefined ? (existsSync(standard) ? standard : null) : resolve(cwd, named);
  const file = path === null ? NO_CONFIG_FILE : readConfigFile(path);
  const valueOf = (given: string, where: Where): string =>
    readValue(given, path === null ? cwd : dirname(path), env, where);

  const environment = env.PGSHIFT_ENVIRONMENT || 'development';
  const poolMax = wholeNumber(env, 'PGSHIFT_POOL_MAX', 10);
  const home = homeFolder(env);
  const databases = new Map<string, DatabaseConfig>();

  const add = (
    name: string,
    entry: DatabaseEntry,
    from: DatabaseConfig['from'],
    whereOf: (key: string) => Where,
  ): void => {
    const secret = (key: 'url' | 'peerUrl' | 'directUrl'): string | null => {
      const given = entry[key];
      return given === undefined ? null : postgresUrl(valueOf(given, whereOf(key)), name, whereOf(key));
    };
    const url = (): string => {
      const found = secret('directUrl') ?? secret('url');
      if (found !== null) return found;
      throw new Problem('InvalidConfig', `connection ${name} has no url`, { where: whereOf('url') });
    };
    databases.set(name, {
      name,
      environment: entry.environment === undefined ? environment : valueOf(entry.environment, whereOf('environment')),
      replicas: entry.replicas,
      applicationRoles: entry.applicationRoles,
      poolMax: entry.poolMax ?? poolMax,
      from,
      url,
      peerUrl: () => secret('peerUrl') ?? url(),
    });
  };

  const dev = sources.useDev === false ? null : liveDevFile(home);
  const empty = { replicas: [], applicationRoles: [] };
  for (const [name, url] of Object.entries(dev?.databases ?? {})) add(name, { ...empty, url }, 'dev', () => ({}));
  const variables = databaseVariables(env);
  const names = new Set([...Object.keys(file.databases), ...variables.keys()]);
  for (const name of names) {
    const devUrl = dev?.databases[name];
    const inFile = file.databases[name] ?? (devUrl === undefined ? undefined : { ...empty, url: devUrl });
    const variable = variables.get(name) ?? {};
    // A variable replaces the file's URLs as a whole: its directUrl belongs to the server that the file named.
    const base: DatabaseEntry = { ...empty, ...inFile, ...(variable.url ? { directUrl: undefined } : {}) };
    add(name, { ...base, ...variable }, variable.url ? 'variable' : 'file', (key) =>
      Object.hasOwn(variable, key) ? {} : file.where(['databases', name, key]),
    );
  }

  for (const { name, replicas } of databases.values()) {
    for (const [index, replica] of replicas.entries()) {
      if (databases.has(replica)) continue;
      throw new Problem('InvalidConfig', `databases.${name}.replicas: no connection is named ${replica}`, {
        where: file.where(['databases', name, 'replicas', index]),
      });
    }
  }
  if (file.control !== null && !databases.has(file.control)) {
    throw new Problem('InvalidConfig', `control: no connection is named ${file.control}`, {
      where: file.where(['control']),
    });
  }

  const prometheus = env.PGSHIFT_PROMETHEUS_URL || file.prometheusUrl;
  return {
    file: path,
    databases,
    environment,
    taskQueue: flags.taskQueue ?? (env.PGSHIFT_TASK_QUEUE || 'pgshift'),
    logLevel: logLevel(flags.logLevel ?? (env.PGSHIFT_LOG_LEVEL || 'info')),
    metrics: address(flags.metricsAddress ?? (env.PGSHIFT_METRICS_ADDRESS || '127.0.0.1:9464')),
    maxActivities: wholeNumber(env, 'PGSHIFT_MAX_ACTIVITIES', 8),
    poolMax,
    prometheusUrl: prometheus === null ? null : valueOf(prometheus, file.where(['prometheus', 'url'])),
    control: file.control,
    defaults: file.defaults,
    home,
  };
}

/** A configured connection by name. Throws UnknownDatabase, with the known names. */
export function databaseConfig(config: Config, name: string): DatabaseConfig {
  const found = config.databases.get(name);
  if (found) return found;
  const known = [...config.databases.keys()].sort();
  throw new Problem('UnknownDatabase', `no connection is named ${CONNECTION_NAME.test(name) ? name : 'like that'}`, {
    hint:
      `set PGSHIFT_DATABASE_${CONNECTION_NAME.test(name) ? name.toUpperCase() : '<NAME>'} or add it to ` +
      `pgshift.config.yaml; known: ${known.join(', ') || 'none'}`,
    details: { known },
  });
}

/** What the engine needs, with the replicas whose lag it watches. Throws UnknownDatabase and InvalidConfig. */
export function resolveTarget(config: Config, name: string): Target {
  const { url, replicas } = databaseConfig(config, name);
  return target(
    name,
    url(),
    replicas.map((replica) => target(replica, databaseConfig(config, replica).url())),
  );
}

/** Plan keys that the database's environment gives; a plan's own keys win over them. */
export const environmentDefaults = (config: Config, name: string): Readonly<Record<string, unknown>> =>
  config.defaults[databaseConfig(config, name).environment] ?? {};

/** PGSHIFT_DATABASE_<NAME> and PGSHIFT_DATABASE_<NAME>_FROM_PEER, by connection name. */
function databaseVariables(env: NodeJS.ProcessEnv): Map<string, { url?: string; peerUrl?: string }> {
  const found = new Map<string, { url?: string; peerUrl?: string }>();
  for (const [variable, given] of Object.entries(env)) {
    const match = /^PGSHIFT_DATABASE_(.+?)(_FROM_PEER)?$/.exec(variable);
    if (!match?.[1] || !given) continue;
    const name = match[1].toLowerCase();
    if (!CONNECTION_NAME.test(name)) {
      throw new Problem('InvalidConfig', `${variable} names no connection`, {
        hint: 'a connection name is [a-z][a-z0-9_]*; the variable has it in upper case',
      });
    }
    found.set(name, { ...found.get(name), [match[2] ? 'peerUrl' : 'url']: given });
  }
  return found;
}

/** `env:NAME`, `file:PATH` (relative to the configuration file) or the text itself. The answer may be a secret. */
function readValue(given: string, folder: string, env: NodeJS.ProcessEnv, where: Where): string {
  if (given.startsWith('env:')) {
    const found = env[given.slice(4)];
    if (found) return found;
    throw new Problem('InvalidConfig', `variable ${given.slice(4)} is not set`, { where });
  }
  if (!given.startsWith('file:')) return given;
  try {
    const text = readFileSync(resolve(folder, given.slice(5)), 'utf8').trim();
    if (text) return text;
  } catch {
    // said below, without the system's message
  }
  throw new Problem('InvalidConfig', `file ${given.slice(5)} is empty or cannot be read`, { where });
}

/** Never echoes what it refuses. */
function postgresUrl(given: string, name: string, where: Where): string {
  if (/^postgres(ql)?:\/\//.test(given) && URL.canParse(given)) return given;
  throw new Problem('InvalidConfig', `the URL of connection ${name} is not a postgresql:// URL (it is not shown)`, {
    where,
    hint: 'write postgresql://user:password@host:port/database, with special characters percent-encoded',
  });
}

function wholeNumber(env: NodeJS.ProcessEnv, variable: string, standard: number): number {
  const given = env[variable];
  if (!given) return standard;
  if (/^[1-9]\d{0,5}$/.test(given)) return Number(given);
  throw new Problem('InvalidConfig', `${variable} is not a whole number above 0`, { value: given });
}

function logLevel(given: string): LogLevel {
  const found = LOG_LEVELS.find((level) => level === given);
  if (found) return found;
  throw new Problem('InvalidConfig', 'PGSHIFT_LOG_LEVEL is not a level', {
    value: given,
    hint: `one of ${LOG_LEVELS.join(', ')}`,
  });
}

function address(given: string): Config['metrics'] {
  if (given === 'none') return null;
  const match = /^(.+):(\d{1,5})$/.exec(given);
  const port = Number(match?.[2]);
  if (match?.[1] && port < 65_536) return { host: match[1].replace(/^\[|\]$/g, ''), port };
  throw new Problem('InvalidConfig', 'PGSHIFT_METRICS_ADDRESS is not host:port', {
    value: given,
    hint: 'as 127.0.0.1:9464; port 0 = any free one; none = no metrics page',
  });
}
