/**
 * How much everybody else gets done: committed transactions a second in this database, while its clients are busy. A quiet hour is not a slow one:
 * unless clients are seen at work, the answer is null (not known), never a small number.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from './session';

export interface ThroughputSample {
  readonly commits: number;
  readonly atMs: number;
}

const LOOKS = 5;
const LOOK_EVERY_MS = 60;
/** Fewer than this is too few to say anything by halves. */
const MIN_PER_SECOND = 10;

/** Is at least one client at work in most looks? Our own sessions do not count. */
async function isBusy(session: Session): Promise<boolean> {
  let busy = 0;
  for (let i = 0; i < LOOKS; i += 1) {
    if (i > 0) await sleep(LOOK_EVERY_MS);
    const row = await session.one<{ active: number }>(
      `SELECT count(*)::int AS active FROM pg_catalog.pg_stat_activity
        WHERE datname = pg_catalog.current_database() AND backend_type = 'client backend'
          AND state IN ('active', 'idle in transaction') AND application_name NOT LIKE 'pgshift%'`,
    );
    if ((row?.active ?? 0) > 0) busy += 1;
  }
  return busy >= LOOKS - 1;
}

/** The rate since `before`; null = the first reading, or too little going on to say. */
export async function readThroughput(
  session: Session,
  before: ThroughputSample | undefined,
): Promise<{ sample: ThroughputSample; perSecond: number | null }> {
  const row = await session.one<{ commits: number; ms: number }>(
    `SELECT pg_catalog.pg_stat_get_db_xact_commit(oid)::float8 AS commits,
            (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms
       FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`,
  );
  const sample = { commits: row?.commits ?? 0, atMs: row?.ms ?? 0 };
  if (!before || sample.atMs <= before.atMs || sample.commits < before.commits) return { sample, perSecond: null };
  const perSecond = ((sample.commits - before.commits) * 1_000) / (sample.atMs - before.atMs);
  return { sample, perSecond: (await isBusy(session)) ? perSecond : null };
}

/** For baselines: a rate that is too small says nothing. */
export const meaningful = (perSecond: number | null): number | null =>
  perSecond !== null && perSecond >= MIN_PER_SECOND ? perSecond : null;
