/**
 * One direct connection to one database. Keeps true: settings of the role or the database cannot break us (every timeout is set here),
 * nothing loses precision on its way through JavaScript (int8, numeric and times stay text), every error comes out as a Problem, and a
 * worker that died is noticed by the server even in the middle of a long statement.
 */
import type { QueryResultRow, Submittable } from 'pg';
import { Client, types } from 'pg';
import { Problem } from '../plan/model/errors';
import { identList } from './ident';
import type { Peer } from './toProblem';
import { QUERY_CANCELED, sqlstate, toProblem } from './toProblem';
import type { Target } from './types';

export interface SessionOptions {
  /** What it is for, as the application_name shows it: step id, observer, preflight, ... */
  readonly purpose: string;
  /** Name of the migration; null = work that belongs to none. */
  readonly migration?: string | null;
  readonly workflowId?: string | null;
  /** Where unqualified names of the user's SQL are looked up. Default: pg_catalog alone. */
  readonly searchPath?: readonly string[];
  readonly connectTimeoutMs?: number;
  /** Ends the session's transaction when this process freezes in the middle of it. Default 60 s. */
  readonly idleInTransactionMs?: number;
}

export interface Session extends Peer {
  /** Backend, by pid and start time: pids are used again. */
  readonly pid: number;
  readonly backendStart: string;
  /** server_version_num, 180006. */
  readonly serverVersion: number;
  /** Rows of one statement. Values are text, numbers (int2, int4, float8), booleans or parsed JSON. */
  rows<R extends QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** First row, if any. */
  one<R extends QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R | undefined>;
  /** Runs one statement and says how many rows it touched. */
  run(text: string, values?: readonly unknown[]): Promise<number>;
  /** Hands over something of the driver's own that is sent as it is (a COPY stream); its errors are raw. */
  submit<S extends Submittable>(query: S): S;
  /** True once the connection broke: what ran on it may or may not have committed. */
  readonly lost: boolean;
  close(): Promise<void>;
}

/** bool, int2, int4, float8, json, jsonb and text[] are parsed; everything else stays the text that Postgres printed. */
const PARSED = new Set([16, 21, 23, 701, 114, 3802, 1009]);
const asText = (value: string): string => value;
const parsers = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    PARSED.has(oid) ? (types.getTypeParser(oid, format === 'binary' ? 'binary' : 'text') as typeof asText) : asText,
};

const DEFAULT_CONNECT_MS = 10_000;
const DEFAULT_IDLE_IN_TRANSACTION_MS = 60_000;
const CLOSE_MS = 2_000;

/** The URL for the driver: sslmode means what it means to libpq (the driver's own reading turns `require` into `verify-full`). */
export function connectionString({ url }: Target): string {
  return /[?&]sslmode=/.test(url) && !/[?&]uselibpqcompat=/.test(url) ? `${url}&uselibpqcompat=true` : url;
}

/** host:port/database of a URL, for people; never user or password. Unreadable URLs are InvalidConfig and not shown. */
export function addressOf(target: Target): { where: string; role: string } {
  try {
    // Not connected: the driver's own reading of the URL, environment and all.
    const { host, port, database, user } = new Client({ connectionString: connectionString(target) });
    const role = user ?? 'postgres';
    return { where: `${host}:${port}/${database ?? role}`, role };
  } catch {
    throw new Problem('InvalidConfig', `the URL of connection ${target.name} cannot be read (it is not shown)`);
  }
}

