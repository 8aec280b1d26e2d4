/**
 * Finds the rows of a range that fail on the source (an expression, a cast, a sub-query with two rows for one): by halves of the table's blocks, then of
 * a block's rows, each asked under a savepoint of the snapshot's transaction. Keeps true: values stay in the server; what is answered is
 * places, keys and reasons.
 */
import type { Problem } from '../../plan/model/errors';
import { isProblem } from '../../plan/model/errors';
import { literal, relation } from '../ident';
import type { Session } from '../session';
import { checkSignal } from '../work';
import { isOfRow, reasonOf } from './load';
import type { BadRow } from './quarantine';
import type { Part } from './select';
import { filterOf, fromOf, rangeOf, selectRange } from './select';
import type { Spec } from './spec';
import { ROW } from './spec';

export interface Failing extends BadRow {
  readonly ctid: string;
}

interface Search {
  readonly source: Session;
  readonly spec: Spec;
  readonly part: Part;
  readonly most: number;
  readonly signal: AbortSignal;
  readonly found: Failing[];
}

const and = (a: string | null, b: string): string => (a === null ? b : `(${a}) AND ${b}`);

/** Null = it passes. */
async function asked(source: Session, sql: string): Promise<Problem | null> {
  await source.run('SAVEPOINT pgshift_ask');
  try {
    await source.run(sql);
    await source.run('RELEASE SAVEPOINT pgshift_ask');
    return null;
  } catch (error) {
    if (!isOfRow(error)) throw error;
    await source.run('ROLLBACK TO SAVEPOINT pgshift_ask');
    return error;
  }
}

/** The rows as text: what COPY would print. Filters and rules are asked with them. */
const probe = ({ spec, part }: Search, where: string): string =>
  `SELECT count(ROW(x.*)::text) FROM (${selectRange({ ...spec, dedupe: null }, { ...part, condition: and(part.condition, where) })}) AS x`;

const within = (ctids: readonly string[]): string =>
  `${ROW}.ctid = ANY (${literal(`{${ctids.map((one) => `"${one}"`).join(',')}}`)}::tid[])`;

/** At most `most` of them. Call it in the snapshot's transaction. */
export async function findFailing(
  source: Session,
  of: { readonly spec: Spec; readonly part: Part; readonly most: number; readonly signal: AbortSignal },
): Promise<Failing[]> {
  const { spec } = of;
  const size = await source.one<{ blocks: number }>(
    `SELECT (pg_relation_size(to_regclass($1)) / current_setting('block_size')::int)::float8 AS blocks`,
    [relation(spec.source)],
  );
  const search: Search = { source, ...of, found: [] };
  await blocks(search, 0, Math.max(1, size?.blocks ?? 1));
  return search.found;
}

async function blocks(search: Search, low: number, high: number): Promise<void> {
  if (search.found.length >= search.most) return;
  checkSignal(search.signal);
  const where = `${ROW}.ctid >= '(${low},0)'::tid AND ${ROW}.ctid < '(${high},0)'::tid`;
  if ((await asked(search.source, probe(search, where))) === null) return;
  if (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    await blocks(search, low, middle);
    return blocks(search, middle, high);
  }
  const { source, spec, part } = search;
  const rows = await source.rows<{ ctid: string }>(
    `SELECT ${ROW}.ctid::text AS ctid FROM ${fromOf(spec)} WHERE ${rangeOf(spec, { ...part, condition: and(part.condition, where) })}`,
  );
  await places(
    search,
    rows.map(({ ctid }) => ctid),
  );
}

async function places(search: Search, ctids: readonly string[]): Promise<void> {
  if (ctids.length === 0 || search.found.length >= search.most) return;
  const problem = await asked(search.source, probe(search, within(ctids)));
  if (problem === null) return;
  if (ctids.length > 1) {
    const middle = Math.floor(ctids.length / 2);
    await places(search, ctids.slice(0, middle));
    return places(search, ctids.slice(middle));
  }
  search.found.push(await describe(search, ctids[0] ?? '', problem));
}

/** Which expression it is: each alone, in the order in which a row goes through them. */
async function describe({ source, spec }: Search, ctid: string, problem: Problem): Promise<Failing> {
  const key = await source.one<{ k: string }>(
    `SELECT ${spec.key}::text AS k FROM ${fromOf(spec)} WHERE ${within([ctid])}`,
  );
  const of = { ctid, key: key?.k ?? '{}' };
  const parts: { column: string | null; rule: string; sql: string }[] = [
    ...filterOf(spec).map((sql) => ({ column: null, rule: 'where', sql })),
    ...spec.rules.map(({ column, rule, sql }) => ({ column, rule, sql })),
    ...spec.columns.map(({ name, sql }) => ({ column: name, rule: 'type', sql })),
  ];
  for (const { column, rule, sql } of parts) {
    const found = await asked(source, `SELECT count((${sql})::text) FROM ${fromOf(spec)} WHERE ${within([ctid])}`);
    if (isProblem(found)) return { ...of, column, rule, reason: reasonOf(found) };
  }
  return { ...of, column: null, rule: 'type', reason: reasonOf(problem) };
}
