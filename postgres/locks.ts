/**
 * The locks that a transaction really took: read from pg_locks of its own backend just before COMMIT, with times taken around each
 * statement. Nothing here comes from the plan. Relations that the transaction itself made are left out: nobody else can see them.
 */
import type { LockHeld } from '../plan/model/status';
import type { LockMode } from '../plan/model/steps';
import { lockMode } from './blockers';
import type { Session } from './session';
import type { Work } from './work';

interface Row extends Record<string, unknown> {
  readonly oid: string;
  readonly mode: string;
}

interface Taken {
  readonly oid: string;
  readonly mode: LockMode;
  readonly at: number;
  readonly waitedMs: number;
}

const SAMPLE_MS = 15;

/** Follows one transaction. Times are of performance.now(). */
export class LockWatch {
  readonly #taken = new Map<string, Taken>();
  readonly #names = new Map<string, string>();

  constructor(
    private readonly session: Session,
    private readonly observer: Session,
  ) {}

  /** Runs one statement of the transaction; `isLock` = it does nothing but take locks, so all its time was waiting. */
  async around<T>(isLock: boolean, statement: () => Promise<T>): Promise<T> {
    const before = performance.now();
    const sampler = isLock ? null : this.#sampleWaits();
    let result: T;
    try {
      result = await statement();
    } finally {
      await sampler?.stop();
    }
    const elapsed = performance.now() - before;
    for (const { oid, mode: name } of await this.#own()) {
      const mode = lockMode(name);
      if (mode === undefined || this.#taken.has(`${oid} ${name}`)) continue;
      const waitedMs = isLock ? elapsed : Math.min(elapsed, sampler?.waited.get(oid) ?? 0);
      this.#taken.set(`${oid} ${name}`, { oid, mode, at: before + waitedMs, waitedMs });
    }
    return result;
  }

  /** Locks on relations of the user's, by name, with the time held until now. Names are as others see them: before our changes. */
  async held(): Promise<LockHeld[]> {
    const now = performance.now();
    const oids = [...new Set([...this.#taken.values()].map(({ oid }) => oid))];
    const rows = await this.observer.rows<{ oid: string; name: string }>(
      `SELECT c.oid::text AS oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = ANY ($1::oid[]) AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgshift')
          AND n.nspname NOT LIKE 'pg\\_temp%'`,
      [oids],
    );
    for (const { oid, name } of rows) this.#names.set(oid, name);
    return [...this.#taken.values()].flatMap(({ oid, mode, at, waitedMs }) => {
      const name = this.#names.get(oid);
      return name === undefined ? [] : [{ relation: name, mode, waitedMs, heldMs: Math.max(0, now - at) }];
    });
  }

  #own(): Promise<Row[]> {
    return this.session.rows<Row>(
      `SELECT l.relation::text AS oid, l.mode FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
          AND l.relation >= 16384`,
    );
  }

  /** A statement takes its locks inside: how long it waited for each is seen from outside, to within 15 ms. */
  #sampleWaits(): { waited: Map<string, number>; stop: () => Promise<void> } {
    const waited = new Map<string, number>();
    let timer: NodeJS.Timeout | undefined;
    let running: Promise<void> = Promise.resolve();
    let stopped = false;
    const look = async (): Promise<void> => {
      const rows = await this.observer
        .rows<{ oid: string; ms: number }>(
          `SELECT l.relation::text AS oid, (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::float8 AS ms
             FROM pg_catalog.pg_locks AS l WHERE l.pid = $1 AND NOT l.granted AND l.relation IS NOT NULL AND l.waitstart IS NOT NULL`,
          [this.session.pid],
        )
        .catch(() => []);
      for (const { oid, ms } of rows) waited.set(oid, Math.max(waited.get(oid) ?? 0, ms));
      if (!stopped) next();
    };
    const next = (): void => {
      timer = setTimeout(() => (running = look()), SAMPLE_MS);
    };
    next();
    return {
      waited,
      stop: async () => {
        stopped = true;
        clearTimeout(timer);
        await running;
      },
    };
  }
}

/** Writes the locks of a step. In the transaction itself: `held` so far, the commit not counted. Returns the rows' ids. */
export async function writeLocks(session: Session, work: Work, locks: readonly LockHeld[]): Promise<readonly string[]> {
  if (locks.length === 0) return [];
  const rows = await session.rows<{ id: string }>(
    `INSERT INTO pgshift.locks_held (migration_name, step_id, relation, mode, waited_ms, held_ms)
     SELECT $1, $2, l.relation, l.mode, l."waitedMs", l."heldMs"
       FROM jsonb_to_recordset($3::jsonb) AS l(relation text, mode text, "waitedMs" numeric, "heldMs" numeric)
     RETURNING id`,
    [work.attempt.migration, work.attempt.stepId, JSON.stringify(locks)],
  );
  return rows.map((row) => row.id);
}

/** After COMMIT: the same rows with the commit counted. A crash in between leaves the times without it. */
export async function addHeldMs(session: Session, ids: readonly string[], ms: number): Promise<void> {
  if (ids.length === 0) return;
  await session.run(`UPDATE pgshift.locks_held SET held_ms = held_ms + $2 WHERE id = ANY ($1::bigint[])`, [ids, ms]);
}
