/** The locks of batch work: the same few in every batch, so they are read from pg_locks in the first batch and in each longest one so far. */
import type { LockHeld } from '../plan/model/status';
import { lockMode } from './blockers';
import { writeLocks } from './locks';
import type { Session } from './session';
import type { Work } from './work';

const LONGER = 1.25;

export class BatchLocks {
  readonly #held = new Map<string, LockHeld>();
  #longestMs = 0;

  constructor(private readonly work: Work) {}

  /** Just before a batch commits; `ms` = how long it has held what it holds. */
  async look(session: Session, ms: number): Promise<void> {
    if (ms < this.#longestMs * LONGER && this.#held.size > 0) return;
    this.#longestMs = Math.max(ms, this.#longestMs);
    const rows = await session.rows<{ name: string; mode: string }>(
      `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, l.mode
         FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted AND c.relkind NOT IN ('i', 'I')
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgshift')`,
    );
    for (const { name, mode: text } of rows) {
      const mode = lockMode(text);
      if (mode === undefined) continue;
      const before = this.#held.get(`${name} ${mode}`)?.heldMs ?? 0;
      this.#held.set(`${name} ${mode}`, { relation: name, mode, waitedMs: 0, heldMs: Math.max(before, ms) });
    }
  }

  /** Writes the longest of each. */
  async write(): Promise<readonly LockHeld[]> {
    const locks = [...this.#held.values()];
    await writeLocks(this.work.session, this.work, locks);
    return locks;
  }
}
