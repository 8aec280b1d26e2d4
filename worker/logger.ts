/**
 * Logs: one JSON object a line on stderr, with the contract's field names. Nothing secret passes: what looks like a URL with
 * credentials, a password, or Postgres' own DETAIL (which holds row values) is taken out here, whoever logged it.
 */
import { pino } from 'pino';
import type { DestinationStream, Logger as PinoLogger } from 'pino';
import type { LogLevel as TemporalLevel, Logger as TemporalLogger, LogMetadata } from '@temporalio/worker';
import { isProblem } from '../plan/model/errors';
import type { LogLevel } from './config';

/** Fields that every line of ours may carry; labels of metrics never hold these. */
export interface LogFields {
  /** The workflow id. */
  readonly migrationId?: string;
  readonly operation?: string;
  readonly phase?: string;
  readonly step?: string;
  readonly status?: string;
  readonly attempt?: number;
  readonly durationMs?: number;
  readonly code?: string;
  readonly [field: string]: unknown;
}

export type Log = PinoLogger;

const SECRET_KEYS =
  /^(password|passwd|url|peerUrl|directUrl|connectionString|apiKey|token|authorization|detail|values|row)$/i;
const HIDDEN = '(not shown)';

/** Takes connection strings and passwords out of a text. */
export const scrub = (text: string): string =>
  text
    .replace(/\bpostgres(ql)?:\/\/[^\s'"`<>]*/gi, HIDDEN)
    .replace(/:\/\/[^/\s'"@]+@/g, `://${HIDDEN}@`)
    .replace(/\b(password|passwd|pgpassword)\s*=\s*\S+/gi, `$1=${HIDDEN}`);

/** A copy that may be logged: texts scrubbed, secret keys hidden, errors reduced to what the catalogue knows. */
export function loggable(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return scrub(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth > 5) return '...';
  if (value instanceof Error) return loggableError(value, depth);
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => loggable(item, depth + 1));
  if (value instanceof Date) return value.toISOString();
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, SECRET_KEYS.test(key) ? HIDDEN : loggable(item, depth + 1)]),
  );
}

function loggableError(error: Error, depth: number): unknown {
  if (isProblem(error)) return { name: error.name, code: error.code, message: scrub(error.message) };
  const { sqlstate, code } = error as { sqlstate?: unknown; code?: unknown };
  return {
    name: error.name,
    message: scrub(error.message),
    ...(typeof code === 'string' ? { code } : {}),
    ...(typeof sqlstate === 'string' ? { sqlstate } : {}),
    ...(error.stack ? { stack: scrub(error.stack) } : {}),
    ...(error.cause === undefined ? {} : { cause: loggable(error.cause, depth + 1) }),
  };
}

/** The process's logger. `destination` is stderr unless a test gives another. */
export function createLogger(level: LogLevel, destination: DestinationStream = pino.destination(2)): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => loggable(fields) as Record<string, unknown>,
      },
      // Messages do not pass the formatter.
      hooks: {
        logMethod(args, method) {
          const scrubbed = args.map((arg) => (typeof arg === 'string' ? scrub(arg) : arg));
          method.apply(this, scrubbed as typeof args);
        },
      },
    },
    destination,
  );
}

const PINO_LEVEL: Readonly<Record<TemporalLevel, 'trace' | 'debug' | 'info' | 'warn' | 'error'>> = {
  TRACE: 'trace',
  DEBUG: 'debug',
  INFO: 'info',
  WARN: 'warn',
  ERROR: 'error',
};

/** Temporal's names for what our lines call otherwise; what people do not search for is left out. */
function temporalFields(meta: LogMetadata = {}): Record<string, unknown> {
  const {
    workflowId,
    activityType,
    taskToken: _token,
    taskQueue: _queue,
    namespace: _namespace,
    sdkComponent,
    ...rest
  } = meta as Record<string, unknown>;
  return {
    ...(workflowId === undefined ? {} : { migrationId: workflowId }),
    ...(activityType === undefined ? {} : { operation: activityType }),
    ...(sdkComponent === undefined ? {} : { component: sdkComponent }),
    ...rest,
  };
}

/** For Runtime.install: Temporal logs (message, meta), pino (meta, message). */
export function temporalLogger(log: Log): TemporalLogger {
  const write = (level: TemporalLevel, message: string, meta?: LogMetadata): void =>
    log[PINO_LEVEL[level]](temporalFields(meta), message);
  return {
    log: write,
    trace: (message, meta) => write('TRACE', message, meta),
    debug: (message, meta) => write('DEBUG', message, meta),
    info: (message, meta) => write('INFO', message, meta),
    warn: (message, meta) => write('WARN', message, meta),
    error: (message, meta) => write('ERROR', message, meta),
  };
}
