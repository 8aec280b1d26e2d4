/**
 * One column of a map: how its value travels, how it is put, and how both ends of it are compared. Keeps true: what the plan did not ask for never
 * changes a value unseen. A number that a narrower type would round, a text that a shorter one would cut, is compared as it was: it is an error, not
 * a pass.
 */
import { literal } from '../ident';
import type { SelfTest } from '../verify/selfTest';
import type { Origin } from './resolve';
import type { SpecColumn } from './spec';
import type { TableColumn } from './tables';

const NUMERIC = 1700;
const BPCHAR = 1042;
const FLOATS: readonly number[] = [700, 701];

const text = (value: string): string => `(${value})::text`;
const number = (value: string): string => `trim_scale((${value})::numeric)`;
const float = (value: string): string => `(${value})::float8`;

interface Way {
  readonly sql: string;
  readonly stage: string;
  readonly put: string;
  /** Of the travelling value, and of the target's. */
  readonly source: (value: string) => string;
  readonly target: (value: string) => string;
}

const same = (value: string): string => value;

/** `n` is the column's number on the way. */
export function columnOf(
  to: TableColumn,
  origin: Origin,
  filler: string | null,
  test: SelfTest,
  n: number,
): SpecColumn {
  const plain = filler === null ? origin.sql : `coalesce(${origin.sql}, ${literal(filler)})`;
  const way = wayOf(to, origin.from, plain, test, `s.c${n}`);
  const target = `t.${quoted(to.name)}`;
  return {
    name: to.name,
    to,
    sql: way.sql,
    stage: way.stage,
    put: way.put,
    image: { source: way.source('$'), target: way.target(target) },
    from: origin.from?.name ?? null,
    plain: filler === null && origin.from !== null && isPlain(origin.from, to),
    reads: origin.reads,
    path: origin.path,
  };
}

const isPlain = (from: TableColumn, to: TableColumn): boolean =>
  from.typeOid === to.typeOid || (from.category === 'N' && to.category === 'N');

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

function wayOf(to: TableColumn, from: TableColumn | null, sql: string, { byBytes }: SelfTest, staged: string): Way {
  const known = byBytes.has(to.typeOid);
  if (!known) {
    // A type of the user's own may not be there on the source: it travels as text.
    return { sql: text(sql), stage: 'text', put: `${staged}::${to.cast}`, source: same, target: text };
  }
  const travels = (cast: string) => ({ stage: cast, put: staged });
  if (from === null) {
    const image = to.typeOid === BPCHAR ? text : same;
    return {
      sql: `(${sql})::${to.cast}`,
      ...travels(to.cast),
      source: (v) => (to.typeOid === BPCHAR ? text(`(${v})::${to.type}`) : `(${v})::${to.type}`),
      target: image,
    };
  }
  if (from.typeOid === to.typeOid) {
    const image = from.type === to.type ? same : to.typeOid === NUMERIC ? number : to.category === 'S' ? text : null;
    return {
      sql,
      ...travels(to.cast),
      source: image ?? ((v) => `(${v})::${to.type}`),
      target: image ?? same,
    };
  }
  if (from.category === 'N' && to.category === 'N' && byBytes.has(from.typeOid)) {
    const image = FLOATS.includes(from.typeOid) && FLOATS.includes(to.typeOid) ? float : number;
    return { sql, ...travels(from.cast), source: image, target: image };
  }
  if (from.category === 'S' && to.category === 'S' && byBytes.has(from.typeOid))
    return { sql, ...travels(from.cast), source: text, target: text };
  return {
    sql: `(${sql})::${to.cast}`,
    ...travels(to.cast),
    source: (v) => `(${v})::${to.type}`,
    target: same,
  };
}
