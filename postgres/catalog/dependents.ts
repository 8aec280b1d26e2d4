/**
 * What else needs a relation or its columns: views with all that is needed to make them again, functions, policies and rules of other
 * relations, publications, foreign keys. From pg_depend alone: what Postgres itself would refuse to drop without CASCADE.
 * A body in text (plpgsql, SQL as a string) leaves no such trace; FunctionInfo.source is for that.
 */
import type { Column, DependentObject, Table, ViewDefinition } from '../../plan/model/catalog';
import type { RelationName } from '../../plan/model/steps';
import { relationJson } from './relations';
import { USER_SCHEMA } from './session';

/** `rel` is needed by the object; `view` is the object's own oid when it is a view. */
export type DependentRow = Omit<DependentObject, 'view'> & { readonly rel: number; readonly view: number | null };

export interface ViewRow {
  readonly oid: number;
  readonly query: string;
  readonly populated: boolean;
}

/**
 * Three ways to lean on a relation: on it or its columns, on one of its constraints (GROUP BY a primary key), on its row type. One branch
 * for each kind of object, so that the indexes, defaults and constraints of 10,000 tables are never joined. What pg_class rows lean on
 * pg_class rows for is left out: indexes, children, toast, owned sequences.
 */
export const DEPENDENTS = `
  WITH uses AS (
    SELECT d.classid, d.objid, d.refobjid AS rel, d.refobjsubid::int AS col, r.ev_class AS owner, r.rulename
    FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE d.refclassid = 'pg_class'::regclass AND d.deptype IN ('n', 'a')
    UNION
    SELECT d.classid, d.objid, k.conrelid, key.num, r.ev_class, r.rulename
    FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
      JOIN pg_constraint k ON k.oid = d.refobjid AND k.conrelid <> 0, unnest(k.conkey) AS key(num)
    WHERE d.refclassid = 'pg_constraint'::regclass
    UNION
    SELECT 'pg_constraint'::regclass, k.oid, k.confrelid, key.num, k.conrelid, NULL
    FROM pg_constraint k, unnest(k.confkey) AS key(num) WHERE k.contype = 'f'
    UNION
    SELECT d.classid, d.objid, d.refobjid, d.refobjsubid, coalesce(p.polrelid, f.adrelid, g.tgrelid), NULL
    FROM pg_depend d
    LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
    WHERE d.refclassid = 'pg_class'::regclass AND (d.deptype = 'n' OR d.classid = 'pg_publication_rel'::regclass)
      AND d.classid NOT IN ('pg_class'::regclass, 'pg_rewrite'::regclass, 'pg_constraint'::regclass, 'pg_statistic_ext'::regclass, 'pg_type'::regclass)
      AND g.tgisinternal IS NOT TRUE
    UNION
    SELECT d.classid, d.objid, coalesce(nullif(t.typrelid, 0), e.typrelid), 0, coalesce(o.oid, r.ev_class), r.rulename
    FROM pg_depend d JOIN pg_type t ON t.oid = d.refobjid
    LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
    LEFT JOIN pg_class o ON d.classid = 'pg_class'::regclass AND o.oid = d.objid
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    WHERE d.refclassid = 'pg_type'::regclass AND d.deptype = 'n' AND d.objid >= 16384 AND coalesce(nullif(t.typrelid, 0), e.typrelid) <> 0
  ), kept AS (
    SELECT u.* FROM uses u JOIN pg_class c ON c.oid = u.rel JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE ${USER_SCHEMA} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND u.owner IS DISTINCT FROM u.rel
  ), named AS (
    SELECT k.rel, k.classid, k.objid, k.owner, k.rulename,
      array_remove(array_agg(DISTINCT a.attname::text), NULL) AS columns
    FROM kept k LEFT JOIN pg_attribute a ON a.attrelid = k.rel AND a.attnum = k.col AND k.col > 0
    GROUP BY k.rel, k.classid, k.objid, k.owner, k.rulename
  )
  SELECT m.rel::int8 AS rel,
    CASE WHEN m.classid = 'pg_rewrite'::regclass AND m.rulename = '_RETURN' THEN CASE o.relkind WHEN 'm' THEN 'matview' ELSE 'view' END
      ELSE CASE m.classid WHEN 'pg_rewrite'::regclass THEN 'rule' WHEN 'pg_proc'::regclass THEN 'function' WHEN 'pg_policy'::regclass THEN 'policy'
        WHEN 'pg_trigger'::regclass THEN 'trigger' WHEN 'pg_constraint'::regclass THEN 'constraint' WHEN 'pg_attrdef'::regclass THEN 'default'
        WHEN 'pg_publication_rel'::regclass THEN 'publication' WHEN 'pg_statistic_ext'::regclass THEN 'statistics' ELSE 'other' END
      END AS type,
    CASE WHEN m.rulename = '_RETURN' THEN format('%I.%I', n.nspname, o.relname)
      WHEN m.classid = 'pg_proc'::regclass THEN m.objid::regprocedure::text
      WHEN m.classid = 'pg_publication_rel'::regclass THEN (
        SELECT b.pubname FROM pg_publication b JOIN pg_publication_rel pr ON pr.prpubid = b.oid WHERE pr.oid = m.objid)
      ELSE pg_describe_object(m.classid, m.objid, 0) END AS name,
    CASE WHEN o.oid IS NOT NULL THEN ${relationJson('n', 'o')} END AS relation,
    m.columns,
    CASE WHEN m.rulename = '_RETURN' THEN m.owner::int8 END AS view
  FROM named m LEFT JOIN pg_class o ON o.oid = m.owner LEFT JOIN pg_namespace n ON n.oid = o.relnamespace
  ORDER BY 1, 2, 3`;

