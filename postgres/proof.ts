/**
 * Proof by range: nothing remains to be filled, no row's new image differs from the transform of its old one, and the order-independent
 * 64-bit fingerprints of both images are equal. A predicate that is neither true nor false counts against us: unknown is never a pass.
 * Each row is judged within one statement, so concurrent writers raise no false alarm; the last range is open, so late rows are judged too.
 */
import { Problem } from '../plan/model/errors';
import type { Proof } from '../plan/model/status';
import type { ProofCheck, ProofRun, RelationName } from '../plan/model/steps';
import { runBatches, StartOver } from './batches';
import { crashPoint } from './crashPoints';
import { LISTED } from './differences';
import type { StepRef } from './fence';
import { literal } from './ident';
import { setLocal } from './ladder';
import { dropLanes, hasLanes } from './lanes';
import type { Bound, Range } from './ranges';
import { heap, highWater, keyJson, nextBound, rangeSql } from './ranges';
import type { Session } from './session';
import { inTransaction } from './session';
import { sqlstate } from './toProblem';
import type { Work, WorkResult } from './work';
import { checkSignal } from './work';

export interface CheckCounts {
  readonly remaining: number;
  readonly differing: number;
  /** Sums as text: beyond what a JavaScript number holds. */
  readonly old: string;
  readonly new: string;
}

export interface ProofCounts {
  readonly rows: number;
  readonly checks: readonly CheckCounts[];
}

const NO_COUNTS: CheckCounts = { remaining: 0, differing: 0, old: '0', new: '0' };

/** record_send is byte-exact (1.0 is not 1.00); a type without a binary form is compared by its text, under the plan's settings. */
type Fingerprint = (image: string) => string;
const byBytes: Fingerprint = (image) => `hash_record_extended(row(record_send(${image})), 0)`;
const byText: Fingerprint = (image) => `hashtextextended((${image})::text, 0)`;

function countSql(table: string, checks: readonly ProofCheck[], where: string, fingerprint: Fingerprint): string {
  const parts = checks.map(
    (check) => `jsonb_build_object(
      'remaining', count(*) FILTER (WHERE (${check.remaining}) IS NOT FALSE),
      'differing', count(*) FILTER (WHERE (${check.differing}) IS NOT FALSE),
      'old', coalesce(sum(${fingerprint(check.oldImage)}), 0)::text,
      'new', coalesce(sum(${fingerprint(check.newImage)}), 0)::text)`,
  );
  return `SELECT count(*)::float8 AS rows, jsonb_build_array(${parts.join(', ')}) AS checks FROM ${table} AS t WHERE ${where}`;
}

const add = (a: ProofCounts, b: ProofCounts): ProofCounts => ({
  rows: a.rows + b.rows,
  checks: b.checks.map((check, index) => {
    const before = a.checks[index] ?? NO_COUNTS;
    return {
      remaining: before.remaining + check.remaining,
      differing: before.differing + check.differing,
      old: String(BigInt(before.old) + BigInt(check.old)),
      new: String(BigInt(before.new) + BigInt(check.new)),
    };
  }),
});

const toProofs = (run: ProofRun, counts: ProofCounts, ranges: number): Proof[] =>
  run.checks.map((check, index) => {
    const sums = counts.checks[index] ?? NO_COUNTS;
    const fingerprintOld = BigInt.asUintN(64, BigInt(sums.old)).toString();
    const fingerprintNew = BigInt.asUintN(64, BigInt(sums.new)).toString();
    return {
      table: `${run.table.schema}.${run.table.name}`,
      column: check.column,
      rows: counts.rows,
      remaining: sums.remaining,
      ranges,
      fingerprintOld,
      fingerprintNew,
      equal: sums.remaining === 0 && sums.differing === 0 && fingerprintOld === fingerprintNew,
      differing: sums.differing,
    };
  });

/** Throws ProofFailed (keys listed) under 'refuse'; under 'report' the counts are the answer. */
export async function runProof(work: Work, run: ProofRun): Promise<WorkResult> {
  let fingerprint = byBytes;
  // What an earlier proof listed; a proof that goes on behind its checkpoint keeps its list.
  if (!(await hasLanes(work))) await forgetListed(work.session, work.attempt, run);
  const result = await runBatches(work, {
    table: run.table,
    key: run.key,
    settings: run.settings,
    openEnd: true,
    execute: async (session, range, lane) => {
      const where = rangeSql('t', run.key, range);
      const table = heap({ table: lane.table, key: run.key });
      const counts = await session
        .one<ProofCounts & Record<string, unknown>>(countSql(table, run.checks, where.text, fingerprint), where.values)
        .catch((error: unknown) => {
          if (sqlstate(error) !== '42883' || fingerprint === byText) throw error;
          fingerprint = byText;
          throw new StartOver('a type has no binary form: rows are compared by their text');
        });
      if (!counts) throw new Problem('Bug', 'a proof gave no counts');
      await list(session, work.attempt, run, { range, table: lane.table, counts });
      crashPoint('proof.range', work.context.step.id);
      return { rows: counts.rows, state: { ...lane.state, ...add(fromState(lane.state), counts) } };
    },
  });
  const counts = result.lanes.map((lane) => fromState(lane.state)).reduce(add, { rows: 0, checks: [] });
  const proofs = toProofs(run, counts, result.batches);
  if (run.onDiffer === 'refuse' && !proofs.every(({ equal }) => equal)) {
    // The next try looks at every row again.
    await dropLanes(work);
    throw proofFailed(run, proofs);
  }
  return { ...result, rows: counts.rows, proofs };
}

