/**
 * One call of somebody's own executable or HTTP hook: words, never a shell; a deadline; none of the worker's secrets in its environment.
 * What it answers is believed only where it has the shape that the contract fixes; anything else it prints is not kept.
 */
import { spawn } from 'node:child_process';
import type { CommandAdapterPlan, Side } from '../../plan/model/traffic';
import type { Deadline } from '../deadline';
import { failed } from '../deadline';
import type { TrafficDeps } from '../types';

export type Action = 'pause' | 'point' | 'resume' | 'status' | 'undo';

export interface Asked {
  readonly action: Action;
  /** null = the action is about no side. */
  readonly side: Side | null;
  readonly deadlineMs: number;
  readonly idempotencyKey: string;
}

export interface Answer {
  readonly target: Side | null;
  readonly paused: boolean;
  readonly drained: boolean;
}

const MAX_ANSWER = 64 * 1024;
const KILL_AFTER_MS = 1_000;
/** What was printed last is read within this after the end. */
const PIPE_MS = 250;

/** Exactly what the contract says, at the end of what was printed. @throws Problem TrafficFailed. */
export function parseAnswer(text: string, name: string): Answer {
  const last = text.trim().split('\n').at(-1) ?? '';
  for (const candidate of [text, last]) {
    try {
      const { target, paused, drained } = JSON.parse(candidate) as Partial<Record<keyof Answer, unknown>>;
      if (typeof paused !== 'boolean' || typeof drained !== 'boolean') continue;
      if (target !== 'blue' && target !== 'green' && target !== null) continue;
      return { target, paused, drained };
    } catch {
      // not this one
    }
  }
  throw failed(name, 'did not answer {"target": "blue" or "green", "paused": true or false, "drained": true or false}');
}

/** The worker's own secrets are not a command's business. */
const inherited = (env: TrafficDeps['env']): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(env).filter(([name]) => !/^(PGSHIFT_|TEMPORAL_|PG(PASSWORD|PASSFILE|SERVICEFILE)$)/.test(name)),
  );

export async function runCommand(
  argv: readonly string[],
  asked: Asked,
  env: TrafficDeps['env'],
  deadline: Deadline,
  name: string,
): Promise<string> {
  deadline.signal.throwIfAborted();
  const [program = '', ...rest] = argv;
  const child = spawn(program, rest, {
    env: {
      ...inherited(env),
      PGSHIFT_ACTION: asked.action,
      PGSHIFT_SIDE: asked.side ?? '',
      PGSHIFT_DEADLINE_MS: String(Math.round(asked.deadlineMs)),
      PGSHIFT_IDEMPOTENCY_KEY: asked.idempotencyKey,
    },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  let text = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (piece: string) => {
    if (text.length <= MAX_ANSWER) text += piece;
  });
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 1));
    // A grandchild that keeps the pipe open must not keep us.
    child.once('exit', (code, signal) => setTimeout(() => resolve(code ?? signal ?? 1), PIPE_MS).unref());
  });
  const stop = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal); // with its children
    } catch {
      // gone
    }
  };
  try {
    const code = await deadline.race(ended, () => {
      throw failed(name, `${asked.action} did not end in time`);
    });
    if (code !== 0) throw failed(name, `${asked.action} ended with ${code}`);
    if (text.length > MAX_ANSWER) throw failed(name, `${asked.action} printed more than 64 kB`);
    return text;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw failed(name, 'its program does not exist on the worker');
    if (code === 'EACCES') throw failed(name, 'its program may not be run');
    throw error;
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      stop('SIGTERM');
      setTimeout(() => stop('SIGKILL'), KILL_AFTER_MS).unref();
    }
    child.stdout.destroy();
  }
}

export async function callUrl(
  plan: CommandAdapterPlan,
  asked: Asked,
  env: TrafficDeps['env'],
  deadline: Deadline,
  name: string,
): Promise<string> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    'idempotency-key': asked.idempotencyKey,
  };
  for (const [header, from] of Object.entries(plan.headers)) {
    const value = env[from.slice('env:'.length)];
    if (!value) throw failed(name, `header ${header}: variable ${from.slice('env:'.length)} is not set on the worker`);
    headers[header] = value;
  }
  const signal = AbortSignal.any([deadline.signal, AbortSignal.timeout(Math.max(1, Math.ceil(deadline.leftMs)))]);
  let status: number;
  let text: string;
  try {
    // A redirect would take the headers, which are secrets, to somebody else.
    const response = await fetch(plan.url ?? '', {
      method: 'POST',
      headers,
      body: JSON.stringify({ ...asked, deadlineMs: Math.round(asked.deadlineMs) }),
      redirect: 'error',
      signal,
    });
    status = response.status;
    text = await firstOf(response);
  } catch {
    deadline.signal.throwIfAborted();
    throw failed(
      name,
      deadline.isOver ? `${asked.action} was not answered in time` : `${asked.action} was not answered`,
    );
  }
  if (status < 200 || status > 299) throw failed(name, `${asked.action} was answered with HTTP ${status}`);
  if (text.length > MAX_ANSWER) throw failed(name, `${asked.action} was answered with more than 64 kB`);
  return text;
}

/** Of an answer that never ends no more than it takes to refuse it. */
async function firstOf(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const piece of response.body ?? []) {
    text += decoder.decode(piece as Uint8Array, { stream: true });
    if (text.length > MAX_ANSWER) break;
  }
  return text;
}
