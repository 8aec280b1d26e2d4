/**
 * Statements that applications really send and that count on the order of columns: INSERT and COPY without a column list, SELECT *.
 * From pg_stat_statements when this role may read it; its texts are normalised ($1 for constants). Empty is no proof of absence.
 */
import type { StatementUse } from '../../plan/model/catalog';
import { ident, literal } from '../ident';
import type { ReadRows } from './session';

const MOST = 500;
const NAME = String.raw`(?:"(?:[^"]|"")+"|[^\s"(),;.]+)`;
const RELATION = String.raw`${NAME}(?:\s*\.\s*${NAME})?`;

/** Postgres' regular expressions (~*). Only statements whose constants are normalised, and COPY, whose text holds none. */
const POSITIONAL = [
  String.raw`^\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*)*(?:insert|with)\y.*?\yinto\s+${RELATION}(?:\s+as\s+${NAME})?\s+(?:overriding\s|values\s*\(|select\y|table\s|with\s|\(\s*(?:select|with|values|table)\y)`,
  String.raw`^\s*copy\s+(?:binary\s+)?${RELATION}\s+(?:from|to)\y`,
  String.raw`^\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*)*(?:select|with|insert|update|delete|merge)\y.*(?:\yselect(?:\s+all|\s+distinct)?\s+|\yreturning\s+|,\s*|\.)\*\s*(?:,|\yfrom\y|\)|;|$)`,
  String.raw`^\s*select(?:\s+all|\s+distinct)?\s+(?:${RELATION}\s*\.\s*)?\*`,
];

export async function readStatements(read: ReadRows): Promise<StatementUse[]> {
  const [extension] = await read<{ schema: string }>(`
    SELECT n.nspname AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'pg_stat_statements'
    WHERE e.extname = 'pg_stat_statements'
      -- Defined only where the library was preloaded; without that the view raises.
      AND current_setting('pg_stat_statements.max', true) IS NOT NULL
      AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')`);
  if (!extension) return [];
  const matches = POSITIONAL.map((pattern) => `s.query ~* ${literal(pattern)}`).join(' OR ');
  return read<StatementUse>(`
    SELECT left(s.query, 4000) AS text, sum(s.calls)::float8 AS calls
    FROM ${ident(extension.schema)}.pg_stat_statements s
    WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (${matches})
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ${MOST}`);
}
