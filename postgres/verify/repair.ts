/**
 * Phase repair: the rows that were found to differ become on the target what they are on the source, through the same map. Keeps true: only listed
 * rows are touched; what was repaired is looked at again and is called repaired only when it is equal now; a batch that Postgres refuses is an error
 * of its table and stops no other. The user's triggers and foreign keys do not fire on rows that are copied as they are.
 */
import type { Problem } from '../../plan/model/errors';
import { isProblem } from '../../plan/model/errors';
import type { VerifyFinding } from '../../plan/model/validation';
import { fenceBroken, finishAttempt } from '../fence';
import { ident, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { checkSignal } from '../work';
import { findBarrier } from './barrier';
import type { Barrier } from './barrier';
import type { VerifyContext } from './context';
import type { KeyValues } from './lookup';
import { joinKeys, keyId, lookup, NO_ROW, valuesOf } from './lookup';
import type { Pair, PairColumn } from './pairs';
import type { Phase } from './prepared';
import { withPhase } from './prepared';
import { quietly } from './quiet';
import { decide, keyJson, readListed, tablesWith } from './recheck';
import { openWriter } from './session';
import { onBoth } from './tally';

const BATCH = 500;
/** The source may be written between the read and the write: then once more. */
const ROUNDS = 3;
const LOCK_TIMEOUT = '5s';

export async function repairRows(context: VerifyContext): Promise<void> {
  const any = async (state: Session): Promise<boolean> =>
    (await tablesWith(state, context.plan.name, 'verify')).size > 0;
  await withPhase(context, 'repair', (phase) => repairPhase(context, phase), any);
}

async function repairPhase(context: VerifyContext, phase: Phase): Promise<void> {
  const { state, attempt, pairs, sessions } = phase;
  const barrier = context.plan.live === 'auto' ? await findBarrier(sessions) : null;
  const tables = await tablesWith(state, context.plan.name, 'verify');
  const errors: VerifyFinding[] = [];
  const writer = await openWriter(context.target, context.plan.name);
  let repaired = 0;
  try {
    for (const pair of pairs.filter(({ targetLabel }) => tables.has(targetLabel))) {
      try {
        repaired += await repairTable(context, phase, { pair, writer, barrier });
      } catch (error) {
        if (!isOfThisTable(error) || writer.lost || state.lost) throw error;
        errors.push({ check: 'rows', table: pair.label, message: `was not repaired: ${error.code}: ${error.message}` });
      }
    }
  } finally {
    await writer.close();
  }
  if (!(await finishAttempt(state, attempt, { status: 'done', rows: repaired, result: { errors } })))
    throw fenceBroken(attempt);
}

const OF_THE_RUN: readonly string[] = ['FenceBroken', 'Unreachable', 'ServerRestarting', 'DiskFull', 'Bug'];
const isOfThisTable = (error: unknown): error is Problem => isProblem(error) && !OF_THE_RUN.includes(error.code);

interface Repairing {
  readonly pair: Pair;
  readonly writer: Session;
  readonly barrier: Barrier | null;
}

/** Answers how many rows are equal now. */
async function repairTable(context: VerifyContext, phase: Phase, repairing: Repairing): Promise<number> {
  const { pair, writer, barrier } = repairing;
  const { state, sessions, attempt } = phase;
  const listed = await readListed(state, context.plan.name, pair, 'verify');
  let open = listed;
  for (let round = 0; round < ROUNDS && open.length > 0; round += 1) {
    for (let from = 0; from < open.length; from += BATCH) {
      checkSignal(context.signal);
      const keys = open.slice(from, from + BATCH).map((one) => valuesOf(pair, one));
      await repairBatch(phase, pair, writer, keys);
    }
    const left = await decide(
      { ...context, plan: { ...context.plan, differences: 0 } },
      { sessions, pair, barrier },
      open,
    );
    const still = new Set([
      ...left.lines.map((line) => keyId(valuesOf(pair, line))),
      ...left.unsettled.map((key) => keyId(key)),
    ]);
    open = open.filter((one) => still.has(keyId(valuesOf(pair, one))));
  }
  const still = new Set(open.map((one) => keyId(valuesOf(pair, one))));
  const done = listed.map((one) => valuesOf(pair, one)).filter((key) => !still.has(keyId(key)));
  const mine = await state.run(
    `WITH fence AS (UPDATE pgshift.steps SET rows = rows + $6 WHERE migration_name = $1 AND step_id = $2 AND epoch = $3 RETURNING 1),
     marked AS (UPDATE pgshift.differences AS d SET rule = 'repaired' FROM fence, jsonb_array_elements($5::jsonb) AS r
       WHERE d.migration_name = $1 AND d.table_name = $4 AND d.rule = 'verify' AND d.key = r)
     SELECT 1 FROM fence`,
    [
      attempt.migration,
      attempt.stepId,
      attempt.epoch,
      pair.targetLabel,
      JSON.stringify(done.map((key) => keyJson(pair, key))),
      done.length,
    ],
  );
  if (mine === 0) throw fenceBroken(attempt);
  return done.length;
}

async function repairBatch(phase: Phase, pair: Pair, writer: Session, keys: readonly KeyValues[]): Promise<void> {
  await inTransaction(writer, async () => {
    await writer.run(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
    await quietly(writer, pair.target);
    if (pair.key === null) await repairCounted(phase, pair, writer, keys);
    else await repairKeyed(phase, pair, writer, keys);
  });
}

/** character and bit without their length mean a length of one. */
const castType = ({ typeOid, type, base }: PairColumn['to']): string => {
  if (typeOid === 1042) return 'bpchar';
  return /^(character|bit)(\(|\[|$)/.test(type) ? type : base;
};

const writable = ({ columns }: Pair): PairColumn[] => columns.filter(({ to }) => to.generated === '');
const given = (column: PairColumn, index: number): string => `(r->>${index})::${castType(column.to)}`;

async function repairKeyed(
  { sessions }: Phase,
  pair: Pair,
  writer: Session,
  keys: readonly KeyValues[],
): Promise<void> {
  const { key } = pair;
  if (key === null) return;
  const columns = writable(pair);
  const { from, values } = joinKeys(pair, key, 'source', keys);
  const texts = columns.map(({ source }) => `(${source})::text`).join(', ');
  const rows = await sessions.source.rows<{ n: number; row: (string | null)[] }>(
    `SELECT q.n::float8 AS n, ARRAY[${texts}]::text[] AS row FROM ${from}`,
    values,
  );
  const there = await lookup({ source: sessions.source, target: writer }, pair, 'target', keys);
  const sources = new Map(rows.map(({ n, row }) => [keyId(keys[n - 1] ?? []), row]));
  await deleteKeys(
    pair,
    writer,
    keys.filter((k) => !sources.has(keyId(k)) && there.has(keyId(k))),
  );
  const known = [...sources].filter(([id]) => there.has(id)).map(([, row]) => row);
  const fresh = [...sources].filter(([id]) => !there.has(id)).map(([, row]) => row);
  const at = new Map(columns.map((column, index) => [column.name, index]));
  const set = columns.flatMap((column, index) =>
    column.to.identity === 'a' ? [] : [`${ident(column.name)} = ${given(column, index)}`],
  );
  const on = key.columns.map((column) => {
    const index = at.get(column.name) ?? 0;
    return `${column.target} = ${given(column, index)}`;
  });
  if (known.length > 0 && set.length > 0)
    await writer.run(
      `UPDATE ${pair.from.target} SET ${set.join(', ')} FROM jsonb_array_elements($1::jsonb) AS r WHERE ${on.join(' AND ')}`,
      [JSON.stringify(known)],
    );
  await insertRows(pair, writer, fresh);
}

async function deleteKeys(pair: Pair, writer: Session, keys: readonly KeyValues[]): Promise<void> {
  if (pair.key === null || keys.length === 0) return;
  const { from, values } = joinKeys(pair, pair.key, 'target', keys);
  await deleteThese(pair, writer, `SELECT t.tableoid, t.ctid FROM ${from}`, values);
}

const deleteThese = (pair: Pair, writer: Session, which: string, values: readonly unknown[]): Promise<number> =>
  writer.run(`DELETE FROM ${relation(pair.target)} AS d WHERE (d.tableoid, d.ctid) IN (${which})`, values);

async function insertRows(pair: Pair, writer: Session, rows: readonly (readonly (string | null)[])[]): Promise<void> {
  const columns = writable(pair);
  if (rows.length === 0) return;
  if (columns.length === 0) {
    for (const _ of rows) await writer.run(`INSERT INTO ${relation(pair.target)} DEFAULT VALUES`);
    return;
  }
  await writer.run(
    `INSERT INTO ${relation(pair.target)} (${columns.map(({ name }) => ident(name)).join(', ')}) OVERRIDING SYSTEM VALUE
     SELECT ${columns.map(given).join(', ')} FROM jsonb_array_elements($1::jsonb) AS r`,
    [JSON.stringify(rows)],
  );
}

/** Without a key a row is known by its hash, and only how often it is there can be mended. */
async function repairCounted(
  { sessions }: Phase,
  pair: Pair,
  writer: Session,
  keys: readonly KeyValues[],
): Promise<void> {
  const both = { source: sessions.source, target: writer };
  const found = await onBoth((side) => lookup(both, pair, side, keys));
  const count = (side: 'source' | 'target', key: KeyValues): number =>
    Number((found[side].get(keyId(key)) ?? NO_ROW).hash || '0');
  const texts = writable(pair).map(({ source }) => `(${source})::text`);
  for (const key of keys) {
    const missing = count('source', key) - count('target', key);
    if (missing < 0)
      await deleteThese(
        pair,
        writer,
        `SELECT t.tableoid, t.ctid FROM ${pair.from.target} WHERE ${pair.rowHash.target} = $1::int8 LIMIT ${-missing}`,
        [key[0]],
      );
    if (missing <= 0) continue;
    const row = await sessions.source.one<{ row: (string | null)[] }>(
      `SELECT ARRAY[${texts.join(', ')}]::text[] AS row FROM ${pair.from.source} WHERE ${pair.where.source} AND ${pair.rowHash.source} = $1::int8 LIMIT 1`,
      [key[0]],
    );
    if (row)
      await insertRows(
        pair,
        writer,
        Array.from({ length: missing }, () => row.row),
      );
  }
}
