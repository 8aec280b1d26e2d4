/**
 * Whatever was thrown becomes a Problem and an exit code, here and nowhere else. What is not one of ours and not a known failure of a server is a bug:
 * exit 70, with the stack in a file of mode 0600 (a stack may name things that a log should not).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommanderError } from 'commander';
import { ERRORS, Problem, isProblem } from '../plan/model/errors';
import { problemJson, renderProblem } from './render/error';
import { redact } from './redact';
import { problemOfTemporal } from './temporalFailure';
import type { Terminal } from './terminal';

/** Carries an exit code out of a command that has already said everything. */
export class Exit extends Error {
  constructor(readonly code: number) {
    super(`exit ${code}`);
  }
}

/** Shells call an end by SIGINT 130. */
export const INTERRUPTED = 130;

function bugReport(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? `${error.name}: ${error.message}`) : String(error);
  const content = redact(
    [
      `time      ${new Date().toISOString()}`,
      `node      ${process.version} ${process.platform} ${process.arch}`,
      `command   ${process.argv[2] ?? ''}`,
      '',
      text,
      '',
    ].join('\n'),
  );
  const name = `bug-${Date.now()}-${process.pid}.txt`;
  for (const folder of [process.env['PGSHIFT_HOME'] ?? '.pgshift', tmpdir()]) {
    try {
      mkdirSync(folder, { recursive: true });
      const path = join(folder, name);
      writeFileSync(path, content, { mode: 0o600 });
      return path;
    } catch {
      continue; // a home that cannot be written is no reason to lose the report
    }
  }
  return 'nowhere: neither PGSHIFT_HOME nor the temporary folder can be written';
}

function bug(error: unknown): Problem {
  const first = error instanceof Error ? (error.message.split('\n')[0] ?? error.name) : String(error);
  return new Problem('Bug', redact(first) || 'unknown', {
    hint: `a bug in pgshift: please report it; the details lie in ${bugReport(error)}`,
  });
}

/** Commander's sentences begin with "error: "; the second line is its guess at what was meant. */
function usage(error: CommanderError): Problem {
  const [first = '', second] = error.message.replace(/^error: /, '').split('\n');
  const guess = /Did you mean (.+)\?/.exec(second ?? '')?.[1];
  return new Problem('InvalidUsage', redact(first), {
    hint: guess === undefined ? ERRORS.InvalidUsage.hint : `did you mean ${guess}?`,
  });
}

export function toProblem(error: unknown): Problem {
  if (isProblem(error)) return error;
  if (error instanceof CommanderError) return usage(error);
  return problemOfTemporal(error) ?? bug(error);
}

/** Prints what went wrong and answers the exit code. */
export function report(error: unknown, terminal: Terminal): number {
  if (error instanceof Exit) return error.code;
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const problem = toProblem(error);
  if (terminal.json) terminal.fail(JSON.stringify(problemJson(problem)));
  else terminal.fail(renderProblem(problem, terminal.errorColors));
  return ERRORS[problem.code].exit;
}