/** Read last: pg_get_viewdef takes ACCESS SHARE on what is under the view, until the transaction ends. */
export const VIEWS = `
  SELECT c.oid::int8 AS oid, btrim(pg_get_viewdef(c.oid), E' ;\\n') AS query, c.relispopulated AS populated
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('v', 'm') AND ${USER_SCHEMA}`;

/** A view's Table, without its dependents: they are what is being made here. */
export type Relation = Omit<Table, 'dependents'> & { readonly oid: number };

/** The dependents of each relation by oid; views stand in an order in which they can be made again, others after them. */
export function dependentsByRelation(
  rows: readonly DependentRow[],
  views: readonly ViewRow[],
  tables: readonly Relation[],
): (oid: number) => readonly DependentObject[] {
  const byOid = new Map(tables.map((table) => [table.oid, table]));
  const above = viewsAbove(rows);
  const definitions = new Map<number, ViewDefinition>();
  for (const view of views) {
    const table = byOid.get(view.oid);
    if (!table) continue;
    const dependents = above.closure(view.oid).flatMap((oid) => byOid.get(oid) ?? []);
    definitions.set(view.oid, viewDefinition(view, table, dependents.map(nameOf)));
  }
  const groups = new Map<number, DependentRow[]>();
  for (const row of rows) {
    const group = groups.get(row.rel);
    if (group) group.push(row);
    else groups.set(row.rel, [row]);
  }
  const rank = ({ view }: DependentRow) => (view === null ? Infinity : above.height(view));
  return (oid) =>
    (groups.get(oid) ?? [])
      .map((row, at) => ({ row, at }))
      .sort((a, b) => (rank(a.row) === rank(b.row) ? a.at - b.at : rank(a.row) - rank(b.row)))
      .map(({ row: { rel: _rel, view, ...dependent } }) => ({
        ...dependent,
        view: view === null ? null : (definitions.get(view) ?? null),
      }));
}

const nameOf = ({ schema, name }: RelationName): RelationName => ({ schema, name });

/** The graph of views on views. `height` is the longest way down to something that is no view: making by height is always possible. */
function viewsAbove(rows: readonly DependentRow[]): {
  closure: (oid: number) => number[];
  height: (oid: number) => number;
} {
  const up = new Map<number, number[]>();
  const down = new Map<number, number[]>();
  const add = (edges: Map<number, number[]>, from: number, to: number) => {
    const list = edges.get(from);
    if (list) list.push(to);
    else edges.set(from, [to]);
  };
  for (const { rel, view } of rows) {
    if (view === null) continue;
    add(up, rel, view);
    add(down, view, rel);
  }
  const heights = new Map<number, number>();
  const height = (oid: number): number => {
    const known = heights.get(oid);
    if (known !== undefined) return known;
    // Views can be made to stand on each other in a circle (CREATE OR REPLACE): the first one met counts as the lowest.
    heights.set(oid, 0);
    const found = 1 + Math.max(-1, ...(down.get(oid) ?? []).map(height));
    heights.set(oid, found);
    return found;
  };
  const closure = (oid: number): number[] => {
    const seen = new Set<number>([oid]);
    const todo = [oid];
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      for (const next of up.get(at) ?? []) {
        if (seen.has(next)) continue;
        seen.add(next);
        todo.push(next);
      }
    }
    seen.delete(oid);
    return [...seen].sort((a, b) => height(a) - height(b) || a - b);
  };
  return { closure, height };
}

function viewDefinition(view: ViewRow, table: Relation, dependents: readonly RelationName[]): ViewDefinition {
  const of = <Key extends keyof Column, Out>(
    key: Key,
    make: (column: string, value: NonNullable<Column[Key]>) => Out,
  ) =>
    table.columns.flatMap((column) => {
      const value = column[key];
      return value === null || value === undefined ? [] : [make(column.name, value)];
    });
  return {
    schema: table.schema,
    name: table.name,
    kind: table.kind === 'matview' ? 'matview' : 'view',
    query: view.query,
    options: table.options,
    owner: table.owner,
    populated: view.populated,
    acl: table.acl,
    columnAcls: of('acl', (column, acl) => ({ column, acl })),
    comment: table.comment,
    columnComments: of('comment', (column, comment) => ({ column, comment })),
    columnDefaults: of('default', (column, value) => ({ column, default: value })),
    triggers: table.triggers,
    rules: table.rules.map((rule) => rule.definition),
    dependents,
  };
}
