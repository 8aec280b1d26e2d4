/**
 * What Temporal's client throws, as Problems. By shape and name, not instanceof: `plan` and `lint` never load the Temporal client. The type of an
 * application failure is a code of the catalogue; of `RolledBack` the cause in its details is what people want to read.
 */
import { Problem, isErrorCode } from '../plan/model/errors';
import type { ErrorCode, Where } from '../plan/model/errors';
import { redact } from './redact';

interface Shape {
  readonly name?: unknown;
  readonly message?: unknown;
  readonly code?: unknown;
  readonly details?: unknown;
  readonly type?: unknown;
  readonly cause?: unknown;
}

const shape = (error: unknown): Shape => (typeof error === 'object' && error !== null ? (error as Shape) : {});

const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);

/** Numbers of gRPC; the client library wraps them in errors of its own. */
const GRPC = {
  cancelled: 1,
  exhausted: 8,
  deadline: 4,
  notFound: 5,
  alreadyExists: 6,
  denied: 7,
  precondition: 9,
  unauthenticated: 16,
  unavailable: 14,
} as const;

/** The innermost application failure of a chain of causes. */
export function applicationFailure(error: unknown): Shape | null {
  let found: Shape | null = null;
  for (let at = shape(error), depth = 0; depth < 10; at = shape(at.cause), depth += 1) {
    if (at.name === 'ApplicationFailure') found = at;
    if (at.cause === undefined || at.cause === null) break;
  }
  return found;
}

/** `{type, message, details: [{hint, cause, where, checks, ...}]}` -> Problem; the code of what caused a rollback wins over `RolledBack`. */
export function problemOfFailure(failure: Shape): Problem {
  const fields = record(Array.isArray(failure.details) ? (failure.details as unknown[])[0] : undefined);
  const cause = isErrorCode(fields['cause']) ? fields['cause'] : null;
  const type: ErrorCode = isErrorCode(failure.type) ? failure.type : 'Bug';
  const hint = text(fields['hint']);
  const where = fields['where'];
  const value = text(fields['value']);
  return new Problem(type === 'RolledBack' && cause !== null ? cause : type, redact(text(failure.message) ?? type), {
    ...(hint === undefined ? {} : { hint }),
    ...(typeof where === 'object' && where !== null ? { where: where as Where } : {}),
    ...(value === undefined ? {} : { value }),
    details: fields,
  });
}

export const isNotFound = (error: unknown): boolean =>
  shape(error).name === 'WorkflowNotFoundError' || shape(error).code === GRPC.notFound;

/** Not in a state to be asked: no poller, or no task has run yet. */
export const isNotReady = (error: unknown): boolean => grpcCode(error) === GRPC.precondition;

/** Nobody answered in time: no worker polls, or none is quick enough. */
export function isNoAnswer(error: unknown): boolean {
  for (let at = shape(error), depth = 0; depth < 5; at = shape(at.cause), depth += 1) {
    // Queries that wait for a worker that just died fill the server's buffer for this run: that is no answer either.
    if (at.code === GRPC.cancelled || at.code === GRPC.exhausted) return true;
    if (at.code === GRPC.deadline || at.name === 'WorkflowUpdateRPCTimeoutOrCancelledError') return true;
    if (
      /no poller seen|deadline exceeded|worker may be down|workflow task in failed state/i.test(
        String(at.message ?? ''),
      )
    )
      return true;
    if (at.cause === undefined || at.cause === null) return false;
  }
  return false;
}

/** The server's own sentence: the client library wraps it in one of its own. */
function detailsOf(error: unknown): string {
  for (let at = shape(error), depth = 0; depth < 5; at = shape(at.cause), depth += 1) {
    if (typeof at.code === 'number' && text(at.details) !== undefined) return redact(String(at.details));
    if (at.cause === undefined || at.cause === null) break;
  }
  return redact(text(shape(error).message) ?? '');
}

function grpcCode(error: unknown): number | null {
  for (let at = shape(error), depth = 0; depth < 5; at = shape(at.cause), depth += 1) {
    if (typeof at.code === 'number') return at.code;
    if (at.cause === undefined || at.cause === null) return null;
  }
  return null;
}

export const unreachable = (address: string, detail = ''): Problem =>
  new Problem('Unreachable', `Temporal does not answer at ${address}${detail === '' ? '' : ` (${redact(detail)})`}`, {
    hint: 'is it running? `pgshift dev` starts one here; TEMPORAL_ADDRESS names another',
  });

/** null: not something that Temporal threw. */
export function problemOfTemporal(error: unknown, address = 'its address'): Problem | null {
  const failure = applicationFailure(error);
  if (failure !== null) return problemOfFailure(failure);
  const { name } = shape(error);
  const said = detailsOf(error);
  if (name === 'WorkflowExecutionAlreadyStartedError')
    return new Problem('NameInUse', 'a run of this id is open', { hint: 'look at it: pgshift status' });
  if (isNotFound(error)) return new Problem('NoSuchRun', 'no such run');
  const code = grpcCode(error);
  if (code === GRPC.unavailable || code === GRPC.deadline) return unreachable(address);
  if (code === GRPC.denied || code === GRPC.unauthenticated)
    return new Problem('LoginFailed', `Temporal refuses the login at ${address}`, {
      hint: 'check TEMPORAL_API_KEY, TEMPORAL_NAMESPACE and the TLS files',
    });
  if (/TLS|certificate|SSL/i.test(said) && code !== null)
    return new Problem('TlsFailed', `TLS with Temporal failed at ${address}`);
  if (name === 'TransportError' || /failed to connect before the deadline/i.test(said)) return unreachable(address);
  if (code !== null)
    return new Problem('InvalidUsage', `Temporal refuses: ${said}`, { hint: 'see the sentence above' });
  return null;
}
