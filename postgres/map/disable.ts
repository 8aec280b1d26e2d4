/**
 * Indexes, constraints and triggers of a table that is there already, off for the load and on again. Keeps true: what is taken off and how it comes
 * back are one transaction with the taking off; what came back and its record's end are one, too. So whoever finds a record (the next
 * attempt, the end of the run, its way back) knows that it is off, and puts it back.
 */
import { Problem } from '../../plan/model/errors';
import { ident, literal, relation } from '../ident';
import { pause } from '../ladder';
import type { CopyContext } from '../copy/context';
import type { TableRow } from '../copy/tables';
import { crashPoint } from '../crashPoints';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { isLockProblem } from '../toProblem';
import { checkSignal } from '../work';
import { targetOf } from './store';

interface Off {
  readonly kind: 'index' | 'constraint' | 'trigger';
  readonly name: string;
  readonly off: string;
  readonly restore: readonly string[];
}

interface Found extends Record<string, unknown> {
  readonly name: string;
  readonly definition: string;
  readonly comment: string | null;
  readonly detail: string;
  readonly schema: string;
}

/**
 * Those that guard no row: unique ones stay, and so do those that something else names (a clustering, a replica identity, a partition's parent, a
 * constraint) or that carry settings of their own which their definition does not say.
 */
const INDEXES = `
SELECT c.relname::text AS name, n.nspname::text AS schema, pg_get_indexdef(c.oid) AS definition, obj_description(c.oid, 'pg_class') AS comment,
       coalesce((SELECT s.spcname::text FROM pg_tablespace AS s WHERE s.oid = c.reltablespace), '') AS detail
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE i.indrelid = to_regclass($1) AND c.relkind = 'i' AND i.indisvalid AND NOT (i.indisunique OR i.indisexclusion OR i.indisclustered OR i.indisreplident)
   AND NOT EXISTS (SELECT 1 FROM pg_inherits AS h WHERE h.inhrelid = c.oid)
   AND NOT EXISTS (SELECT 1 FROM pg_constraint AS k WHERE k.conindid = c.oid)
   AND NOT EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = c.oid AND coalesce(a.attstattarget, -1) >= 0)
   AND NOT EXISTS (SELECT 1 FROM pg_depend AS d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
 ORDER BY c.oid`;

/** Foreign keys and checks of the table itself; those that a partition or child has from above stay. */
const CONSTRAINTS = `
SELECT k.conname::text AS name, '' AS schema, pg_get_constraintdef(k.oid) AS definition, obj_description(k.oid, 'pg_constraint') AS comment,
       CASE WHEN k.convalidated THEN 'valid' ELSE '' END AS detail
  FROM pg_constraint AS k
 WHERE k.conrelid = to_regclass($1) AND k.contype IN ('f', 'c') AND k.conislocal AND k.coninhcount = 0 AND k.conparentid = 0 ORDER BY k.contype, k.oid`;

/** Users' own; a foreign key's belong to their constraint. */
const TRIGGERS = `
SELECT g.tgname::text AS name, '' AS schema, '' AS definition, NULL AS comment, g.tgenabled::text AS detail
  FROM pg_trigger AS g WHERE g.tgrelid = to_regclass($1) AND NOT g.tgisinternal AND g.tgenabled <> 'D' ORDER BY g.tgname`;

const ENABLE: Readonly<Record<string, string>> = { O: 'ENABLE', A: 'ENABLE ALWAYS', R: 'ENABLE REPLICA' };

