/**
 * What a captured table becomes on the target: columns, types to read their text as, the key that finds a row. Keeps true: a column that the target
 * lacks and nobody left out is an error, never dropped in silence; text is read as the type without its length, so that a value that is too long
 * is refused by the column and not cut by a cast.
 */
import { Problem } from '../../plan/model/errors';
import { shown, shownRelation } from '../../plan/model/quote';
import type { RelationName } from '../../plan/model/steps';
import { ident, relation as quoted } from '../ident';
import type { Session } from '../session';
import type { WireRelation } from './decode';
import type { IsNew } from './from';
import type { CapturedSql, TableMapping } from './types';

export interface PlanColumn {
  readonly name: string;
  /** Over alias `old`. */
  readonly sql: string;
  /** Positions in the captured row that it reads. */
  readonly inputs: readonly number[];
  /** May be SET: an identity that is always generated may not. */
  readonly settable: boolean;
  /** To compare whole rows as. */
  readonly type: string;
}

export interface KeyPart {
  readonly name: string;
  /** Position in the captured row. */
  readonly input: number;
  /** `=` of its type, qualified. */
  readonly equals: string;
}

export interface TablePlan {
  readonly relation: WireRelation;
  readonly source: RelationName;
  readonly to: RelationName;
  readonly label: string;
  /** As it stands after UPDATE, DELETE FROM and TRUNCATE. */
  readonly only: string;
  readonly columns: readonly PlanColumn[];
  /** Type of each captured column inside `old`; null = nothing reads it. */
  readonly types: readonly (string | null)[];
  /** null = rows are found by all their values. */
  readonly key: readonly KeyPart[] | null;
  /** Over alias `old`: only rows for which it is true are there. */
  readonly filter: { readonly sql: string; readonly inputs: readonly number[] } | null;
  /** Has expressions of a plan, which are looked up where the plan's are. */
  readonly computed: boolean;
  readonly isNew: IsNew;
}

interface TargetColumn extends Record<string, unknown> {
  readonly name: string;
  readonly type: string;
  readonly generated: boolean;
  readonly identity: string;
  readonly equals: string;
}

interface TargetTable {
  readonly kind: string;
  readonly columns: readonly TargetColumn[];
  /** The key's columns, of a table whose rows can be told apart. */
  readonly key: readonly string[] | null;
}

