/** For tests of streams: a copied pair whose changes are followed in the background, and a look at what is left on both sides. */
import type { DataMigrationInput } from '../../plan/model/dataMigration';
import { closeSnapshot } from '../../postgres/copy/run';
import type { CopyContext } from '../../postgres/copy/context';
import type { Followed, StreamLook } from '../../postgres/stream/follow';
import { drainCopy, endCopyStream, followCopy } from '../../postgres/stream/run';
import type { CopyPair } from './copy';
import { contents, copyAll, copyPair } from './copy';
import type { FreshDatabase, ServerVersion } from './database';

export interface Following {
  readonly looks: StreamLook[];
  /** What it ended with; an abort answers null. */
  readonly ended: Promise<Followed | null>;
  stop(): Promise<Followed | null>;
}

export interface StreamPair extends CopyPair {
  /** In the background, until stopped. */
  follow(): Following;
  /** Everything is there that the source has now. */
  drain(): Promise<Followed>;
  /** Drains, takes slot and publication away, and compares every row. */
  expectEqual(): Promise<void>;
}

export async function streamPair(
  setup: string,
  plan: Partial<DataMigrationInput> = {},
  versions: readonly [ServerVersion, ServerVersion] = [18, 18],
): Promise<StreamPair> {
  const pair = await copyPair(
    setup,
    { transfer: 'streaming', ...plan, streaming: { flush: '50ms', ...plan.streaming } },
    versions,
  );
  const pairOf: StreamPair = {
    ...pair,
    follow: () => followIn(pair.context),
    drain: () => drainCopy(pair.context, () => 'go on'),
    async expectEqual() {
      await pairOf.drain();
      await endCopyStream(pair.context);
      expect((await contents(pair.target)).rows).toEqual((await contents(pair.source)).rows);
      expect(await leftOn(pair.source)).toEqual([]);
    },
    async drop() {
      await forgetSlots(pair.source);
      await pair.drop();
    },
  };
  return pairOf;
}

/** Copied and built; the snapshot is let go. */
export async function copied(
  setup: string,
  plan: Partial<DataMigrationInput> = {},
  versions: readonly [ServerVersion, ServerVersion] = [18, 18],
): Promise<StreamPair> {
  const pair = await streamPair(setup, plan, versions);
  await copyAll(pair.context);
  await closeSnapshot(pair.context, 'copied');
  return pair;
}

export function followIn(context: CopyContext): Following {
  const abort = new AbortController();
  const looks: StreamLook[] = [];
  const own = { ...context, signal: abort.signal };
  const ended = followCopy(own, (look) => {
    looks.push(look);
    return 'go on';
  }).catch((error: unknown) => {
    if (error instanceof Error && error.name === 'AbortError') return null;
    throw error;
  });
  ended.catch(() => undefined);
  return {
    looks,
    ended,
    stop: () => {
      abort.abort();
      return ended;
    },
  };
}

/** Slots, publications, triggers and schema of ours. */
export const leftOn = (database: FreshDatabase): Promise<Record<string, unknown>[]> =>
  database.query(
    `SELECT slot_name::text AS name FROM pg_replication_slots WHERE database = current_database()
     UNION ALL SELECT pubname::text FROM pg_publication WHERE pubname LIKE 'pgshift%'
     UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '%pgshift%'
     UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgshift'`,
  );

/** A database with slots cannot be dropped. */
export async function forgetSlots(database: FreshDatabase): Promise<void> {
  for (let tried = 0; tried < 100; tried += 1) {
    await database.query(
      `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL`,
    );
    const gone = await database
      .query(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
      .catch(() => null);
    if (gone !== null) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
