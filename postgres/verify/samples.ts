/** Rows that differ, as the CLI shows them by its own connection: masked unless the values were asked for. */
import type { DifferenceKind, VerifiedTable, VerifyResult, VerifySample } from '../../plan/model/validation';
import type { Session } from '../session';

const MASK = '***';

interface Row extends Record<string, unknown> {
  readonly name: string;
  readonly key: Record<string, string | null>;
  readonly kind: DifferenceKind;
  readonly columns: { readonly name: string; readonly source: string | null; readonly target: string | null }[];
}

/** The result with the rows that differ under each table, at most `limit` of each. */
export async function withSamples(
  session: Session,
  of: { readonly name: string; readonly limit: number; readonly showValues: boolean },
  result: VerifyResult,
): Promise<VerifyResult> {
  const rows = await session.rows<Row>(
    `SELECT v.name, v.key, v.kind, v.columns FROM (
       SELECT d.table_name AS name, d.key, min(d.reason) AS kind,
              row_number() OVER (PARTITION BY d.table_name ORDER BY min(d.id)) AS n,
              coalesce(jsonb_agg(jsonb_build_object('name', d.column_name, 'source', d.source_value, 'target', d.target_value) ORDER BY d.id)
                FILTER (WHERE d.column_name IS NOT NULL), '[]') AS columns
         FROM pgshift.differences AS d WHERE d.migration_name = $1 AND d.rule IN ('verify', 'repaired') GROUP BY 1, 2) AS v
      WHERE v.n <= $2 ORDER BY v.name, v.n`,
    [of.name, of.limit],
  );
  const mask = (value: string | null): string | null => (value === null || of.showValues ? value : MASK);
  const samples = new Map<string, VerifySample[]>();
  for (const { name, key, kind, columns } of rows)
    samples.set(name, [
      ...(samples.get(name) ?? []),
      {
        key: Object.fromEntries(Object.entries(key).map(([column, value]) => [column, mask(value)])),
        kind,
        columns: columns.map((c) => ({ name: c.name, source: mask(c.source), target: mask(c.target) })),
      },
    ]);
  const tables = result.tables.map((table): VerifiedTable => {
    const found = samples.get(table.to ?? table.table);
    return found ? { ...table, samples: found } : table;
  });
  return { ...result, tables };
}
