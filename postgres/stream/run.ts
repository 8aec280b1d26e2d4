/**
 * The facade of streams that belong to a copy: what activities call. Keeps true: every function opens its own connections and closes them, may be
 * killed anywhere and called again.
 */
import type { CopyContext } from '../copy/context';
import { openCopySession } from '../copy/context';
import { moveOwnSequences, setSequences } from '../copy/rest';
import { chosenTables } from '../copy/tables';
import { withSession } from '../session';
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
      await moveOwnSequences(target, context.migration);
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