/** Connects; throws Unreachable, LoginFailed, TlsFailed with host and port. The caller closes it. */
export async function openSession(target: Target, options: SessionOptions): Promise<Session> {
  const { where, role } = addressOf(target);
  const peer: Peer = { name: target.name, where, role };
  const client = new Client({
    connectionString: connectionString(target),
    application_name: ['pgshift', options.migration, options.purpose].filter(Boolean).join('/').slice(0, 63),
    connectionTimeoutMillis: options.connectTimeoutMs ?? DEFAULT_CONNECT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: parsers,
  });
  const state = { lost: false };
  // Without a listener a broken idle connection would end the process.
  client.on('error', () => (state.lost = true));
  client.on('end', () => (state.lost = true));

  const query = async <R extends QueryResultRow>(text: string, values?: readonly unknown[]) => {
    try {
      return await client.query<R>(text, values === undefined ? undefined : [...values]);
    } catch (error) {
      throw toProblem(error, peer);
    }
  };
  const close = async (): Promise<void> => {
    state.lost = true;
    // A peer that is gone never answers the goodbye.
    const timer = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_MS).unref());
    await Promise.race([client.end().catch(() => undefined), timer]);
  };

  try {
    await client.connect();
  } catch (error) {
    await close();
    throw toProblem(error, peer);
  }
  try {
    const self = await setUp(query, options);
    return {
      ...peer,
      role: self.role,
      pid: self.pid,
      backendStart: self.started,
      serverVersion: self.version,
      rows: async (text, values) => (await query(text, values)).rows as never,
      one: async (text, values) => (await query(text, values)).rows[0] as never,
      run: async (text, values) => (await query(text, values)).rowCount ?? 0,
      submit: (query) => client.query(query),
      get lost() {
        return state.lost;
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Self extends QueryResultRow {
  readonly pid: number;
  readonly started: string;
  readonly version: number;
  readonly role: string;
}

const NO_TIMEOUT_TRIES = 10;

/** What the role or the database sets holds until here, and 50 ms are soon over in a process that a busy machine has only just started. */
export async function noTimeout(query: (text: string) => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries += 1)
    try {
      await query('SET statement_timeout = 0');
      return;
    } catch (error) {
      if (sqlstate(error) !== QUERY_CANCELED || tries === NO_TIMEOUT_TRIES) throw error;
    }
}

async function setUp(
  query: <R extends QueryResultRow>(text: string) => Promise<{ rows: R[] }>,
  options: SessionOptions,
): Promise<Self> {
  const path = identList(options.searchPath?.length ? options.searchPath : ['pg_catalog']);
  const idle = options.idleInTransactionMs ?? DEFAULT_IDLE_IN_TRANSACTION_MS;
  await noTimeout(query);
  // One message; the simple protocol runs it as one transaction, and SET outlives it.
  await query(
    `SET lock_timeout = 0; SET idle_in_transaction_session_timeout = ${Math.round(idle)};
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
     SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex';
     SET client_min_messages = 'warning'; SET standard_conforming_strings = on; SET search_path = ${path}`,
  );
  const [self] = (
    await query<Self>(
      `SELECT pg_catalog.pg_backend_pid() AS pid, current_user::text AS role,
              pg_catalog.current_setting('server_version_num')::int AS version,
              (SELECT a.backend_start::text FROM pg_catalog.pg_stat_activity AS a
                WHERE a.pid = pg_catalog.pg_backend_pid()) AS started`,
    )
  ).rows;
  if (!self) throw new Problem('Bug', 'the server did not say who we are');
  if (self.version >= 140000) {
    // Not on every platform: without it a dead worker's long statement simply runs to its end, and the fence deals with it.
    await query(`SET client_connection_check_interval = '2s'`).catch(() => undefined);
    await query(`SET idle_session_timeout = 0`);
  }
  if (self.version >= 170000) await query(`SET transaction_timeout = 0`);
  return self;
}

/** Opens, works, closes: for work that owns its session. */
export async function withSession<T>(
  target: Target,
  options: SessionOptions,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await openSession(target, options);
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

/** BEGIN, work, COMMIT; anything thrown rolls back and passes on. `mode` as in BEGIN ("ISOLATION LEVEL REPEATABLE READ"). */
export async function inTransaction<T>(session: Session, work: () => Promise<T>, mode = ''): Promise<T> {
  await session.run(`BEGIN ${mode}`);
  try {
    const result = await work();
    await session.run('COMMIT');
    return result;
  } catch (error) {
    await rollBack(session);
    throw error;
  }
}

/** Never throws. Twice, because a late cancel may hit the first one. */
export async function rollBack(session: Session): Promise<void> {
  if (session.lost) return;
  await session.run('ROLLBACK').catch(() => session.run('ROLLBACK').catch(() => undefined));
}
