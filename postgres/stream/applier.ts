/**
 * The target's side of a stream: one session, one transaction after the other. Keeps true: each transaction begins with the fence and ends with the
 * position, and holds whole transactions of the source; a large one comes in pieces inside one of ours. Triggers and foreign keys do not fire: what
 * they did on the source comes as changes of its own.
 */
import { Problem, isProblem } from '../../plan/model/errors';
import { openCopySession } from '../copy/context';
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import type { Session } from '../session';
import { rollBack } from '../session';
import type { Culprit } from './apply';
import { ROW_LOCK_MS, Unapplied, applyChanges } from './apply';
import type { WireRelation } from './decode';
import { isNewSince } from './from';
import type { Batch } from './intake';
import { lsnOf, lsnText } from './lsn';
import type { TablePlan } from './plan';
import { planTable } from './plan';
import type { StreamRow } from './state';
import { advanceStream, fenceStream, followedTables, tableKey, takeStream } from './state';
import type { Change, StreamJob } from './types';

const SETTINGS = [
  // The role that applies is not one of the application's: PrivilegeMissing names the GRANT.
  `session_replication_role = replica`,
  `synchronous_commit = on`,
  `lock_timeout = ${ROW_LOCK_MS}`,
  `jit = off`,
];

/** The session that changes are applied in. Throws PrivilegeMissing. */
export async function openApplySession(job: Pick<StreamJob, 'target' | 'migration'>): Promise<Session> {
  const session = await openCopySession(job, job.target, 'stream');
  try {
    for (const setting of SETTINGS) await session.run(`SET ${setting}`);
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

export class Applier {
  private readonly plans = new Map<WireRelation, TablePlan | null>();
  private open = false;
  private counted = 0;
  private left = 0;
  position: bigint;
  /** Of captured changes: everything that this snapshot sees is here. */
  xids: string;
  transactions: number;
  changes: number;
  skipped: number;

  private constructor(
    private readonly job: StreamJob,
    private readonly attempt: Attempt,
    private readonly session: Session,
    private readonly source: Session,
    readonly row: StreamRow,
    private readonly followed: ReadonlyMap<string, string>,
  ) {
    this.position = lsnOf(row.position);
    this.xids = row.xids ?? '';
    this.transactions = row.transactions;
    this.changes = row.changes;
    this.skipped = row.skipped;
  }

  static async start(job: StreamJob, attempt: Attempt, session: Session, source: Session): Promise<Applier> {
    const row = await takeStream(session, attempt);
    return new Applier(job, attempt, session, source, row, await followedTables(session, job.migration));
  }

  /** Throws Unapplied, FenceBroken, AbortError, what concerns the server; nothing of the transaction stays then. */
  async apply(batch: Batch): Promise<void> {
    try {
      await this.applyIn(batch);
    } catch (error) {
      this.open = false;
      await rollBack(this.session);
      throw error;
    }
  }

  private async applyIn(batch: Batch): Promise<void> {
    const { job, session, attempt } = this;
    if (!this.open) {
      await job.admit();
      this.counted = 0;
      this.left = 0;
      await session.run('BEGIN');
      this.open = true;
      await fenceStream(session, attempt);
      await session.run('SET CONSTRAINTS ALL DEFERRED');
    }
    await this.describe(batch.changes);
    // Where the plan's own expressions are looked up; Postgres' names win.
    if ([...this.plans.values()].some((plan) => plan?.computed))
      await session.run('SET LOCAL search_path = pg_catalog, public');
    await applyChanges(
      {
        session,
        signal: job.signal,
        planOf: (relation) => this.plans.get(relation) ?? null,
        onCulprit: (culprit) => this.onCulprit(culprit),
      },
      batch.changes,
    );
    this.counted += batch.changes.length;
    if (batch.upTo === null) return crashPoint('stream.piece');
    await advanceStream(session, attempt, {
      position: lsnText(batch.upTo),
      transactions: batch.transactions,
      changes: this.counted,
      skipped: this.left,
      sourceTime: batch.at,
      xids: batch.xids ?? null,
    });
    crashPoint('stream.before-commit');
    await session.run('COMMIT');
    this.open = false;
    crashPoint('stream.after-commit');
    this.position = batch.upTo;
    this.xids = batch.xids ?? this.xids;
    this.transactions += batch.transactions;
    this.changes += this.counted;
    this.skipped += this.left;
  }

  /** Nothing came, and nothing will come before `walEnd`. */
  async advance(walEnd: bigint, xids: string | null = null): Promise<void> {
    if (this.open || walEnd <= this.position) return;
    const nothing = { transactions: 0, changes: 0, skipped: 0, sourceTime: null, xids };
    await advanceStream(this.session, this.attempt, { position: lsnText(walEnd), ...nothing });
    this.position = walEnd;
    this.xids = xids ?? this.xids;
  }

  isOpen = (): boolean => this.open;

  /** The tables' plans, each read once for each description. */
  private async describe(changes: readonly Change[]): Promise<void> {
    for (const change of changes) {
      const { message } = change;
      for (const relation of message.kind === 'truncate' ? message.relations : [message.relation]) {
        if (this.plans.has(relation)) continue;
        this.plans.set(relation, await this.plan(relation, change));
      }
    }
  }

  private async plan(relation: WireRelation, change: Change): Promise<TablePlan | null> {
    const from = this.followed.get(tableKey(relation));
    if (from === undefined) return null;
    const sessions = { source: this.source, target: this.session };
    // Types are written with their schemas.
    await this.session.run('SET LOCAL search_path = pg_catalog');
    const mapping = await this.job.mappingOf(relation, sessions);
    return planTable(relation, mapping, isNewSince(from), sessions).catch((error: unknown) => {
      if (!isProblem(error) || error.code !== 'Drift') throw error;
      const table = `${relation.schema}.${relation.name}`;
      throw new Unapplied({ change, table, key: {}, column: null, code: 'Drift', message: error.message });
    });
  }

  private async onCulprit(culprit: Culprit): Promise<void> {
    const { skipUntil } = this.row;
    const told = skipUntil !== null && culprit.change.tx.commitLsn <= lsnOf(skipUntil);
    if (this.job.onError !== 'skip' && !told) throw new Unapplied(culprit);
    await this.quarantine(culprit);
    this.left += 1;
  }

  /** Writes down what could not be applied, once. Inside the transaction that goes on without it, or alone. */
  async quarantine({ change, table, key, column, code, message }: Culprit): Promise<void> {
    const reason = `${code}: ${message} (${change.message.kind} at ${lsnText(change.tx.commitLsn)})`;
    await this.session.run(
      `INSERT INTO pgshift.quarantine (migration_name, table_name, key, column_name, rule, reason)
       SELECT $1, $2, $3::jsonb, $4, 'stream', $5 WHERE NOT EXISTS (
         SELECT 1 FROM pgshift.quarantine AS q WHERE q.migration_name = $1 AND q.table_name = $2 AND q.key = $3::jsonb
            AND q.rule = 'stream' AND q.reason = $5)`,
      [this.job.migration, table, JSON.stringify(key), column, reason],
    );
  }
}

export const problemOf = ({ table, code, message }: Culprit): Problem =>
  new Problem(code, `${table}: a change could not be applied: ${message}`, {
    hint: 'its key lies in pgshift.quarantine of the target; streaming.onError says what happens to such changes',
    details: { table },
  });
