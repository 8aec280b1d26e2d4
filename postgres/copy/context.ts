/** What everything in this folder works with: two databases, one migration whose state lies in the target, and the snapshot to read from. */
import { Problem, isProblem } from '../../plan/model/errors';
import type { CopyControl } from '../../plan/model/dataMigration';
import type { Session } from '../session';
import { openSession } from '../session';
import { sqlstate } from '../toProblem';
import type { Target } from '../types';

export interface CopyContext {
  readonly source: Target;
  readonly target: Target;
  readonly migration: string;
  readonly control: CopyControl;
  readonly lockTimeoutMs: number;
  readonly lockBudgetMs: number;
  readonly signal: AbortSignal;
  /** Waits while a brake is on; called between ranges and between objects. */
  readonly admit: () => Promise<void>;
  readonly log: (level: 'info' | 'warn', message: string, fields?: Readonly<Record<string, unknown>>) => void;
}

/** What changes how values are written and read: the same on both sides, so that text means the same and fingerprints can be compared. */
const PINNED = `SET TimeZone = 'UTC'; SET lc_monetary = 'C'; SET xmloption = content; SET row_security = off`;

/** A session for long work: nothing of time may end it while it waits for the other side. */
export async function openCopySession(
  context: Pick<CopyContext, 'migration'>,
  to: Target,
  purpose: string,
): Promise<Session> {
  const session = await openSession(to, { purpose, migration: context.migration, idleInTransactionMs: 0 });
  try {
    await session.run(PINNED);
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** Says that an identifier of a snapshot means nothing to the server (any more). */
const GONE = new Set(['22023', '42704', '55000', '58P01']);

/** Begins a reading transaction that sees exactly what the holder's snapshot sees. Throws SnapshotLost. */
export async function beginAt(session: Session, snapshot: string): Promise<void> {
  await session.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    // The identifier is Postgres' own word, of hexadecimal digits and dashes; it cannot be a parameter.
    if (!/^[0-9A-Fa-f-]{1,64}$/.test(snapshot)) throw new Problem('Bug', 'not the identifier of a snapshot');
    await session.run(`SET TRANSACTION SNAPSHOT '${snapshot}'`);
  } catch (error) {
    if (isProblem(error) && GONE.has(sqlstate(error) ?? ''))
      throw new Problem('SnapshotLost', `${session.name}: the exported snapshot is gone`);
    throw error;
  }
}

/** Reads at the snapshot and ends the transaction whatever happens. */
export async function readAt<T>(session: Session, snapshot: string, work: () => Promise<T>): Promise<T> {
  await beginAt(session, snapshot);
  try {
    return await work();
  } finally {
    if (!session.lost) await session.run('ROLLBACK').catch(() => undefined);
  }
}
