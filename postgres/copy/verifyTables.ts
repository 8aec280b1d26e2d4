/**
 * Compares each copied table with what the source's snapshot held: count and fingerprint. Keeps true: a table without a figure of the source is
 * not equal; unknown is never a pass. The source's side was read while the snapshot of its copy was there.
 */
import type { Session } from '../session';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { fingerprintOf } from './fingerprint';
import type { FingerprintForm } from './fingerprint';
import type { StoredProof } from '../map/table';
import { compareTracked } from '../map/tracked';
import { relation } from '../ident';
import type { Pairs } from './pairs';
import { atOnce } from './pairs';
import { shown } from './tables';

export interface ComparedTable {
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
  readonly different: readonly ComparedTable[];
  /** The largest ones, for the report. */
  readonly shown: readonly ComparedTable[];
  /** What the proof does not cover. */
  readonly warnings: readonly string[];
}

interface Row extends Record<string, unknown> {
  readonly no: number;
  readonly schema: string;
  readonly name: string;
  readonly form: FingerprintForm | 'mapped';
  readonly rows: string | null;
  readonly sum: string | null;
  readonly proof: (Partial<StoredProof> & { readonly sample?: readonly string[] | null }) | null;
}

interface Found {
  readonly rows: number;
  readonly sum: string;
  readonly differing: number;
  /** Rows that somebody wrote since they were merged. */
  readonly since: number;
}

const SHOWN = 50;

/** Every table that is done; each result is kept in the target. */
export async function verifyTables(context: CopyContext, control: Session, pairs: Pairs): Promise<Verified> {
  const rows = await control.rows<Row>(
    `SELECT t.table_no AS no, t.schema_name AS schema, t.table_name AS name, t.fingerprint AS form, t.source_rows::text AS rows,
            t.source_fingerprint AS sum, t.proof
       FROM pgshift.copy_tables AS t WHERE t.migration_name = $1 AND t.state = 'done' ORDER BY t.table_no`,
    [context.migration],
  );
  const all: ComparedTable[] = [];
  const warnings: string[] = [];
  await atOnce(context.control.parallel.tables, rows, async (row) => {
    checkSignal(context.signal);
    await context.admit();
    const found = await pairs.use(({ target }) => foundOf(target, context.migration, row));
    await control.run(
      `UPDATE pgshift.copy_tables SET target_rows = $3, target_fingerprint = $4 WHERE migration_name = $1 AND table_no = $2`,
      [context.migration, row.no, found.rows, found.sum],
    );
    const sourceRows = row.rows === null ? null : Number(row.rows);
    // What somebody else wrote since can neither be proven nor be held against the copy: it is told.
    const counted = sourceRows === found.rows + found.since;
    const equal = found.since > 0 ? counted && found.differing === 0 : counted && row.sum === found.sum;
    if (found.since > 0)
      warnings.push(
        `${shown(row)}: ${found.since} of the merged rows were written by somebody else since, and are not compared`,
      );
    all.push({
      table: shown(row),
      sourceRows,
      targetRows: found.rows,
      fingerprintSource: row.sum,
      fingerprintTarget: found.sum,
      equal,
    });
  });
  return {
    tables: all.length,
    rows: all.reduce((sum, { targetRows }) => sum + targetRows, 0),
    different: all.filter(({ equal }) => !equal).slice(0, SHOWN),
    shown: all.slice(0, SHOWN),
    warnings: warnings.slice(0, SHOWN),
  };
}

async function foundOf(target: Session, migration: string, row: Row): Promise<Found> {
  const { proof } = row;
  if (row.form !== 'mapped')
    return {
      ...(await fingerprintOf(
        target,
        row,
        proof?.columns ?? (await columnsOf(target, row)),
        row.form,
        proof?.sample ?? null,
      )),
      differing: 0,
      since: 0,
    };
  const { hash, target: to } = proof ?? {};
  if (hash === undefined || to === undefined) return { rows: -1, sum: 'unknown', differing: 1, since: 0 };
  // Expressions of the map are not asked here: the target's own columns alone.
  if (proof?.tracked === true)
    return compareTracked(target, { migration, no: row.no, tracked: proof as StoredProof, hash });
  const found = await target.one<{ rows: number; sum: string }>(
    `SELECT count(*)::float8 AS rows, coalesce(sum(${hash}), 0)::text AS sum FROM ${proof?.partitioned ? '' : 'ONLY '}${relation(to)} AS t`,
  );
  return { rows: found?.rows ?? -1, sum: found?.sum ?? 'unknown', differing: 0, since: 0 };
}

async function columnsOf(target: Session, { schema, name }: Row): Promise<string[]> {
  const rows = await target.rows<{ name: string }>(
    `SELECT a.attname::text AS name FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [schema, name],
  );
  return rows.map((row) => row.name);
}