/** `-1` makes format_type write bpchar and "bit", whose plain names would mean a length of one. */
const COLUMNS = `
WITH RECURSIVE base(col, oid) AS (
  SELECT a.attnum, a.atttypid FROM pg_attribute AS a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.col, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.oid WHERE t.typtype = 'd')
SELECT a.attname::text AS name, format_type(t.oid, -1) AS type, a.attgenerated <> '' AS generated, a.attidentity::text AS identity,
       'OPERATOR(' || quote_ident(coalesce((SELECT n.nspname FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace
                       WHERE o.oprname = '=' AND o.oprleft = t.oid AND o.oprright = t.oid ORDER BY n.nspname <> 'pg_catalog' LIMIT 1),
                     'pg_catalog')) || '.=)' AS equals
  FROM pg_attribute AS a JOIN base AS b ON b.col = a.attnum JOIN pg_type AS t ON t.oid = b.oid AND t.typtype <> 'd'
 WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;

/** The unique, whole, never null key of the table $1, the primary one first. */
export const KEY = `
SELECT jsonb_agg(a.attname ORDER BY k.n) AS key
  FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
   AND k.n <= i.indnkeyatts
 GROUP BY i.indexrelid, i.indisprimary HAVING bool_and(a.attnotnull)
 ORDER BY i.indisprimary DESC, count(*), i.indexrelid LIMIT 1`;

async function readTarget(session: Session, to: RelationName): Promise<TargetTable> {
  const found = await session.one<{ oid: string; kind: string }>(
    `SELECT c.oid::text AS oid, c.relkind::text AS kind FROM pg_class AS c WHERE c.oid = to_regclass($1)`,
    [quoted(to)],
  );
  if (!found || !['r', 'p'].includes(found.kind))
    throw new Problem('Drift', `${session.name}: ${shownRelation(to)} is not there any more`);
  const columns = await session.rows<TargetColumn>(COLUMNS, [found.oid]);
  const key = await session.one<{ key: string[] }>(KEY, [found.oid]);
  return { kind: found.kind, columns, key: key?.key ?? null };
}

/** Names of the source's types, for expressions over the captured row. */
async function sourceTypes(source: Session, oids: readonly number[]): Promise<ReadonlyMap<number, string>> {
  const rows = await source.rows<{ oid: string; type: string }>(
    `SELECT t.oid::text AS oid, format_type(t.oid, -1) AS type FROM pg_type AS t WHERE t.oid = ANY ($1::oid[])`,
    [[...oids]],
  );
  return new Map(rows.map(({ oid, type }) => [Number(oid), type]));
}

const straight = (relation: WireRelation, target: TargetTable): TableMapping['columns'] => {
  const generated = new Set(target.columns.filter((column) => column.generated).map(({ name }) => name));
  return relation.columns
    .filter(({ name }) => !generated.has(name))
    .map(({ name }) => ({ name, value: { from: name } }));
};

/** `source` is asked only when the mapping has expressions. Throws Drift when the two sides do not fit. */
export async function planTable(
  relation: WireRelation,
  mapping: TableMapping | null,
  isNew: IsNew,
  { source, target }: { readonly source: Session; readonly target: Session },
): Promise<TablePlan> {
  const from: RelationName = { schema: relation.schema, name: relation.name };
  const to = mapping?.to ?? from;
  const there = await readTarget(target, to);
  const byName = new Map(there.columns.map((column) => [column.name, column]));
  const positions = new Map(relation.columns.map(({ name }, index) => [name, index]));
  const wanted = mapping?.columns ?? straight(relation, there);
  const expressions = wanted.some(({ value }) => 'sql' in value) || mapping?.where !== undefined;
  const named = expressions
    ? await sourceTypes(
        source,
        relation.columns.map(({ typeOid }) => typeOid),
      )
    : null;
  const types: (string | null)[] = relation.columns.map(({ typeOid }) => named?.get(typeOid) ?? null);
  const label = shownRelation(from);
  const drift = (what: string): Problem =>
    new Problem('Drift', `${label}: ${what}`, { hint: 'make both sides fit each other, then retry' });
  const readBy = ({ reads }: CapturedSql): number[] =>
    reads === undefined
      ? [...positions.values()]
      : reads.map((read) => {
          const at = positions.get(read);
          if (at === undefined) throw drift(`the source has no column ${shown(read)}`);
          return at;
        });
  const columns = wanted.map(({ name, value }): PlanColumn => {
    const column = byName.get(name);
    if (!column) throw drift(`the target has no column ${shown(name)}`);
    const settable = column.identity !== 'a';
    const common = { name, settable, type: column.type };
    if ('sql' in value) return { ...common, sql: `(${value.sql})::${column.type}`, inputs: readBy(value) };
    const at = positions.get(value.from);
    if (at === undefined) throw drift(`the source has no column ${shown(value.from)}`);
    types[at] ??= column.type;
    return { ...common, sql: `old.${ident(value.from)}::${column.type}`, inputs: [at] };
  });
  const plainOf = new Map(wanted.flatMap(({ name, value }) => ('from' in value ? [[value.from, name] as const] : [])));
  const part = (sourceName: string, targetName: string): KeyPart => ({
    name: targetName,
    input: positions.get(sourceName) ?? 0,
    equals: byName.get(targetName)?.equals ?? 'OPERATOR(pg_catalog.=)',
  });
  let key: KeyPart[] | null = null;
  if (relation.identity === 'f' || relation.identity === 'n') {
    const backwards = new Map([...plainOf].map(([sourceName, targetName]) => [targetName, sourceName]));
    if (there.key?.every((name) => backwards.has(name)))
      key = there.key.map((name) => part(backwards.get(name) ?? '', name));
  } else {
    key = relation.columns
      .filter((column) => column.key)
      .map(({ name }) => {
        const targetName = plainOf.get(name);
        if (targetName === undefined) throw drift(`its key column ${shown(name)} has no place on the target`);
        return part(name, targetName);
      });
    if (key.length === 0) key = null;
  }
  const only = `${there.kind === 'r' ? 'ONLY ' : ''}${quoted(to)}`;
  const filter = mapping?.where ? { sql: mapping.where.sql, inputs: readBy(mapping.where) } : null;
  return { relation, source: from, to, label, only, columns, types, key, filter, computed: expressions, isNew };
}
