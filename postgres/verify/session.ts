/**
 * Sessions that compare: read only, with every setting pinned that could make the same value look different on two servers. Keeps true: a
 * role that row security would show fewer rows is refused, never believed; nothing runs in parallel workers behind our own parallelism.
 */
import type { Session } from '../session';
import { openSession } from '../session';
import type { Target } from '../types';

const PINNED = `SET TimeZone = 'UTC'; SET lc_monetary = 'C'; SET xmlbinary = 'base64'; SET row_security = off; SET jit = off;
  SET quote_all_identifiers = off; SET array_nulls = on; SET max_parallel_workers_per_gather = 0`;

/** Where the expressions of a plan's `map` are looked up; Postgres' own names win. */
const SEARCH_PATH = ['pg_catalog', 'public'];

export interface SessionPair {
  readonly source: Session;
  readonly target: Session;
}

/** @throws Problem Unreachable, LoginFailed, TlsFailed. */
export async function openReader(target: Target, migration: string, purpose: string): Promise<Session> {
  const session = await openSession(target, { purpose, migration, searchPath: SEARCH_PATH });
  try {
    await session.run(`${PINNED}; SET default_transaction_read_only = on`);
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** As a reader, but it may write: repair. */
export async function openWriter(target: Target, migration: string): Promise<Session> {
  const session = await openSession(target, { purpose: 'repair', migration, searchPath: SEARCH_PATH });
  await session.run(PINNED);
  return session;
}

export async function openPair(
  source: Target,
  target: Target,
  migration: string,
  purpose: string,
): Promise<SessionPair> {
  const opened = await openReader(source, migration, purpose);
  try {
    return { source: opened, target: await openReader(target, migration, purpose) };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

export const closePair = async ({ source, target }: SessionPair): Promise<void> => {
  await Promise.all([source.close(), target.close()]);
};
