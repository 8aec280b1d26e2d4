/**
 * Reads captured changes in an order that the source could have committed them in. Numbers of rows do not say who committed first, and neither do
 * transaction ids; snapshots do. Keeps true: each round applies what is visible now and was not at the round before, in the order in which it was
 * written; rows of one key were written in the order of their locks, so nothing overtakes anything. The snapshot commits with the data.
 */
import { Problem } from '../../plan/model/errors';
import { literal, relation as quoted } from '../ident';
import { pause } from '../ladder';
import type { Session } from '../session';
import { rollBack } from '../session';
import { checkSignal } from '../work';
import type { Applier } from './applier';
import type { CaptureNames } from './capture';
import type { Tuple, Value, WireColumn, WireRelation } from './decode';
import { lsnOf } from './lsn';
import type { Change, RowMessage, Tx } from './types';

/** `(a,"b ""c""",,)`: one value for each column; nothing at all is NULL. */
export function parseRow(text: string): Tuple {
  const values: Value[] = [];
  let at = 1;
  for (;;) {
    let value = '';
    let quotes = false;
    for (;;) {
      const char = text[at] ?? ')';
      if (char === '"') {
        quotes = true;
        at += 1;
        for (; ; at += 1) {
          if (text[at] === '\\') at += 1;
          else if (text[at] === '"') {
            if (text[at + 1] !== '"') break;
            at += 1;
          }
          value += text[at] ?? '';
        }
        at += 1;
      } else if (char === ',' || char === ')') break;
      else {
        if (char === '\\') at += 1;
        value += text[at] ?? '';
        at += 1;
      }
    }
    values.push(value === '' && !quotes ? null : value);
    if (text[at] !== ',') return values;
    at += 1;
  }
}

interface Described extends Record<string, unknown> {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly key: boolean; readonly typeOid: string }[];
}

/** Tables as the log would describe them: with the primary key, or with all of their values. */
async function describe(source: Session, names: CaptureNames): Promise<ReadonlyMap<string, WireRelation>> {
  const rows = await source.rows<Described>(
    `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name,
            (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'typeOid', a.atttypid::text, 'key', EXISTS (
                      SELECT 1 FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND a.attnum = ANY (i.indkey)))
                    ORDER BY a.attnum), '[]'::jsonb)
               FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
       FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE t.tgname = $1 AND NOT t.tgisinternal`,
    [names.trigger],
  );
  return new Map(
    rows.map(({ oid, schema, name, columns }) => {
      const wire = columns.map((column): WireColumn => ({ ...column, typeOid: Number(column.typeOid) }));
      const identity = wire.some(({ key }) => key) ? 'd' : 'f';
      return [oid, { oid: Number(oid), schema, name, identity, columns: wire }];
    }),
  );
}

interface Captured extends Record<string, unknown> {
  readonly rel: string;
  readonly op: string;
  readonly old: string | null;
  readonly new: string | null;
}

function messageOf(row: Captured, relation: WireRelation): RowMessage {
  if (row.op === 'T') return { kind: 'truncate', relations: [relation], restart: false };
  const tuple = (text: string | null): Tuple => {
    const values = relation.columns.length === 0 ? [] : parseRow(text ?? '()');
    if (values.length === relation.columns.length) return values;
    throw new Problem('Drift', `${relation.schema}.${relation.name} changed its columns while it was followed`, {
      hint: 'start again: rows that were captured before have another shape',
    });
  };
  if (row.op === 'I') return { kind: 'insert', relation, row: tuple(row.new) };
  if (row.op === 'D') return { kind: 'delete', relation, old: tuple(row.old) };
  return { kind: 'update', relation, old: tuple(row.old), row: tuple(row.new) };
}

const FETCH_ROWS = 2_000;
const CLEAN_MS = 5_000;

export interface Rounds {
  readonly source: Session;
  readonly applier: Applier;
  readonly names: CaptureNames;
  readonly flushMs: number;
  readonly signal: AbortSignal;
  /** Once in every round; `stop` ends the rounds. */
  readonly onRound: () => Promise<'go on' | 'stop'>;
}

/** One round after the other. `once`: ends after the first whole one. */
export async function readChanges(rounds: Rounds, once: boolean): Promise<'reached' | 'stopped'> {
  const { source, applier, signal } = rounds;
  const relations = await describe(source, rounds.names);
  let cleaned = performance.now();
  for (;;) {
    checkSignal(signal);
    await round(rounds, relations);
    if (once) return 'reached';
    if ((await rounds.onRound()) === 'stop') return 'stopped';
    if (performance.now() - cleaned > CLEAN_MS) {
      cleaned = performance.now();
      // Older than every transaction that was open then: nobody asks for them any more.
      await source.run(`DELETE FROM ${quoted(rounds.names.table)} WHERE xid < pg_snapshot_xmin($1::pg_snapshot)`, [
        applier.xids,
      ]);
    }
    await pause(rounds.flushMs, signal);
  }
}

async function round(rounds: Rounds, relations: ReadonlyMap<string, WireRelation>): Promise<void> {
  const { source, applier, names, signal } = rounds;
  // Before the snapshot: what was flushed by then is what it sees, but for a commit at this very instant, which the next round has.
  const before = await source.one<{ lsn: string }>(`SELECT pg_current_wal_flush_lsn()::text AS lsn`);
  await source.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    const now = await source.one<{ xids: string }>(`SELECT pg_current_snapshot()::text AS xids`);
    const xids = now?.xids ?? '';
    const since = `${literal(applier.xids)}::pg_snapshot`;
    await source.run(
      `DECLARE captured NO SCROLL CURSOR FOR SELECT c.id::text AS id, c.rel::text AS rel, c.op::text AS op, c.old_row AS old, c.new_row AS new, c.xid::text AS xid
         FROM ${quoted(names.table)} AS c WHERE c.xid >= pg_snapshot_xmin(${since})
          AND NOT pg_visible_in_snapshot(c.xid, ${since}) ORDER BY c.id`,
    );
    const upTo = lsnOf(before?.lsn ?? '');
    const at = Date.now();
    for (;;) {
      checkSignal(signal);
      const rows = await source.rows<Captured & { id: string; xid: string }>(`FETCH ${FETCH_ROWS} FROM captured`);
      const last = rows.length < FETCH_ROWS;
      const changes = rows.flatMap((row): Change[] => {
        const relation = relations.get(row.rel);
        // Its number stands for its place: the same whenever it is read.
        const tx: Tx = { commitLsn: BigInt(row.id), at, xid: BigInt(row.xid) };
        return relation ? [{ message: messageOf(row, relation), tx }] : [];
      });
      const end = { upTo: last ? upTo : null, transactions: last ? 1 : 0, at, xids };
      if (changes.length > 0 || (last && applier.isOpen())) await applier.apply({ changes, ...end });
      else if (last) await applier.advance(upTo, xids);
      if (last) return;
    }
  } finally {
    await rollBack(source);
  }
}
