/**
 * The facade of streams that belong to a copy: what activities call. Keeps true: every function opens its own connections and closes them, may be
 * killed anywhere and called again.
 */
import type { CopyContext } from '../copy/context';
import { openCopySession } from '../copy/context';
import { setSequences } from '../copy/rest';
import { chosenTables } from '../copy/tables';
import type { Session } from '../session';
import { withSession } from '../session';
import type { VerifyContext, VerifyProgress } from '../verify';
import { runPhase } from '../verify';
import { readResult } from '../verify/result';
import type { ValidationPlan, VerifyResult } from '../../plan/model/validation';
import { validateValidation } from '../../plan/model/validate';
import { shownRelation } from '../../plan/model/quote';
import { parseColumnName } from '../../plan/model/tableNames';
import { ident, literal } from '../ident';
import { dropStream, refuseUnpublished } from './begin';
import type { Followed, StreamLook } from './follow';
import { STREAM_STEP, followStream } from './follow';
import { jobOf } from './job';
import { findStream, skipUntil } from './state';

/** Follows until `onLook` says stop, or a change is held. */
export const followCopy = (context: CopyContext, onLook: (look: StreamLook) => 'go on' | 'stop'): Promise<Followed> =>
  followStream(jobOf(context), { drain: false, onLook });

/** Until the target has everything that the source had when it was called. Throws Drift when a chosen table is not followed. */
export async function drainCopy(
  context: CopyContext,
  onLook: (look: StreamLook) => 'go on' | 'stop',
): Promise<Followed> {
  const job = jobOf(context);
  await withSession(job.source, { purpose: 'drain', migration: job.migration }, async (source) => {
    const chosen = (await chosenTables(source, context.control.tables)).filter(({ kind }) => kind === 'r');
    await refuseUnpublished(source, job, chosen);
  });
  return followStream(job, { drain: true, onLook });
}

export interface StreamEnded {
  readonly position: string;
  readonly transactions: number;
  readonly changes: number;
  readonly skipped: number;
  readonly sequences: number;
}

/** Positions of sequences as they are now, then slot and publication go. Idempotent. */
export async function endCopyStream(context: CopyContext): Promise<StreamEnded> {
  const job = jobOf(context);
  const target = await openCopySession(context, context.target, 'stream-end');
  try {
    const source = await openCopySession(context, context.source, 'stream-end');
    try {
      const sequences = await setSequences(context, source, target);
      await dropStream(job, source, target);
      await target.run(
        `UPDATE pgshift.steps SET status = 'done', finished_at = clock_timestamp(), epoch = epoch + 1
          WHERE migration_name = $1 AND step_id = $2 AND status <> 'done'`,
        [context.migration, STREAM_STEP],
      );
      const row = await findStream(target, context.migration);
      return {
        position: row?.position ?? '0/0',
        transactions: row?.transactions ?? 0,
        changes: row?.changes ?? 0,
        skipped: row?.skipped ?? 0,
        sequences,
      };
    } finally {
      await source.close();
    }
  } finally {
    await target.close();
  }
}

/** A person said that what cannot be applied up to this transaction is to be left out. */
export const skipHeld = (context: CopyContext, lsn: string): Promise<number> =>
  withSession(context.target, { purpose: 'skip', migration: context.migration }, (target) =>
    skipUntil(target, context.migration, lsn),
  );

/** Its checkpoints and differences lie beside those of the copy, under a name of their own. */
export const verifyName = (migration: string): string => `${migration.slice(0, 90)}.verify`;

/** What is compared: the tables that were copied, while both sides change. */
async function planOf(context: CopyContext): Promise<ValidationPlan> {
  const tables = await withSession(context.target, { purpose: 'verify', migration: context.migration }, (target) =>
    target.rows<{ schema: string; name: string; bound: string | null }>(
      `SELECT t.schema_name AS schema, t.table_name AS name, i.bound FROM pgshift.copy_tables AS t
           LEFT JOIN pgshift.increments AS i USING (migration_name, schema_name, table_name)
          WHERE t.migration_name = $1 AND t.state = 'done' ORDER BY t.table_no`,
      [context.migration],
    ),
  );
  const column = context.control.incremental?.column;
  // Newer rows of the source are read by a later pass: they are no difference.
  const behind = tables.flatMap(({ bound, ...table }) =>
    column === undefined || bound === null
      ? []
      : [
          [
            shownRelation(table),
            { where: `${ident(parseColumnName(column) ?? column)} <= ${literal(bound)}` },
          ] as const,
        ],
  );
  return validateValidation({
    map: Object.fromEntries(behind),
    name: verifyName(context.migration),
    source: context.control.source,
    target: context.control.target,
    tables: { include: tables.map(shownRelation) },
    checks: ['rows'],
    parallel: Math.min(16, context.control.parallel.tables),
  });
}

/** Row by row, beside the stream: what differs is looked at again behind a position that the target has reached. */
export async function verifyBoth(
  context: CopyContext,
  progress: (progress: VerifyProgress) => void,
): Promise<VerifyResult> {
  const plan = await planOf(context);
  const { source, target, signal } = context;
  const verifying: VerifyContext = {
    plan,
    source,
    target,
    signal,
    progress,
    log: (level, message, fields) => {
      if (level === 'info' || level === 'warn') context.log(level, message, fields);
    },
  };
  const inTarget = { purpose: 'verify', migration: plan.name };
  await withSession(target, inTarget, (session) => forgetEnded(session, plan.name));
  for (const phase of ['compare', 'checks', 'recheck'] as const) await runPhase(phase, verifying);
  return withSession(target, inTarget, async (session) => {
    const result = await readResult(session, plan);
    await session.run(
      `UPDATE pgshift.steps SET result = result || '{"ended": true}' WHERE migration_name = $1 AND step_id = 'compare'`,
      [plan.name],
    );
    return result;
  });
}

/** A verification that came to its end is not taken up again: the next one looks anew. */
async function forgetEnded(session: Session, name: string): Promise<void> {
  const ended = await session.one(
    `SELECT 1 AS one FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = 'compare' AND s.result ? 'ended'`,
    [name],
  );
  if (!ended) return;
  for (const table of ['steps', 'lanes', 'differences'])
    await session.run(`DELETE FROM pgshift.${table} WHERE migration_name = $1`, [name]);
}
