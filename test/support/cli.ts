/** The built CLI as people call it: a process of its own, with its exit code, its stdout and its stderr. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

/** `npm test` builds first; PGSHIFT_TEST_DIST names another build. */
const bin = join(process.env.PGSHIFT_TEST_DIST ?? join(root, 'dist'), 'client', 'bin.js');

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as one JSON value. */
  json<T>(): T;
  /** stdout as JSON lines. */
  lines<T>(): T[];
  /** stderr as `{"error": {...}}`. */
  error(): { readonly code: string; readonly message: string; readonly hint: string; readonly where: unknown };
}

export interface CliOptions {
  /** Over a clean environment: nothing of the caller's TEMPORAL_* and PGSHIFT_* but what is given. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: string;
  /** Sends SIGINT when stdout or stderr holds this text. */
  readonly interruptAt?: RegExp;
  readonly timeoutMs?: number;
}

const KEPT = ['PATH', 'HOME', 'TMPDIR', 'PGSHIFT_CACHE', 'PGSHIFT_TEMPORAL_CLI', 'PGSHIFT_POSTGRES_BIN'];

export function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const kept = Object.fromEntries(KEPT.map((name) => [name, process.env[name]]).filter(([, value]) => value));
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: options.cwd ?? root,
    env: { ...kept, ...options.env } as NodeJS.ProcessEnv,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.end(options.input ?? '');
  let stdout = '';
  let stderr = '';
  let interrupted = false;
  const look = () => {
    if (interrupted || !options.interruptAt?.test(stdout + stderr)) return;
    interrupted = true;
    child.kill('SIGINT');
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => ((stdout += text), look()));
  child.stderr.setEncoding('utf8').on('data', (text: string) => ((stderr += text), look()));
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 60_000);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({
        code,
        stdout,
        stderr,
        json: <T>() => JSON.parse(stdout) as T,
        lines: <T>() =>
          stdout
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line) as T),
        error: () => (JSON.parse(stderr) as { error: ReturnType<CliResult['error']> }).error,
      });
    });
  });
}
