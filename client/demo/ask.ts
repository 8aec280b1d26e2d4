/** The two moments at which the demo waits for a person: before it starts, and at the end of `--keep`. */
import { createInterface } from 'node:readline/promises';
import type { Terminal } from '../terminal';

/** Only a person at a terminal is asked; a script that calls the demo means it. */
export async function askToGoOn(terminal: Terminal): Promise<boolean> {
  if (!terminal.interactive || process.stdin.isTTY !== true) return true;
  const asked = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await asked.question(
      'The demo starts a Temporal server and a Postgres of its own on this machine (fetched once, about 60 MB). Go on? [Y/n] ',
    );
    return !/^n/i.test(answer.trim());
  } finally {
    asked.close();
  }
}

export function untilStopped(): Promise<void> {
  return new Promise((resolve) => {
    // A pending promise alone keeps no process alive.
    const alive = setInterval(() => undefined, 60_000);
    const done = (): void => {
      clearInterval(alive);
      resolve();
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, done);
  });
}
