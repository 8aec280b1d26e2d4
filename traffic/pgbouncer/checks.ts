/**
 * What would spoil a switch through PgBouncer, looked for before it: each finding is a trap that somebody fell into. Changes nothing. What
 * cannot be read counts as an error.
 */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { isProblem } from '../../plan/model/errors';
import type { PgbouncerAdapterPlan } from '../../plan/model/traffic';
import { Deadline } from '../deadline';
import { leads } from '../servers';
import type { Servers, TrafficCall, TrafficFinding } from '../types';
import { DEFAULT_LASTS_MS } from '../types';
import type { Console, ConsoleRow } from './console';
import { findDatabase, leadsTo, readDatabases } from './databasesFile';

const finding = (check: string, level: TrafficFinding['level'], message: string, remedy: string): TrafficFinding => ({
  check: `pgbouncer.${check}`,
  level,
  message,
  remedy,
});

export async function checkPgbouncers(
  plan: PgbouncerAdapterPlan,
  servers: Servers,
  consoles: readonly Console[],
  call: TrafficCall,
): Promise<TrafficFinding[]> {
  const deadline = new Deadline(call);
  const found = await checkFile(plan, servers);
  for (const console of consoles) {
    try {
      const config = new Map(
        (await console.rows('SHOW CONFIG', deadline)).map((row) => [row.key ?? '', row.value ?? '']),
      );
      const row = (await console.rows('SHOW DATABASES', deadline)).find((one) => one.name === plan.database);
      found.push(...checkDatabase(plan, servers, console.name, row));
      found.push(...checkConfig(console.name, config, row, call));
      if (config.get('so_reuseport') === '1' && !console.isLocal)
        found.push(
          finding(
            'so_reuseport',
            'error',
            `${console.name} shares its port with other processes: a command reaches any one of them`,
            'name each process by its own unix socket under admin',
          ),
        );
      found.push(...checkVersion(console.name, await version(console, deadline), row, config));
    } catch (error) {
      if (!isProblem(error)) throw error;
      found.push(finding('console', 'error', error.message, 'check address, auth and admin_users of the console'));
    }
  }
  return found;
}

/** SHOW VERSION answers with a notice up to 1.12, with a row since. */
async function version(console: Console, deadline: Deadline): Promise<readonly [number, number] | null> {
  const [row] = await console.rows('SHOW VERSION', deadline);
  const match = /(\d+)\.(\d+)/.exec(row?.version ?? '');
  return match ? [Number(match[1]), Number(match[2])] : null;
}

async function checkFile(plan: PgbouncerAdapterPlan, servers: Servers): Promise<TrafficFinding[]> {
  const bad = (message: string, remedy: string) => [finding('file', 'error', message, remedy)];
  const remedy = 'databasesFile is the ini file that PgBouncer reads, as the worker sees it';
  try {
    const text = await readDatabases(plan.databasesFile);
    await access(plan.databasesFile, constants.W_OK);
    const { nlink } = await stat(plan.databasesFile);
    const line = findDatabase(text, plan.database);
    if (typeof line === 'string') return bad(`databasesFile: ${line} for ${plan.database}`, remedy);
    const to = leadsTo(line, plan.database);
    const side = leads(servers, { host: to.host, port: String(to.port), database: to.database });
    if (side === null)
      return bad(
        `databasesFile: ${plan.database} leads to a server that is neither blue nor green`,
        'name the two as PgBouncer reaches them, under servers of the adapter (host:port/dbname)',
      );
    return nlink > 1 ? [finding('file', 'warning', 'databasesFile has a second hard link', 'use a symbolic link')] : [];
  } catch (error) {
    return bad(`databasesFile cannot be changed (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`, remedy);
  }
}

function checkDatabase(
  plan: PgbouncerAdapterPlan,
  servers: Servers,
  name: string,
  row: ConsoleRow | undefined,
): TrafficFinding[] {
  if (!row)
    return [finding('database', 'error', `${name} knows no database ${plan.database}`, 'it needs a line of its own')];
  const found: TrafficFinding[] = [];
  if (leads(servers, row) === null)
    found.push(
      finding(
        'target',
        'error',
        `${name} leads to a server that is neither blue nor green`,
        'name the two as PgBouncer reaches them, under servers of the adapter (host:port/dbname)',
      ),
    );
  if (row.paused === '1')
    found.push(finding('paused', 'error', `${name}: ${plan.database} is paused already`, 'RESUME it, or find out who'));
  if (row.disabled === '1')
    found.push(finding('disabled', 'error', `${name}: ${plan.database} is disabled`, 'ENABLE it'));
  return found;
}

function checkConfig(
  name: string,
  config: ReadonlyMap<string, string>,
  row: ConsoleRow | undefined,
  call: TrafficCall,
): TrafficFinding[] {
  const found: TrafficFinding[] = [];
  const seconds = (key: string): number | null => {
    const value = Number(config.get(key) || NaN);
    return Number.isFinite(value) ? value : null;
  };
  const mode = row?.pool_mode || config.get('pool_mode');
  if (mode === 'session')
    found.push(
      finding(
        'pool_mode',
        'warning',
        `${name} pools sessions: a pause waits until every client disconnects, and is taken back when one stays`,
        'pool transactions, or see that clients disconnect',
      ),
    );
  else if (mode !== 'transaction' && mode !== 'statement')
    found.push(finding('pool_mode', 'error', `${name}: pool_mode cannot be read`, 'update PgBouncer'));
  const needed = (2 * (call.lastsMs ?? DEFAULT_LASTS_MS)) / 1_000;
  for (const key of ['query_wait_timeout', 'client_login_timeout']) {
    const value = seconds(key);
    if (value === null) found.push(finding(key, 'error', `${name}: ${key} cannot be read`, 'update PgBouncer'));
    else if (value !== 0 && value < needed)
      found.push(
        finding(
          key,
          'error',
          `${name}: ${key} is ${value} s, and a pause may last ${needed / 2} s: waiting clients would be turned away`,
          `SET ${key} = ${Math.ceil(needed)};`,
        ),
      );
  }
  const retry = seconds('server_login_retry');
  if (retry !== null && retry > 1)
    found.push(
      finding(
        'server_login_retry',
        'info',
        `${name}: one refused login at the new side would turn clients away for ${retry} s`,
        'SET server_login_retry = 1; (the new side is asked before clients go there, all the same)',
      ),
    );
  return found;
}

function checkVersion(
  name: string,
  found: readonly [number, number] | null,
  row: ConsoleRow | undefined,
  config: ReadonlyMap<string, string>,
): TrafficFinding[] {
  if (found === null) return [finding('version', 'error', `${name}: its version cannot be read`, 'update PgBouncer')];
  const [major, minor] = found;
  const mode = row?.pool_mode || config.get('pool_mode');
  const prepares = major > 1 || minor >= 21;
  if (mode === 'session' || (prepares && Number(config.get('max_prepared_statements') || 0) > 0)) return [];
  return [
    finding(
      'prepared_statements',
      'warning',
      `${name} (${major}.${minor}) knows no protocol-level prepared statements in transaction pooling`,
      prepares ? 'SET max_prepared_statements = 200;' : 'applications must not prepare; or update to 1.21 or later',
    ),
  ];
}
