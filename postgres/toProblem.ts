/**
 * What Postgres or the network said, as a Problem: one table from SQLSTATE to our codes. Keeps true: no error of ours holds DETAIL, a row's
 * value, a URL or a password. Postgres' own sentence is passed on only for classes that speak of names, never of data (22 and 23 do speak
 * of data: `invalid input syntax for type integer: "..."`).
 */
import type { ErrorCode } from '../plan/model/errors';
import { isProblem, Problem } from '../plan/model/errors';
import { ident } from './ident';

/** Whom we were talking to. `where` is host:port/database, without user and password. */
export interface Peer {
  readonly name: string;
  readonly where: string;
  readonly role: string;
}

const CODE_OF_STATE: Readonly<Record<string, ErrorCode>> = {
  '55P03': 'LockTimeout',
  '40P01': 'Deadlock',
  '40001': 'Deadlock',
  '53100': 'DiskFull',
  '53300': 'Unreachable',
  '57P01': 'ServerRestarting',
  '57P02': 'ServerRestarting',
  '57P03': 'ServerRestarting',
  '57P05': 'ServerRestarting',
  '25P03': 'ServerRestarting',
  '25006': 'PreflightFailed',
  '42501': 'PrivilegeMissing',
  '42601': 'SqlSyntax',
  '42P01': 'NoSuchObject',
  '42703': 'NoSuchObject',
  '42704': 'NoSuchObject',
  '42883': 'NoSuchObject',
  '3F000': 'NoSuchObject',
  '3D000': 'LoginFailed',
  '28000': 'LoginFailed',
  '28P01': 'LoginFailed',
  '23505': 'DuplicateRows',
  '23P01': 'DuplicateRows',
};

/** Sentences for classes whose own message may quote data. */
const MEANING: Readonly<Record<string, string>> = {
  '22001': 'a value is too long for its type',
  '22003': 'a number is out of range',
  '22007': 'a date or time is written wrongly',
  '22008': 'a date or time is out of range',
  '22012': 'division by zero',
  '22023': 'a parameter has a value that is not allowed',
  '22P02': 'a text cannot be read as the type',
  '23502': 'a NULL where none is allowed',
  '23503': 'a row without the row it refers to',
  '23505': 'two rows with the same unique key',
  '23514': 'a row violates a check constraint',
  '23P01': 'rows violate an exclusion constraint',
  P0001: 'a function raised an error',
};

/** A person or a program cancelled the statement, or statement_timeout did. */
export const QUERY_CANCELED = '57014';

const SPEAKS_OF_NAMES = new Set('08 0A 25 28 2B 2D 34 3B 3D 3F 40 42 53 54 55 57 58 XX'.split(' '));
const NETWORK = /^(ECONN|ENOTFOUND|EAI_|ETIMEDOUT|EHOST|ENET|EPIPE|ENOENT$|EACCES$)/;
const NO_CONNECTION =
  /Connection terminated|timeout expired|connection is closed|not queryable|Client has encountered|was closed/i;
const TLS = /(CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO_VERIFY|LEAF_SIGNATURE|ALTNAME)/;

interface Raw {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly schema?: unknown;
  readonly table?: unknown;
  readonly column?: unknown;
  readonly constraint?: unknown;
  readonly severity?: unknown;
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);

/** The SQLSTATE of a driver error or of a Problem made here; undefined when Postgres did not answer. */
export function sqlstate(error: unknown): string | undefined {
  if (isProblem(error)) return text(error.details.sqlstate);
  const code = (error as Raw | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && (error as Raw).severity !== undefined
    ? code
    : undefined;
}

/** Did the caller's signal end it? Such errors pass every layer unchanged. */
export const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError';

/** True for what the ladder answers by waiting and trying again. */
export const isLockProblem = (error: unknown): boolean =>
  isProblem(error) && (error.code === 'LockTimeout' || error.code === 'Deadlock');

/** Wraps anything thrown while talking to `peer`; Problems and aborts pass unchanged. */
export function toProblem(error: unknown, peer: Peer): Error {
  if (isProblem(error) || isAbort(error)) return error as Error;
  const raw = (error ?? {}) as Raw;
  const state = sqlstate(error);
  if (state !== undefined) return fromState(state, raw, peer);
  const code = text(raw.code) ?? '';
  const message = text(raw.message) ?? '';
  if (TLS.test(code) || /does not support SSL|SSL|certificate/i.test(message))
    return new Problem('TlsFailed', `${peer.name}: TLS with ${peer.where} could not be set up${suffix(code)}`);
  if (NETWORK.test(code) || NO_CONNECTION.test(message) || hasNetworkCause(error))
    return new Problem('Unreachable', `${peer.name}: ${peer.where} does not answer${suffix(code)}`, {
      details: { database: peer.name, address: peer.where },
    });
  return error instanceof Error ? error : new Problem('Bug', `${peer.name}: something that is no error was thrown`);
}

const suffix = (code: string): string => (code === '' ? '' : ` (${code})`);

function hasNetworkCause(error: unknown): boolean {
  const inner = (error as { errors?: unknown } | null)?.errors;
  return Array.isArray(inner) && inner.some((one) => NETWORK.test(text((one as Raw | null)?.code) ?? ''));
}

function fromState(state: string, raw: Raw, peer: Peer): Problem {
  const code = CODE_OF_STATE[state] ?? (state.startsWith('08') ? 'Unreachable' : 'StepFailed');
  const message = SPEAKS_OF_NAMES.has(state.slice(0, 2)) ? text(raw.message) : undefined;
  const details = {
    sqlstate: state,
    schema: text(raw.schema) ?? null,
    table: text(raw.table) ?? null,
    column: text(raw.column) ?? null,
    constraint: text(raw.constraint) ?? null,
  };
  const about = [details.table, details.column ?? details.constraint].filter((part) => part !== null).join('.');
  const what = message ?? `${MEANING[state] ?? 'Postgres refused the statement'}${about === '' ? '' : ` (${about})`}`;
  const hint = code === 'PrivilegeMissing' ? grantFor(text(raw.message) ?? '', peer) : undefined;
  return new Problem(code, `${peer.name}: ${what} [${state}]`, { details, ...(hint === undefined ? {} : { hint }) });
}

/** The line that gives the role what it lacks, from Postgres' sentence. */
function grantFor(message: string, peer: Peer): string {
  const role = ident(peer.role);
  const database = ident(peer.where.slice(peer.where.lastIndexOf('/') + 1));
  const named = /(?:for|of) (schema|table|view|sequence|function|database|relation|type) "?([^"]+?)"?$/.exec(message);
  if (/session_replication_role/.test(message)) return `GRANT SET ON PARAMETER session_replication_role TO ${role};`;
  if (/must be owner/.test(message))
    return `make ${peer.role} a member of the owner of ${named?.[2] ?? 'the object'}:  GRANT <owner> TO ${role};`;
  if (named?.[1] === 'schema') return `GRANT USAGE, CREATE ON SCHEMA ${ident(named[2] ?? '')} TO ${role};`;
  if (named?.[1] === 'database') return `GRANT CREATE ON DATABASE ${database} TO ${role};`;
  if (named?.[1] === 'table' || named?.[1] === 'view' || named?.[1] === 'relation')
    return `GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER ON ${ident(named[2] ?? '')} TO ${role};`;
  if (named) return `GRANT ALL ON ${named[1]?.toUpperCase()} ${ident(named[2] ?? '')} TO ${role};`;
  return `give ${peer.role} the privilege that the message names`;
}
