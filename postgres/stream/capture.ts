/**
 * Capture by triggers, of a source whose log cannot be decoded: each changed row is written, as text, into a table of ours in the transaction that
 * changes it. Keeps true: what a client's statement does and who may run it stay as they are; everything of it goes again, the schema too when it
 * was made for this alone; locks are asked for with a timeout, table by table.
 */
import { createHash } from 'node:crypto';
import { shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { ident, literal, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import type { Patience } from '../switch/patience';
import { patiently } from '../switch/patience';

export interface CaptureNames {
  /** Table and function in schema pgshift, and the triggers. */
  readonly table: RelationName;
  readonly call: RelationName;
  readonly trigger: string;
}

export function captureNames(publication: string): CaptureNames {
  const key = createHash('sha256').update(publication).digest('hex').slice(0, 12);
  const schema = 'pgshift';
  // `_` sorts before letters, but rows are seen after every BEFORE trigger has had its say: these come after the statement's row.
  return {
    table: { schema, name: `changes_${key}` },
    call: { schema, name: `capture_${key}` },
    trigger: `_pgshift_capture_${key}`,
  };
}

const MADE_FOR_CAPTURE = 'pgshift: captured changes. Goes when the stream ends';

/** Values are printed as the stream reads them, whatever the client has set; the writer needs no privilege of its own. */
const functionSql = ({ table, call }: CaptureNames): string => `
CREATE OR REPLACE FUNCTION ${relation(call)}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $capture$
BEGIN
  INSERT INTO ${relation(table)} (rel, op, old_row, new_row)
  VALUES (TG_RELID, left(TG_OP, 1), CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN OLD::text END,
          CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN NEW::text END);
  RETURN NULL;
END
$capture$`;

/** Makes what is missing. Idempotent. From its end on every change of these tables is captured. Throws LockBudgetSpent, PrivilegeMissing. */
export async function installCapture(
  source: Session,
  names: CaptureNames,
  tables: readonly RelationName[],
  patience: Patience,
): Promise<void> {
  await inTransaction(source, async () => {
    const there = await source.one(`SELECT 1 AS one FROM pg_namespace AS n WHERE n.nspname = 'pgshift'`);
    if (!there) {
      await source.run(`CREATE SCHEMA pgshift`);
      await source.run(`COMMENT ON SCHEMA pgshift IS ${literal(MADE_FOR_CAPTURE)}`);
    }
    await source.run(
      `CREATE TABLE IF NOT EXISTS ${relation(names.table)} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         xid xid8 NOT NULL DEFAULT pg_current_xact_id(), rel oid NOT NULL, op "char" NOT NULL, old_row text, new_row text)`,
    );
    await source.run(
      `CREATE INDEX IF NOT EXISTS ${ident(`${names.table.name}_xid`)} ON ${relation(names.table)} (xid)`,
    );
    await source.run(functionSql(names));
  });
  const done = new Set((await capturedTables(source, names)).map(relation));
  for (const table of tables.filter((one) => !done.has(relation(one))))
    await patiently(source, `triggers on ${shownRelation(table)}`, patience, async () => {
      const on = `ON ${relation(table)} FOR EACH`;
      const call = `EXECUTE FUNCTION ${relation(names.call)}()`;
      // SHARE ROW EXCLUSIVE: whoever wrote before has ended.
      await source.run(`CREATE TRIGGER ${ident(names.trigger)} AFTER INSERT OR UPDATE OR DELETE ${on} ROW ${call}`);
      await source.run(`CREATE TRIGGER ${ident(`${names.trigger}_all`)} AFTER TRUNCATE ${on} STATEMENT ${call}`);
      for (const trigger of [names.trigger, `${names.trigger}_all`])
        await source.run(`ALTER TABLE ${relation(table)} ENABLE ALWAYS TRIGGER ${ident(trigger)}`);
    });
}

export const capturedTables = (source: Session, names: CaptureNames): Promise<RelationName[]> =>
  source.rows<RelationName & Record<string, unknown>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
       JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE t.tgname = $1 AND NOT t.tgisinternal ORDER BY 1, 2`,
    [names.trigger],
  );

/** Takes everything away. Idempotent. Throws LockBudgetSpent. */
export async function removeCapture(source: Session, names: CaptureNames, patience: Patience): Promise<void> {
  for (const table of await capturedTables(source, names))
    await patiently(source, `triggers on ${shownRelation(table)}`, patience, async () => {
      await source.run(`DROP TRIGGER IF EXISTS ${ident(names.trigger)} ON ${relation(table)}`);
      await source.run(`DROP TRIGGER IF EXISTS ${ident(`${names.trigger}_all`)} ON ${relation(table)}`);
    });
  const schema = await source.one<{ ours: boolean }>(
    `SELECT obj_description(n.oid, 'pg_namespace') = $1 AS ours FROM pg_namespace AS n WHERE n.nspname = 'pgshift'`,
    [MADE_FOR_CAPTURE],
  );
  if (!schema) return;
  await patiently(source, 'captured changes', patience, async () => {
    await source.run(`DROP FUNCTION IF EXISTS ${relation(names.call)}()`);
    await source.run(`DROP TABLE IF EXISTS ${relation(names.table)}`);
    const used = await source.one(
      `SELECT 1 AS one FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'pgshift' LIMIT 1`,
    );
    if (schema.ours && !used) await source.run('DROP SCHEMA pgshift');
  });
}
