/** Is the index that is there the one that is asked for? Compared as trees, since IF NOT EXISTS compares names alone. */
import { parseSync } from 'libpg-query';
import type { IndexStmt } from 'libpg-query';
import { as, rewrite, sameTree } from '../ast';
import type { Index } from '../../model/catalog';

/** Trees without names, casts and defaults that pg_get_indexdef() leaves out or adds. */
function essence(statement: IndexStmt): unknown {
  const { idxname: _n, if_not_exists: _i, concurrent: _c, relation: _r, tableSpace: _t, ...rest } = statement;
  let tree: unknown = { ...rest, accessMethod: statement.accessMethod ?? 'btree' };
  const stripCasts = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(stripCasts);
    if (typeof value !== 'object' || value === null) return value;
    const cast = (value as { TypeCast?: { arg?: unknown } }).TypeCast;
    if (cast) return stripCasts(cast.arg);
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, stripCasts(v)]));
  };
  tree = stripCasts(tree);
  return rewrite(tree, (kind, fields) => {
    if (kind !== 'IndexElem') return undefined;
    const { ordering, nulls_ordering: nulls, ...element } = fields;
    const down = ordering === 'SORTBY_DESC';
    const first = nulls === 'SORTBY_NULLS_FIRST' || (down && nulls !== 'SORTBY_NULLS_LAST');
    return { ...element, down, first };
  });
}

/** Is the index that is there the one that is asked for? */
export function sameIndex(existing: Index, asked: IndexStmt): boolean {
  try {
    const there = as(parseSync(existing.definition).stmts?.[0]?.stmt, 'IndexStmt');
    return there !== null && sameTree(essence(there), essence(asked));
  } catch {
    return false;
  }
}
