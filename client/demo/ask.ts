/** The demo asks before it starts servers on a person's machine. */
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
