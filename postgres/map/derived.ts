/**
 * The target's table of `schema: create` where a map changes its shape: the source's columns under their new names, without those that are left out, and
 * behind them what is computed. Keeps true: keys and plain indexes come over where all their columns do; what does not come is listed, not
 * dropped in silence.
 */
import { shown, shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import type { TableMapping } from '../../plan/model/tableMapping';
import { changesShape } from '../../plan/model/tableMapping';
import { ident, identList, relation } from '../ident';
import type { Session } from '../session';
import { placed } from './placed';
import type { Origin } from './resolve';
import { originsOf, readName } from './resolve';
import { fromOf } from './select';
import type { MapTable, TableColumn } from './tables';

interface Typed extends Record<string, unknown> {
  readonly type: string;
  readonly typeOid: number;
  readonly category: string;
}

/** The type that the source gives an expression over its row; @throws what Postgres says of it. */
async function typeOf(source: Session, table: RelationName, sql: string): Promise<Typed | undefined> {
  // Perhaps inside the snapshot's transaction: none of our own.
  await source.run(`SET search_path = pg_catalog, public`);
  let found: { oid: string } | undefined;
  try {
    found = await source.one<{ oid: string }>(
      `SELECT pg_typeof((SELECT ${sql} FROM ${fromOf({ source: table })} LIMIT 0))::oid::text AS oid`,
    );
  } finally {
    await source.run(`SET search_path = pg_catalog`).catch(() => undefined);
  }
  return source.one<Typed>(
    `SELECT format_type(t.oid, NULL) AS type, t.oid::int8::float8 AS "typeOid", t.typcategory::text AS category FROM pg_type AS t WHERE t.oid = $1::oid`,
    [found?.oid ?? '25'],
  );
}

/** As it will be on the target. */
export async function derivedTable(
  source: Session,
  mapping: TableMapping,
  from: MapTable,
  path: string,
  to: RelationName,
): Promise<MapTable> {
  if (!changesShape(mapping)) return { ...from, schema: to.schema, name: to.name };
  const origins = originsOf(mapping, from, path);
  const omitted = new Set(mapping.omit.map(readName));
  const renamed = new Map<string, string>();
  for (const [name, { from: column }] of origins)
    if (column && !renamed.has(column.name)) renamed.set(column.name, name);
  const columns: TableColumn[] = [];
  const done = new Set<string>();
  for (const column of from.columns) {
    const name = renamed.get(column.name) ?? column.name;
    // Under its old name it stays only where it was not given a new one.
    if (omitted.has(column.name) || done.has(name)) continue;
    const origin = origins.get(name);
    if (origin && origin.from?.name !== column.name && name === column.name) {
      columns.push(await computed(source, from, name, origin, column));
    } else columns.push({ ...column, name, generated: false, hasDefault: false });
    done.add(name);
  }
  for (const [name, origin] of origins)
    if (!done.has(name))
      columns.push(
        origin.from
          ? { ...origin.from, name, generated: false, identity: '', hasDefault: false }
          : await computed(source, from, name, origin, null),
      );
  const plain = plainNames(columns, mapping, from, path);
  const keys = from.keys.flatMap((key) => {
    const names = key.map((name) => plain.get(name));
    return names.every((name) => name !== undefined) ? [names as string[]] : [];
  });
  return { schema: to.schema, name: to.name, oid: '0', partitioned: false, columns, keys };
}

async function computed(
  source: Session,
  table: RelationName,
  name: string,
  { sql, path }: Origin,
  old: TableColumn | null,
): Promise<TableColumn> {
  const typed = await placed(path, () => typeOf(source, table, sql));
  if (old && old.typeOid === typed?.typeOid)
    return { ...old, notNull: false, generated: false, identity: '', hasDefault: false };
  const type = typed?.type ?? 'text';
  return {
    name,
    type,
    cast: type,
    typeOid: typed?.typeOid ?? 25,
    category: typed?.category ?? 'S',
    notNull: false,
    generated: false,
    identity: '',
    hasDefault: false,
    collation: null,
  };
}

/** Source's column -> target's, of those that come over as they are. */
function plainNames(
  columns: readonly TableColumn[],
  mapping: TableMapping,
  from: MapTable,
  path: string,
): Map<string, string> {
  const origins = originsOf(mapping, from, path);
  const names = new Map<string, string>();
  for (const { name } of columns) {
    const origin = origins.get(name);
    const old = origin ? origin.from?.name : from.columns.find((column) => column.name === name)?.name;
    if (old !== undefined && !names.has(old)) names.set(old, name);
  }
  return names;
}

export interface MadeItem {
  readonly section: 'pre' | 'post';
  readonly kind: string;
  readonly tag: string;
  readonly sql: string;
  readonly drop: string | null;
}

interface IndexRow extends Record<string, unknown> {
  readonly name: string;
  readonly method: string;
  readonly unique: boolean;
  readonly prime: boolean;
  readonly constraint: string | null;
  readonly columns: (string | null)[];
  readonly plain: boolean;
}

const INDEXES = `
SELECT c.relname::text AS name, m.amname::text AS method, i.indisunique AS unique, i.indisprimary AS prime,
       (SELECT k.conname::text FROM pg_constraint AS k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u') AND NOT k.condeferrable) AS constraint,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS x(num, n)
               LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = x.num AND x.num > 0 ORDER BY x.n) AS columns,
       i.indpred IS NULL AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts AND NOT i.indisexclusion
         AND NOT EXISTS (SELECT 1 FROM unnest(i.indoption::int2[]) AS o WHERE o <> 0)
         AND NOT EXISTS (SELECT 1 FROM unnest(i.indclass::oid[]) AS o JOIN pg_opclass AS p ON p.oid = o WHERE NOT p.opcdefault) AS plain
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
 WHERE i.indrelid = $1::oid AND i.indisvalid ORDER BY i.indisprimary DESC, c.oid`;

interface Left extends Record<string, unknown> {
  readonly what: string;
}

/** What belongs to the source's table and is not made for the new one. */
const LEFT = `
SELECT format('%s %s', CASE k.contype WHEN 'f' THEN 'foreign key' WHEN 'c' THEN 'check' ELSE 'constraint' END, k.conname) AS what
  FROM pg_constraint AS k WHERE (k.conrelid = $1::oid AND k.contype IN ('f', 'c', 'x')) OR (k.confrelid = $1::oid AND k.contype = 'f')
UNION ALL SELECT format('trigger %s', g.tgname) FROM pg_trigger AS g WHERE g.tgrelid = $1::oid AND NOT g.tgisinternal
UNION ALL SELECT format('policy %s', p.polname) FROM pg_policy AS p WHERE p.polrelid = $1::oid
UNION ALL SELECT 'grants' FROM pg_class AS c WHERE c.oid = $1::oid AND c.relacl IS NOT NULL
UNION ALL SELECT format('default of %s', a.attname) FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 WHERE d.adrelid = $1::oid AND a.attgenerated = '' AND pg_get_expr(d.adbin, d.adrelid) !~ '^nextval'
UNION ALL SELECT format('view %s', v.oid::regclass) FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
   JOIN pg_class AS v ON v.oid = r.ev_class WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = $1::oid AND v.relkind IN ('v', 'm')
   GROUP BY v.oid`;

/** The table itself before the rows, its keys and indexes after them; and what the source's table has that this one does not. */
export async function makeItems(
  source: Session,
  mapping: TableMapping,
  from: MapTable,
  to: MapTable,
  path: string,
  keep: { readonly indexes: boolean; readonly constraints: boolean },
): Promise<{ items: MadeItem[]; left: string[] }> {
  const plain = plainNames(to.columns, mapping, from, path);
  const serial = await source.rows<{ name: string }>(
    `SELECT a.attname::text AS name FROM pg_attribute AS a JOIN pg_depend AS d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'a'
       JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S' WHERE a.attrelid = $1::oid AND d.classid = 'pg_class'::regclass`,
    [from.oid],
  );
  const counted = new Set(serial.flatMap(({ name }) => plain.get(name) ?? []));
  const columns = to.columns.map(({ name, type, collation, notNull, identity }) =>
    [
      `${ident(name)} ${type}`,
      collation === null ? '' : `COLLATE ${collation}`,
      identity === 'a'
        ? 'GENERATED ALWAYS AS IDENTITY'
        : identity === 'd' || counted.has(name)
          ? 'GENERATED BY DEFAULT AS IDENTITY'
          : '',
      notNull ? 'NOT NULL' : '',
    ]
      .filter(Boolean)
      .join(' '),
  );
  const tag = shownRelation(to);
  const items: MadeItem[] = [
    {
      section: 'pre',
      kind: 'TABLE',
      tag,
      sql: `CREATE TABLE ${relation(to)} (${columns.join(', ')})`,
      drop: `DROP TABLE IF EXISTS ${relation(to)}`,
    },
  ];
  const left = (await source.rows<Left>(LEFT, [from.oid])).map(({ what }) => what);
  for (const index of await source.rows<IndexRow>(INDEXES, [from.oid])) {
    const names = index.columns.map((name) => (name === null ? undefined : plain.get(name)));
    const wanted = index.constraint === null ? keep.indexes : keep.constraints;
    if (!wanted) continue;
    if (!index.plain || names.some((name) => name === undefined)) {
      left.push(`index ${shown(index.name)}`);
      continue;
    }
    const list = identList(names as string[]);
    items.push({
      section: 'post',
      kind: index.constraint === null ? 'INDEX' : 'CONSTRAINT',
      tag: `${tag} ${index.name}`,
      sql:
        index.constraint === null
          ? `CREATE ${index.unique ? 'UNIQUE ' : ''}INDEX ${ident(index.name)} ON ${relation(to)} USING ${ident(index.method)} (${list})`
          : `ALTER TABLE ${relation(to)} ADD CONSTRAINT ${ident(index.constraint)} ${index.prime ? 'PRIMARY KEY' : 'UNIQUE'} (${list})`,
      drop: null,
    });
  }
  return { items, left };
}