async function found(session: Session, table: string, wanted: readonly string[]): Promise<Off[]> {
  const offs: Off[] = [];
  const alter = `ALTER TABLE ${table}`;
  if (wanted.includes('triggers'))
    for (const { name, detail } of await session.rows<Found>(TRIGGERS, [table]))
      offs.push({
        kind: 'trigger',
        name,
        off: `${alter} DISABLE TRIGGER ${ident(name)}`,
        restore: [`${alter} ${ENABLE[detail] ?? 'ENABLE'} TRIGGER ${ident(name)}`],
      });
  if (wanted.includes('constraints'))
    for (const { name, definition, comment, detail } of await session.rows<Found>(CONSTRAINTS, [table])) {
      const bare = definition.replace(/ NOT VALID$/, '');
      const enforced = !/ NOT ENFORCED/.test(bare);
      offs.push({
        kind: 'constraint',
        name,
        off: `${alter} DROP CONSTRAINT ${ident(name)}`,
        restore: [
          `${alter} ADD CONSTRAINT ${ident(name)} ${bare}${enforced ? ' NOT VALID' : ''}`,
          ...(comment === null ? [] : [`COMMENT ON CONSTRAINT ${ident(name)} ON ${table} IS ${literal(comment)}`]),
          ...(detail === 'valid' && enforced ? [`${alter} VALIDATE CONSTRAINT ${ident(name)}`] : []),
        ],
      });
    }
  if (wanted.includes('indexes'))
    for (const { name, schema, definition, comment, detail } of await session.rows<Found>(INDEXES, [table])) {
      const index = relation({ schema, name });
      offs.push({
        kind: 'index',
        name,
        off: `DROP INDEX ${index}`,
        restore: [
          ...(detail === '' ? [] : [`SET LOCAL default_tablespace = ${literal(detail)}`]),
          definition,
          ...(comment === null ? [] : [`COMMENT ON INDEX ${index} IS ${literal(comment)}`]),
        ],
      });
    }
  return offs;
}

/** Runs `work` in a transaction whose locks are never waited for longer than lockTimeout; tries again until lockBudget is spent. */
async function patiently(
  context: CopyContext,
  session: Session,
  what: string,
  work: () => Promise<void>,
): Promise<void> {
  const until = Date.now() + context.lockBudgetMs;
  for (let sleep = 50; ; sleep = Math.min(sleep * 2, 5_000)) {
    checkSignal(context.signal);
    try {
      await inTransaction(session, async () => {
        await session.run(`SET LOCAL lock_timeout = ${Math.max(50, Math.round(context.lockTimeoutMs))}`);
        await work();
      });
      return;
    } catch (error) {
      if (!isLockProblem(error)) throw error;
      if (Date.now() > until)
        throw new Problem('LockBudgetSpent', `${what}: its lock could not be had within lockBudget`);
      await pause(sleep, context.signal);
    }
  }
}

/** Takes off what the plan names. What is off already (of an earlier attempt) is on the list, and stays off. */
export async function takeOff(context: CopyContext, session: Session, table: TableRow): Promise<void> {
  const wanted = context.control.load?.disable ?? [];
  if (wanted.length === 0) return;
  const to = relation(targetOf(table, table.map));
  await patiently(context, session, to, async () => {
    const there = await session.one<{ seq: number }>(
      `SELECT coalesce(max(d.seq), 0) AS seq FROM pgshift.copy_disabled AS d WHERE d.migration_name = $1 AND d.table_no = $2`,
      [context.migration, table.no],
    );
    const offs = await found(session, to, wanted);
    for (const [index, off] of offs.entries()) {
      await session.run(
        `INSERT INTO pgshift.copy_disabled (migration_name, table_no, seq, kind, name, restore_sql) VALUES ($1, $2, $3, $4, $5, $6::text[])`,
        [context.migration, table.no, (there?.seq ?? 0) + index + 1, off.kind, off.name, [...off.restore]],
      );
      await session.run(off.off);
    }
  });
  crashPoint('load.disabled');
}

interface Record_ extends Record<string, unknown> {
  readonly no: number;
  readonly seq: number;
  readonly kind: string;
  readonly name: string;
  readonly sql: string[];
}

/** Puts back what is off, each in its own transaction: of one table, or of all. @throws Problem naming what does not come back. */
export async function putBack(context: CopyContext, session: Session, no: number | null): Promise<void> {
  const offs = await session.rows<Record_>(
    `SELECT d.table_no AS no, d.seq, d.kind, d.name, d.restore_sql AS sql FROM pgshift.copy_disabled AS d
      WHERE d.migration_name = $1 AND ($2::int IS NULL OR d.table_no = $2) ORDER BY d.kind = 'index' DESC, d.kind = 'constraint' DESC, d.table_no, d.seq`,
    [context.migration, no],
  );
  for (const off of offs) {
    await context.admit();
    try {
      await patiently(context, session, `${off.kind} ${off.name}`, async () => {
        const mine = await session.run(
          `DELETE FROM pgshift.copy_disabled WHERE migration_name = $1 AND table_no = $2 AND seq = $3`,
          [context.migration, off.no, off.seq],
        );
        if (mine === 0) return;
        for (const sql of off.sql) await session.run(sql);
      });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      throw new Problem(error.code, `${off.kind} ${off.name} does not come back: ${error.message}`, {
        hint: error.hint,
        details: error.details,
      });
    }
  }
}
