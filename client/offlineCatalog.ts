/**
 * A catalogue for planning without a connection: the tables that the SQL names, with the columns that it names, and nothing known about them. Rules that
 * look at the statement alone hold; whatever looks at what is there (sizes, types, dependents) cannot be said.
 */
import type { Catalog, Cast, Column, Table } from '../plan/model/catalog';
import { loadParser, parseSql } from '../plan/sql/parse';

const COLUMN: Omit<Column, 'name' | 'number'> = {
  type: 'integer',
  typeName: { schema: 'pg_catalog', name: 'int4' },
  typmod: -1,
  notNull: false,
  default: null,
  generated: null,
  identity: null,
  ownedSequence: null,
  collation: null,
  statisticsTarget: null,
  storage: 'p',
  compression: null,
  options: [],
  acl: null,
  comment: null,
  isLocal: true,
  nullFraction: null,
  averageWidth: null,
};

const TABLE: Omit<Table, 'schema' | 'name' | 'columns'> = {
  kind: 'table',
  persistence: 'permanent',
  owner: 'postgres',
  rows: -1,
  heapBytes: 0,
  totalBytes: 0,
  indexes: [],
  constraints: [],
  incoming: [],
  triggers: [],
  policies: [],
  rules: [],
  statistics: [],
  dependents: [],
  parent: null,
  inherits: [],
  children: [],
  partitionKey: null,
  replicaIdentity: 'default',
  rowSecurity: false,
  options: [],
  comment: null,
  acl: null,
  extension: null,
};

const cast = (source: string, target: string): Cast => ({
  source,
  target,
  context: 'assignment',
  method: 'function',
  volatility: 'immutable',
});

type Tree = Readonly<Record<string, unknown>>;
const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Calls `visit` with every node of a tree and the key it stands under. */
function walk(value: unknown, visit: (key: string, node: Tree) => void, key = ''): void {
  if (Array.isArray(value)) for (const item of value as unknown[]) walk(item, visit, key);
  if (!isTree(value)) return;
  visit(key, value);
  for (const [inner, node] of Object.entries(value)) walk(node, visit, inner);
}

const text = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

/** Every name that the statement may mean as a column: too many do no harm, one too few would be `NoSuchObject`. */
function namesIn(tree: unknown): Set<string> {
  const names = new Set<string>();
  walk(tree, (key, node) => {
    if (key === 'String') names.add(text(node['sval']) ?? '');
    if (key === 'AlterTableCmd' || key === 'IndexElem' || key === 'ResTarget') names.add(text(node['name']) ?? '');
    if (key === 'RenameStmt') names.add(text(node['subname']) ?? '');
  });
  // What ADD COLUMN names is not there yet.
  walk(tree, (key, node) => {
    if (key === 'ColumnDef') names.delete(text(node['colname']) ?? '');
  });
  names.delete('');
  return names;
}

/** @param serverVersion as server_version_num. @throws Problem SqlSyntax. */
export async function offlineCatalog(sql: string, serverVersion: number): Promise<Catalog> {
  await loadParser();
  const tables = new Map<string, { schema: string; name: string; columns: Set<string> }>();
  const created = new Set<string>();
  const schemas = new Set(['public']);
  for (const { ast } of parseSql(sql).statements) {
    const names = namesIn(ast);
    const own = Object.values(ast)[0] as Tree;
    const creates = 'CreateStmt' in ast || 'ViewStmt' in ast || 'CreateTableAsStmt' in ast || 'CreateSeqStmt' in ast;
    walk(ast, (_key, node) => {
      const name = text(node['relname']);
      if (name === null) return;
      const schema = text(node['schemaname']) ?? 'public';
      schemas.add(schema);
      const id = `${schema}\0${name}`;
      if (creates && (node === own['relation'] || node === own['view'] || node === own['sequence'])) created.add(id);
      if (created.has(id)) return;
      const table = tables.get(id) ?? { schema, name, columns: new Set<string>() };
      for (const column of names) table.columns.add(column);
      tables.set(id, table);
    });
  }
  return {
    serverVersion,
    database: 'unknown',
    user: 'unknown',
    superuser: false,
    canSetReplicationRole: true,
    settings: {
      search_path: '"$user", public',
      TimeZone: 'UTC',
      DateStyle: 'ISO, MDY',
      IntervalStyle: 'postgres',
      default_tablespace: '',
    },
    schemas: [...schemas],
    tables: [...tables.values()].map(({ columns, ...name }) => ({
      ...TABLE,
      ...name,
      columns: [...columns].map((column, i) => ({ ...COLUMN, name: column, number: i + 1 })),
    })),
    types: [],
    casts: [
      cast('integer', 'bigint'),
      cast('integer', 'numeric'),
      cast('bigint', 'integer'),
      cast('numeric', 'integer'),
    ],
    functions: [],
    sequences: [],
    publications: [],
    extensions: [],
    statements: [],
  };
}
