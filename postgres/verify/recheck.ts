/**
 * Phase recheck: rows that differed at first sight are looked at again until they are equal or really different; those that differ are listed with
 * their values. Keeps true: what is decided about a table is one statement: its candidates go, its differences come.
 */
import type { DifferenceKind } from '../../plan/model/validation';
import type { Attempt } from '../fence';
import { fenceBroken, finishAttempt } from '../fence';
import type { Session } from '../session';
import type { Barrier } from './barrier';
import { findBarrier } from './barrier';
import type { VerifyContext } from './context';
import { HASH_KEY } from './lanes';
import type { KeyValues } from './lookup';
import { keyId, valuesOf } from './lookup';
import type { Pair } from './pairs';
import type { Phase } from './prepared';
import { withPhase } from './prepared';
import type { SessionPair } from './session';
import { settle } from './settle';
import type { DifferenceLine } from './values';
import { readDifferences } from './values';

interface Listed extends Record<string, unknown> {
  readonly key: Record<string, string | null>;
  readonly kind: DifferenceKind;
}

/** Decides every candidate. Answers how many were looked at. */
export async function recheckRows(context: VerifyContext): Promise<number> {
  const any = async (state: Session): Promise<boolean> =>
    (await tablesWith(state, context.plan.name, 'candidate')).size > 0;
  return (await withPhase(context, 'recheck', (phase) => recheckPhase(context, phase), any)) ?? 0;
}

async function recheckPhase(context: VerifyContext, { sessions, pairs, state, attempt }: Phase): Promise<number> {
  const barrier = context.plan.live === 'auto' ? await findBarrier(sessions) : null;
  const tables = await tablesWith(state, context.plan.name, 'candidate');
  let looked = 0;
  for (const [index, pair] of pairs.filter(({ targetLabel }) => tables.has(targetLabel)).entries()) {
    const candidates = await readListed(state, context.plan.name, pair, 'candidate');
    looked += candidates.length;
    context.progress({
      phase: 'recheck',
      table: pair.label,
      tablesDone: index,
      tables: tables.size,
      rowsDone: looked,
      rowsTotal: [...tables.values()].reduce((sum, n) => sum + n, 0),
      rowsPerSecond: 0,
      etaSeconds: null,
      candidates: candidates.length,
    });
    const decided = await decide(context, { sessions, pair, barrier }, candidates);
    await replace(state, attempt, pair, decided);
  }
  const result = { rechecked: looked, barrier: barrier?.slots ?? null };
  if (!(await finishAttempt(state, attempt, { status: 'done', rows: looked, result }))) throw fenceBroken(attempt);
  return looked;
}

export interface Deciding {
  readonly sessions: SessionPair;
  readonly pair: Pair;
  readonly barrier: Barrier | null;
}

export interface Decided {
  readonly lines: readonly DifferenceLine[];
  readonly unsettled: readonly KeyValues[];
}

export async function decide(
  { plan, signal }: Pick<VerifyContext, 'plan' | 'signal'>,
  { sessions, pair, barrier }: Deciding,
  candidates: readonly Listed[],
): Promise<Decided> {
  const kinds = new Map(candidates.map((one) => [keyId(valuesOf(pair, one)), one.kind]));
  const keys = candidates.map((one) => valuesOf(pair, one));
  const { different, unsettled } = await settle({ sessions, pair, keys, signal, live: plan.live === 'auto', barrier });
  const named = different.map((key) => ({ key, kind: kinds.get(keyId(key)) ?? ('changed' as const) }));
  const shown = await readDifferences(sessions, pair, named.slice(0, plan.differences));
  const rest = named.slice(plan.differences).map(({ key, kind }): DifferenceLine => ({
    key: keyJson(pair, key),
    kind,
    column: null,
    source: null,
    target: null,
  }));
  return { lines: [...shown, ...rest], unsettled };
}

export const keyJson = (pair: Pair, key: KeyValues): Record<string, string | null> =>
  Object.fromEntries((pair.key?.names ?? [HASH_KEY]).map((name, index) => [name, key[index] ?? null]));

export async function tablesWith(session: Session, name: string, rule: string): Promise<Map<string, number>> {
  const rows = await session.rows<{ name: string; n: number }>(
    `SELECT d.table_name AS name, count(DISTINCT d.key)::int AS n FROM pgshift.differences AS d
      WHERE d.migration_name = $1 AND d.rule = $2 GROUP BY 1`,
    [name, rule],
  );
  return new Map(rows.map((row) => [row.name, row.n]));
}

/** Each row once, in the order in which it was found. */
export const readListed = (session: Session, name: string, pair: Pair, rule: string): Promise<Listed[]> =>
  session.rows<Listed>(
    `SELECT d.key, min(d.reason) AS kind FROM pgshift.differences AS d
      WHERE d.migration_name = $1 AND d.table_name = $2 AND d.rule = $3 GROUP BY d.key ORDER BY min(d.id)`,
    [name, pair.targetLabel, rule],
  );

/** The table's candidates become its differences. @throws Problem FenceBroken. */
async function replace(session: Session, attempt: Attempt, pair: Pair, { lines, unsettled }: Decided): Promise<void> {
  const rows = [
    ...lines.map((line) => ({ ...line, rule: 'verify' })),
    ...unsettled.map((key) => ({
      key: keyJson(pair, key),
      kind: 'unsettled',
      column: null,
      source: null,
      target: null,
      rule: 'unsettled',
    })),
  ];
  const fenced = await session.one<{ n: number }>(
    `WITH fence AS (UPDATE pgshift.steps SET rows = rows WHERE migration_name = $1 AND step_id = $2 AND epoch = $3 RETURNING 1),
     gone AS (DELETE FROM pgshift.differences AS d USING fence
       WHERE d.migration_name = $1 AND d.table_name = $4 AND d.rule IN ('candidate', 'verify', 'unsettled')),
     found AS (
       INSERT INTO pgshift.differences (migration_name, step_id, table_name, rule, key, column_name, reason, source_value, target_value)
       SELECT $1, $2, $4, r.rule, r.key, r."column", r.kind, r.source, r.target
         FROM jsonb_to_recordset($5::jsonb) AS r(rule text, key jsonb, "column" text, kind text, source text, target text), fence)
     SELECT count(*)::int AS n FROM fence`,
    [attempt.migration, attempt.stepId, attempt.epoch, pair.targetLabel, JSON.stringify(rows)],
  );
  if (fenced?.n !== 1) throw fenceBroken(attempt);
}
