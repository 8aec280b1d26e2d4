/**
 * Replica identities: how an UPDATE or DELETE is told apart on the other side. Keeps true: what a table had is in the guard row from the very
 * transaction that changes it, and goes back as it was. Set before the table is published: a published table without one refuses its clients' updates.
 */
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import { ident, relation } from '../ident';
import type { Session } from '../session';
import type { IdentityRecord } from './guard';
import { readGuard, updateGuard } from './guard';
import type { Patience } from './patience';
import { patiently } from './patience';
import type { UserTable } from './tables';
import { replicated, userTables } from './tables';

export type IdentityPlan =
  | { readonly table: UserTable; readonly use: 'as it is' }
  | { readonly table: UserTable; readonly use: 'index'; readonly index: string }
  | { readonly table: UserTable; readonly use: 'full' }
  /** Types without equality: rows cannot be found on the other side. */
  | { readonly table: UserTable; readonly use: 'none'; readonly types: readonly string[] };

interface Candidate extends Record<string, unknown> {
  readonly oid: string;
  readonly index: string | null;
  /** Its identity names an index that is there and valid. */
  readonly works: boolean;
  readonly types: readonly string[];
}

/** What each replicated table needs. Only reads. */
export async function planIdentities(session: Session, tables: readonly UserTable[]): Promise<IdentityPlan[]> {
  const candidates = replicated(tables);
  const rows = await session.rows<Candidate>(
    `SELECT c.oid::text AS oid,
            (SELECT ic.relname::text FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS ic ON ic.oid = i.indexrelid
              WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
                                  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                                 WHERE k.n <= i.indnkeyatts AND NOT a.attnotnull)
              ORDER BY i.indnkeyatts, ic.relname COLLATE "C" LIMIT 1) AS index,
            EXISTS (SELECT 1 FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid) AS works,
            (SELECT coalesce(jsonb_agg(DISTINCT pg_catalog.format_type(a.atttypid, NULL)), '[]') FROM pg_catalog.pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS types
       FROM pg_catalog.pg_class AS c WHERE c.oid = ANY ($1::oid[])`,
    [candidates.filter((table) => !told(table)).map(({ oid }) => oid)],
  );
  const found = new Map(rows.map((row) => [row.oid, row]));
  const without = await typesWithoutEquality(session, [...new Set(rows.flatMap(({ types }) => types))]);
  return candidates.map((table): IdentityPlan => {
    const row = found.get(table.oid);
    if (row === undefined || (table.identity === 'i' && row.works)) return { table, use: 'as it is' };
    const types = row.types.filter((type) => without.has(type));
    if (table.identity === 'f' && types.length === 0) return { table, use: 'as it is' };
    if (row.index !== null) return { table, use: 'index', index: row.index };
    return types.length > 0 ? { table, use: 'none', types } : { table, use: 'full' };
  });
}

/** FULL without a key: the other side has to compare whole rows, which not every type can. */
const told = ({ identity, hasKey }: UserTable): boolean => (identity === 'f' || identity === 'd') && hasKey;

/** Asked of the parser: DISTINCT needs what the apply worker needs, an equality of the type's default operator class. */
async function typesWithoutEquality(session: Session, types: readonly string[]): Promise<ReadonlySet<string>> {
  const without = new Set<string>();
  for (const type of types) {
    // format_type() quotes what it prints; nothing of it is a parameter's value.
    await session.run(`EXPLAIN SELECT DISTINCT NULL::${type}`).catch(() => without.add(type));
  }
  return without;
}

/**
 * Sets what is missing. On both sides, before anything is replicated: the receiving table finds its rows by an identity of its own. Throws GuardrailFailed naming tables that cannot
 * have one, LockBudgetSpent. Answers how many were changed.
 */
export async function setIdentities(session: Session, id: string, patience: Patience): Promise<number> {
  const plans = await planIdentities(session, await userTables(session));
  const refused = plans.flatMap((plan) => (plan.use === 'none' ? [plan] : []));
  if (refused.length > 0)
    throw new Problem(
      'GuardrailFailed',
      `${session.name}: rows of ${refused.map(({ table, types }) => `${shownRelation(table)} (${types.join(', ')})`).join(', ')} cannot be told apart`,
      { hint: 'give the table a primary key that is not deferrable' },
    );
  let changed = 0;
  for (const plan of plans) {
    if (plan.use === 'as it is') continue;
    const { table } = plan;
    const how = plan.use === 'index' ? `USING INDEX ${ident(plan.index)}` : 'FULL';
    await patiently(session, `replica identity of ${shownRelation(table)}`, patience, async () => {
      await session.run(`ALTER TABLE ONLY ${relation(table)} REPLICA IDENTITY ${how}`);
      const row = await readGuard(session, id);
      if (row === null) throw new Problem('NoSuchRun', `${session.name}: there is no guard row of ${id}`);
      const before = row.details.identities;
      if (before.some((one) => one.schema === table.schema && one.name === table.name)) return;
      const record = { schema: table.schema, name: table.name, was: table.identity, wasIndex: null };
      await updateGuard(session, row, { patch: { identities: [...before, record] } });
    });
    changed += 1;
  }
  return changed;
}

const HOW: Readonly<Record<string, string>> = { d: 'DEFAULT', n: 'NOTHING', f: 'FULL' };

/** Sets back what was recorded; a table that is gone is left out. Not while it is published. Idempotent. */
export async function restoreIdentities(session: Session, id: string, patience: Patience): Promise<number> {
  let restored = 0;
  for (;;) {
    const row = await readGuard(session, id);
    const [record] = row?.details.identities ?? [];
    if (row === null || record === undefined) return restored;
    await patiently(session, `replica identity of ${shownRelation(record)}`, patience, async () => {
      const seen = await readGuard(session, id);
      if (seen === null) return;
      if (await exists(session, record))
        await session.run(`ALTER TABLE ONLY ${relation(record)} REPLICA IDENTITY ${HOW[record.was] ?? 'DEFAULT'}`);
      const rest = seen.details.identities.filter((one) => one.schema !== record.schema || one.name !== record.name);
      await updateGuard(session, seen, { patch: { identities: rest } });
    });
    restored += 1;
  }
}

const exists = async (session: Session, { schema, name }: IdentityRecord): Promise<boolean> =>
  (await session.one(`SELECT 1 AS one FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass($1)`, [
    relation({ schema, name }),
  ])) !== undefined;
