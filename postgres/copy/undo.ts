/**
 * The way back of a copy: the target loses what this migration made, and nothing else. Keeps true: never CASCADE, never what stood there before;
 * it is right when nothing happened yet, and may run any number of times.
 */
import { Problem, isProblem } from '../../plan/model/errors';
import { beginAttempt, finishAttempt } from '../fence';
import { shownRelation } from '../../plan/model/quote';
import { relation } from '../ident';
import { putBack, takeOff } from '../map/disable';
import { targetOf } from '../map/store';
import type { StoredProof } from '../map/table';
import { readTables } from './tables';
import { dropAllTracking, dropTracking, undoTracked } from '../map/tracked';
import { writeLog } from '../state/journal';
import { sqlstate } from '../toProblem';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { endEpochs } from './epoch';

interface Drop extends Record<string, unknown> {
  readonly no: number;
  readonly kind: string;
  readonly tag: string;
  readonly sql: string;
}

/** Begins every step in the direction back: a late attempt forward finds that it must not begin, and its backends are ended. */
async function stopSteps(context: CopyContext, target: Session): Promise<void> {
  const steps = await target.rows<{ id: string }>(
    `SELECT s.step_id AS id FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.status NOT IN ('undone', 'done')
     UNION SELECT x FROM unnest(ARRAY['schema.1', 'build.1']) AS x ORDER BY 1`,
    [context.migration],
  );
  for (const { id } of steps) {
    checkSignal(context.signal);
    const ref = { migration: context.migration, stepId: id, phase: 'copy' } as const;
    const begun = await beginAttempt(target, ref, 'undo', context.signal);
    if (begun.state === 'begun') await finishAttempt(target, begun.attempt, { status: 'undone', result: {} });
  }
}

/**
 * Objects whose unit has committed; a large object is on the list since the transaction that made it. What was never made may be there all the
 * same, under the same name: it is somebody else's, and the reason why ours failed.
 */
const MADE = `
WITH made AS (
  SELECT n::int AS no FROM pgshift.lanes AS l CROSS JOIN LATERAL jsonb_array_elements_text(l.state->'items') AS n
   WHERE l.migration_name = $1 AND l.done AND l.state ? 'items')
SELECT i.item_no AS no, i.kind, i.tag, i.drop_sql AS sql FROM pgshift.copy_items AS i
 WHERE i.migration_name = $1 AND i.drop_sql IS NOT NULL AND (i.kind = 'LARGE OBJECT' OR i.item_no IN (SELECT m.no FROM made AS m))
 ORDER BY i.kind = 'FK CONSTRAINT' DESC, i.item_no DESC`;

/** Drops in rounds, later objects first: one that another still rests on goes in a later round. Answers what could not go. */
async function dropAll(context: CopyContext, target: Session): Promise<readonly string[]> {
  let left = await target.rows<Drop>(MADE, [context.migration]);
  for (;;) {
    const stuck: Drop[] = [];
    for (const item of left) {
      checkSignal(context.signal);
      try {
        await inTransaction(target, async () => {
          await target.run(`SET LOCAL lock_timeout = '5s'`);
          await target.run(item.sql);
        });
      } catch (error) {
        if (!isProblem(error) || ['Unreachable', 'ServerRestarting'].includes(error.code)) throw error;
        // Its schema or its type is gone already, and it with them.
        if (error.code !== 'NoSuchObject') stuck.push(item);
      }
    }
    if (stuck.length === 0 || stuck.length === left.length) return stuck.map(({ kind, tag }) => `${kind} ${tag}`);
    left = stuck;
  }
}

const EVERY_TABLE = 2 ** 31 - 1;

/**
 * Of `schema: existing`: a table that was empty is empty again; of one that held rows, what we put there goes and what we overwrote comes back.
 * What was off for the load comes on again.
 */
async function emptyAll(context: CopyContext, target: Session): Promise<void> {
  const { migration, control } = context;
  const begun = (await readTables(target, migration, 0, EVERY_TABLE)).filter(({ epoch }) => epoch > 0).reverse();
  // What was off for the load is off for its way back: a trigger that must not see rows come must not see them go.
  const off = (control.load?.disable ?? []).filter((what) => what === 'triggers');
  const load = control.load && { ...control.load, disable: off };
  for (const table of begun)
    await takeOff({ ...context, control: { ...control, ...(load ? { load } : {}) } }, target, table);
  for (const { proof } of await target.rows<{ proof: StoredProof }>(
    `SELECT t.proof FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND (t.proof->>'tracked')::boolean ORDER BY t.table_no DESC`,
    [migration],
  )) {
    checkSignal(context.signal);
    const left = await undoTracked(target, migration, proof, null);
    await dropTracking(target, migration, proof.target);
    if (left === 0) continue;
    const message = `${shownRelation(proof.target)}: ${left} rows were written by somebody else since, and stay`;
    await writeLog(target, { migration, level: 'warning', phase: 'copy', step: null, message });
  }
  // A merge never empties: what it put is known row by row.
  if ((control.load?.method ?? 'copy') === 'copy' && begun.length > 0)
    await emptied(
      target,
      begun.map((table) => relation(targetOf(table, table.map))),
    );
  await putBack({ ...context, admit: async () => undefined }, target, null);
}

async function emptied(target: Session, names: readonly string[]): Promise<void> {
  try {
    await inTransaction(target, async () => {
      await target.run(`SET LOCAL lock_timeout = '5s'`);
      await target.run(`TRUNCATE ONLY ${names.join(', ONLY ')}`);
    });
  } catch (error) {
    // Others refer to it, or it is partitioned.
    if (!isProblem(error) || !['0A000', '42809'].includes(sqlstate(error) ?? '')) throw error;
    await inTransaction(target, async () => {
      await target.run(`SET LOCAL lock_timeout = '5s'`);
      for (const name of names) await target.run(`DELETE FROM ${name}`);
    });
  }
}

/** Takes the copy back whole. Throws StepFailed naming what could not be dropped. */
export async function undoCopy(context: CopyContext, source: Session | null, target: Session): Promise<void> {
  await stopSteps(context, target);
  await endEpochs(context, source, target, 'taken back');
  if (context.control.schema === 'existing') return emptyAll(context, target);
  await dropAllTracking(target, context.migration);
  const left = await dropAll(context, target);
  if (left.length > 0)
    throw new Problem(
      'StepFailed',
      `could not be dropped: ${left.slice(0, 5).join(', ')}${left.length > 5 ? ` and ${left.length - 5} more` : ''}`,
      {
        hint: 'something that is not of this migration rests on them; remove it, then retry',
      },
    );
}
