/**
 * The death in the middle: waits until a good part of a backfill is committed, kills the worker with -9, and looks afterwards at what
 * was done twice. It looks at the checkpoints in the database, not at what the worker says of itself.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { DevStack } from '../../worker/dev';

export interface Death {
  readonly step: string;
  /** Rows whose batches were committed when the worker died, of the rows of the table. */
  readonly rowsBefore: number;
  readonly oldPid: number;
  readonly at: number;
}

export interface Resumed extends Death {
  readonly newPid: number | null;
  /** From the kill to the first batch of the next worker; null = it was not seen. */
  readonly seconds: number | null;
  /** Rows committed twice, and the largest batch: at most one batch may be done again. */
  readonly redone: number;
  readonly largestBatch: number;
}

const CHUNKS = `
SELECT step_id AS step, coalesce(sum(rows), 0)::float8 AS rows, max(rows)::float8 AS largest
FROM pgshift.chunks WHERE migration_name = $1 GROUP BY step_id ORDER BY max(chunk_no) DESC LIMIT 1`;

interface ChunkRow {
  readonly step: string;
  readonly rows: number;
  readonly largest: number;
}

/** Kills the worker once a fifth of the table's rows are committed; null when the run went by before that. */
export async function killInBackfill(
  client: Client,
  stack: DevStack,
  asked: { readonly migration: string; readonly rows: number; readonly signal: AbortSignal },
): Promise<Death | null> {
  while (!asked.signal.aborted) {
    const found = await client.query<ChunkRow>(CHUNKS, [asked.migration]).catch(() => null);
    const chunk = found?.rows[0];
    const pid = stack.pid('worker');
    if (chunk && pid !== null && chunk.rows >= asked.rows * 0.2 && chunk.rows < asked.rows * 0.95) {
      process.kill(pid, 'SIGKILL');
      return { step: chunk.step, rowsBefore: chunk.rows, oldPid: pid, at: Date.now() };
    }
    await sleep(20);
  }
  return null;
}

const AFTER = `
SELECT min(committed_at) FILTER (WHERE epoch > (SELECT min(epoch) FROM pgshift.chunks WHERE migration_name = $1 AND step_id = $2)) AS next,
  sum(rows)::float8 AS rows, max(rows)::float8 AS largest
FROM pgshift.chunks WHERE migration_name = $1 AND step_id = $2`;

/** Looked at once the step is over. `total` = rows of the table now. */
export async function resumed(
  client: Client,
  stack: DevStack,
  death: Death,
  run: { readonly migration: string; readonly total: number },
): Promise<Resumed> {
  const found = await client.query<{ next: Date | null; rows: number; largest: number }>(AFTER, [
    run.migration,
    death.step,
  ]);
  const row = found.rows[0];
  return {
    ...death,
    newPid: stack.pid('worker'),
    seconds: row?.next ? Math.round((row.next.getTime() - death.at) / 100) / 10 : null,
    redone: Math.max(0, (row?.rows ?? 0) - run.total),
    largestBatch: row?.largest ?? 0,
  };
}
