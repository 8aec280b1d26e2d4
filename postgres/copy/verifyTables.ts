/**
 * Compares each copied table with what the source's snapshot held: count and fingerprint. Keeps true: a table without a figure of the source is
 * not equal; unknown is never a pass. The source's side was read while the snapshot of its copy was there.
 */
import type { Session } from '../session';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { fingerprintOf } from './fingerprint';
import type { FingerprintForm } from './fingerprint';
import type { Pairs } from './pairs';
import { atOnce } from './pairs';
import { shown } from './tables';

export interface VerifiedTable {
  readonly table: string;
  readonly sourceRows: number | null;
  readonly targetRows: number;
  readonly fingerprintSource: string | null;
  readonly fingerprintTarget: string;
  readonly equal: boolean;
}

export interface Verified {
  readonly tables: number;
  readonly rows: number;
  readonly different: readonly VerifiedTable[];
  /** The largest ones, for the report. */
  readonly shown: readonly VerifiedTable[];
}

interface Row extends Record<string, unknown> {
  readonly no: number;
  readonly schema: string;
  readonly name: string;
  readonly form: FingerprintForm;
  readonly rows: string | null;
  readonly sum: string | null;
}

const SHOWN = 50;

/** Every table that is done; each result is kept in the target. */
export async function verifyTables(context: CopyContext, control: Session, pairs: Pairs): Promise<Verified> {
  const rows = await control.rows<Row>(
    `SELECT t.table_no AS no, t.schema_name AS schema, t.table_name AS name, t.fingerprint AS form, t.source_rows::text AS rows,
            t.source_fingerprint AS sum
       FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.state = 'done' ORDER BY t.table_no`,
    [context.migration],
  );
  const all: VerifiedTable[] = [];
  await atOnce(context.control.parallel.tables, rows, async (row) => {
    checkSignal(context.signal);
    await context.admit();
    const found = await pairs.use(async ({ target }) =>
      fingerprintOf(target, row, await columnsOf(target, row), row.form),
    );
    await control.run(
      `UPDATE pgshift.copy_tables SET target_rows = $3, target_fingerprint = $4 WHERE migration_name = $1 AND table_no = $2`,
      [context.migration, row.no, found.rows, found.sum],
    );
    const sourceRows = row.rows === null ? null : Number(row.rows);
    all.push({
      table: shown(row),
      sourceRows,
      targetRows: found.rows,
      fingerprintSource: row.sum,
      fingerprintTarget: found.sum,
      equal: sourceRows === found.rows && row.sum === found.sum,
    });
  });
  return {
    tables: all.length,
    rows: all.reduce((sum, { targetRows }) => sum + targetRows, 0),
    different: all.filter(({ equal }) => !equal).slice(0, SHOWN),
    shown: all.slice(0, SHOWN),
  };
}

async function columnsOf(target: Session, { schema, name }: Row): Promise<string[]> {
  const rows = await target.rows<{ name: string }>(
    `SELECT a.attname::text AS name FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [schema, name],
  );
  return rows.map((row) => row.name);
}
