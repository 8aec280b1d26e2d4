/** Reading one table of the source at the snapshot. Keeps true: nobody's DDL waits for long behind our lock, and ours ends with the transaction. */
import { Problem } from '../../plan/model/errors';
import { relation } from '../ident';
import { pause } from '../ladder';
import type { Session } from '../session';
import { isLockProblem } from '../toProblem';
import { checkSignal } from '../work';
import { beginAt } from './context';
import type { Copying } from './table';
import type { TableRow } from './tables';
import { shown } from './tables';

/** Reads the table at the snapshot, its ACCESS SHARE lock taken without queueing for long behind somebody's DDL. */
export async function readTable<T>(
  { context, epoch }: Pick<Copying, 'context' | 'epoch'>,
  source: Session,
  table: TableRow,
  work: () => Promise<T>,
): Promise<T> {
  const until = Date.now() + context.lockBudgetMs;
  for (let timeout = Math.max(50, context.lockTimeoutMs); ; timeout = Math.min(timeout * 2, 5_000)) {
    checkSignal(context.signal);
    await beginAt(source, epoch.snapshot);
    try {
      try {
        await source.run(`SET LOCAL lock_timeout = ${Math.round(timeout)}`);
        await source.run(`LOCK TABLE ONLY ${relation(table)} IN ACCESS SHARE MODE`);
        await source.run(`SET LOCAL lock_timeout = 0`);
      } catch (error) {
        if (!isLockProblem(error)) throw error;
        if (Date.now() > until)
          throw new Problem(
            'LockBudgetSpent',
            `${shown(table)}: somebody held ACCESS EXCLUSIVE on the source for the whole budget`,
          );
        await source.run('ROLLBACK');
        await pause(timeout, context.signal);
        continue;
      }
      return await work();
    } finally {
      if (!source.lost) await source.run('ROLLBACK').catch(() => undefined);
    }
  }
}
