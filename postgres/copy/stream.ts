/**
 * COPY out of one session into another. Keeps true: bytes pass through as they come (back-pressure of the slower side holds the faster one, so
 * memory does not grow), an error says which side it came from, and a stream that broke takes both connections with it: nobody can know in
 * which state they are.
 */
import { pipeline } from 'node:stream/promises';
import { from, to } from 'pg-copy-streams';
import type { Session } from '../session';
import { toProblem } from '../toProblem';
import { abortError } from '../work';

export interface Piped {
  readonly rows: number;
  readonly bytes: number;
}

/** `out` and `into` are whole COPY statements. Throws Problems of the side that failed, AbortError when `signal` comes. */
export async function pipeCopy(
  source: Session,
  target: Session,
  sql: { readonly out: string; readonly into: string },
  signal: AbortSignal,
): Promise<Piped> {
  const out = source.submit(to(sql.out));
  const into = target.submit(from(sql.into));
  let failed: Session | null = null;
  let bytes = 0;
  out.once('error', () => (failed ??= source));
  into.once('error', () => (failed ??= target));
  out.on('data', (chunk: Buffer) => (bytes += chunk.length));
  try {
    await pipeline(out, into, { signal });
    return { rows: into.rowCount, bytes };
  } catch (error) {
    await Promise.all([source.close(), target.close()]);
    if (signal.aborted) throw abortError();
    throw toProblem(error, failed ?? target);
  }
}