function fromState(state: Readonly<Record<string, unknown>>): ProofCounts {
  return Array.isArray(state.checks) ? (state as unknown as ProofCounts) : { rows: 0, checks: [] };
}

function proofFailed(run: ProofRun, proofs: readonly Proof[]): Problem {
  const bad = proofs.filter(({ equal }) => !equal);
  const words = bad.map(
    ({ column, remaining, differing }) => `${column}: ${remaining} not filled, ${differing} differing`,
  );
  const what = run.message ?? 'rows differ from what the transform says';
  return new Problem('ProofFailed', `${what} (${words.join('; ')})`, {
    details: { proofs: bad.map(({ column, remaining, differing, rows }) => ({ column, remaining, differing, rows })) },
  });
}

const ruleOf = (run: ProofRun): string => (run.onDiffer === 'refuse' ? 'proof' : 'way-back');

/** `table.column` -> `column` */
const bare = (column: string): string => column.slice(column.lastIndexOf('.') + 1);

type ListedFor = Pick<StepRef, 'migration' | 'stepId'>;

async function forgetListed(session: Session, of: ListedFor, run: ProofRun): Promise<void> {
  await session.run(
    `DELETE FROM pgshift.differences WHERE migration_name = $1 AND step_id = $2 AND rule = $3 AND column_name = ANY ($4::text[])`,
    [of.migration, of.stepId, ruleOf(run), run.checks.map(({ column }) => bare(column))],
  );
}

interface Judged {
  readonly range: Range;
  readonly table: RelationName;
  readonly counts: ProofCounts;
}

/** Keys of the range's bad rows, in the same transaction as the counts; no more than LISTED of a step. */
async function list(session: Session, of: ListedFor, run: ProofRun, { range, table, counts }: Judged): Promise<void> {
  for (const [index, check] of run.checks.entries()) {
    const found = counts.checks[index] ?? NO_COUNTS;
    if (found.remaining + found.differing === 0) continue;
    const where = rangeSql('t', run.key, range);
    await session.run(
      `INSERT INTO pgshift.differences (migration_name, step_id, table_name, rule, key, column_name, reason)
       SELECT ${literal(of.migration)}, ${literal(of.stepId)}, ${literal(`${run.table.schema}.${run.table.name}`)},
              ${literal(ruleOf(run))}, ${keyJson(run.key)}, ${literal(bare(check.column))},
              CASE WHEN (${check.remaining}) IS NOT FALSE THEN 'not filled' ELSE 'differs' END
         FROM ${heap({ table, key: run.key })} AS t
        WHERE ${where.text} AND ((${check.remaining}) IS NOT FALSE OR (${check.differing}) IS NOT FALSE)
        LIMIT greatest(0, ${LISTED} - (SELECT count(*) FROM pgshift.differences AS d
              WHERE d.migration_name = ${literal(of.migration)} AND d.step_id = ${literal(of.stepId)}))`,
      where.values,
    );
  }
}

const PREVIEW_ROWS = 50_000;
const PREVIEW_ROWS_PER_BLOCK = 50;

/**
 * How many rows could not go back? Their keys are listed; nothing but pgshift.differences is written. `settings` and predicates are the plan's.
 */
export async function previewProof(
  session: Session,
  of: ListedFor,
  run: ProofRun,
  signal: AbortSignal,
): Promise<Proof[]> {
  let counts: ProofCounts = { rows: 0, checks: [] };
  let ranges = 0;
  await forgetListed(session, of, run);
  const mark = await highWater(session, run);
  let low: Bound | null = null;
  while (mark !== null) {
    checkSignal(signal);
    const next = await nextBound(session, run, { low, mark, rows: PREVIEW_ROWS, rowsPerBlock: PREVIEW_ROWS_PER_BLOCK });
    if (next === null) break;
    counts = add(counts, await previewRange(session, of, run, { low, high: next.high }));
    low = next.high;
    ranges += 1;
  }
  return toProofs(run, counts, ranges);
}

async function previewRange(session: Session, of: ListedFor, run: ProofRun, range: Range): Promise<ProofCounts> {
  const where = rangeSql('t', run.key, range);
  return inTransaction(session, async () => {
    await setLocal(session, run.settings);
    const sql = countSql(heap(run), run.checks, where.text, byText);
    const counts = await session.one<ProofCounts & Record<string, unknown>>(sql, where.values);
    if (!counts) throw new Problem('Bug', 'a proof gave no counts');
    await list(session, of, run, { range, table: run.table, counts });
    return counts;
  });
}
