/**
 * Hooks: a command or an HTTP call before or after a phase, with a deadline and an idempotency key that stays the same over retries. A command gets
 * words, never a shell; what it prints is not kept: it may be anything.
 */
import { spawn } from 'node:child_process';
import { Problem } from '../plan/model/errors';
import { parseDuration } from '../plan/model/values';
import type { Tools } from './context';
import type { HookArgs } from './types';

const KILL_AFTER_MS = 2_000;

function environment(args: HookArgs): Record<string, string> {
  return {
    PGSHIFT_HOOK: args.at,
    PGSHIFT_MIGRATION: args.migration,
    PGSHIFT_PHASE: args.phase,
    PGSHIFT_IDEMPOTENCY_KEY: args.idempotencyKey,
  };
}

/** The worker's own secrets are not a hook's business. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(PGSHIFT_DATABASE_|TEMPORAL_|PG(PASSWORD|PASSFILE)$)/.test(name)),
  );
}

async function command(args: HookArgs, argv: readonly string[], timeoutMs: number, signal: AbortSignal): Promise<void> {
  const [program = '', ...rest] = argv;
  const child = spawn(program, rest, {
    env: { ...inherited(), ...environment(args) },
    stdio: 'ignore',
    detached: true,
  });
  const kill = (name: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name); // with its children
    } catch {
      // it is gone already
    }
  };
  let late = false;
  const stop = (): void => {
    kill('SIGTERM');
    setTimeout(() => kill('SIGKILL'), KILL_AFTER_MS).unref();
  };
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, timeoutMs);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', resolve);
    });
    signal.throwIfAborted();
    if (late) throw hookFailed(args, `did not end within ${args.hook.timeout}`);
    if (code !== 0) throw hookFailed(args, code === null ? 'was ended by a signal' : `exited with ${code}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw hookFailed(args, 'its program does not exist on the worker');
    if ((error as NodeJS.ErrnoException).code === 'EACCES') throw hookFailed(args, 'its program may not be run');
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

async function http(args: HookArgs, url: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
  let status: number;
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': args.idempotencyKey },
      body: JSON.stringify({
        hook: args.at,
        migration: args.migration,
        phase: args.phase,
        idempotencyKey: args.idempotencyKey,
      }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    status = response.status;
    await response.body?.cancel();
  } catch {
    signal.throwIfAborted();
    throw hookFailed(args, `was not answered within ${args.hook.timeout}`);
  }
  if (status < 200 || status > 299) throw hookFailed(args, `was answered with HTTP ${status}`);
}

const hookFailed = (args: HookArgs, what: string): Problem =>
  new Problem('HookFailed', `hook ${args.hook.name} (${args.at}) ${what}`, {
    details: { hook: args.hook.name },
  });

export async function runHook(args: HookArgs, tools: Tools): Promise<void> {
  const timeoutMs = parseDuration(args.hook.timeout) ?? 30_000;
  if (args.hook.run) await command(args, args.hook.run, timeoutMs, tools.signal);
  else await http(args, args.hook.url ?? '', timeoutMs, tools.signal);
}
