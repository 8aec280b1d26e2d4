/**
 * What is neither a table's rows nor an object of the dump: positions of sequences, large objects, contents of materialized views, statistics of
 * partitioned tables. Keeps true: each may run twice and leaves the same.
 */
import type { RelationName } from '../../plan/model/steps';
import { Problem } from '../../plan/model/errors';
import { ident, literal, relation } from '../ident';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { checkSignal } from '../work';
import type { CopyContext } from './context';
import { readAt } from './context';
import type { Epoch } from './epoch';
import { chosenTables } from './tables';

interface Sequence extends RelationName, Record<string, unknown> {
  readonly oid: string;
}

/**
 * Those that this copy may move: made by it, or of a table that it fills; in tables that were there also those that belong to no table. One of the
 * same name that belongs to a table of somebody else is his.
 */
const OURS = `
SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  LEFT JOIN pg_class AS o ON o.oid = d.refobjid LEFT JOIN pg_namespace AS s ON s.oid = o.relnamespace
 WHERE c.relkind = 'S' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift') AND n.nspname !~ '^pg_temp'
   AND ((s.nspname::text, o.relname::text) IN (SELECT f.schema, f.name FROM jsonb_to_recordset($2::jsonb) AS f(schema text, name text))
        OR translate(n.nspname || '.' || c.relname, E'\\n\\r', '  ') IN (
             SELECT i.tag FROM pgshift.copy_items AS i WHERE i.migration_name = $1 AND i.kind = 'SEQUENCE')
        OR ($3::boolean AND o.oid IS NULL))`;

/** Sequences do not follow snapshots: read now, they are at or past what any copied row used. */
export async function setSequences(context: CopyContext, source: Session, target: Session): Promise<number> {
  const chosen = await chosenTables(source, context.control.tables);
  const here = await target.rows<Sequence>(OURS, [
    context.migration,
    JSON.stringify(chosen.map(({ schema, name }) => ({ schema, name }))),
    context.control.schema === 'existing',
  ]);
  let set = 0;
  for (const sequence of here) {
    checkSignal(context.signal);
    const there = await source.one(
      `SELECT 1 AS one FROM pg_class AS c WHERE c.oid = to_regclass($1) AND c.relkind = 'S'`,
      [relation(sequence)],
    );
    if (!there) continue;
    const at = await source.one<{ value: string; called: boolean }>(
      `SELECT s.last_value::text AS value, s.is_called AS called FROM ${relation(sequence)} AS s`,
    );
    if (!at) continue;
    // Among rows that were there before a sequence only goes on, never back.
    const onward =
      context.control.schema === 'existing'
        ? ` WHERE (SELECT CASE WHEN q.seqincrement > 0 THEN $2::bigint > s.last_value ELSE $2::bigint < s.last_value END
                     FROM ${relation(sequence)} AS s, pg_sequence AS q WHERE q.seqrelid = $1::regclass)`
        : '';
    const done = await target.run(`SELECT setval($1::regclass, $2::bigint, $3::boolean)${onward}`, [
      relation(sequence),
      at.value,
      at.called,
    ]);
    set += done;
  }
  return set;
}

/** Sequences that belong to columns which a map filled: behind what came, and never back. */
export async function moveOwnSequences(target: Session, migration: string): Promise<number> {
  const columns = await target.rows<{ schema: string; name: string; column: string; sequence: string; up: boolean }>(
    `SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name, a.attname::text AS column, d.objid::regclass::text AS sequence,
            q.seqincrement > 0 AS up
       FROM pgshift.copy_tables AS t
       JOIN pg_namespace AS n ON n.nspname = t.proof->'target'->>'schema'
       JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.proof->'target'->>'name'
       JOIN pg_attribute AS a ON a.attrelid = c.oid AND t.proof->'columns' ? a.attname::text
       JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
        AND d.classid = 'pg_class'::regclass
       JOIN pg_sequence AS q ON q.seqrelid = d.objid
      WHERE t.migration_name = $1`,
    [migration],
  );
  for (const { schema, name, column, sequence, up } of columns)
    await target.run(
      `SELECT setval($1::regclass, m.at) FROM (SELECT ${up ? 'max' : 'min'}(t.${ident(column)})::bigint AS at FROM ${relation({ schema, name })} AS t) AS m,
              ${sequence} AS s WHERE m.at IS NOT NULL AND (m.at ${up ? '>' : '<'} s.last_value OR (m.at = s.last_value AND NOT s.is_called))`,
      [sequence],
    );
  return columns.length;
}

/** Refreshes the views that hold rows on the source, those first that others are made of. */
export async function refreshViews(context: CopyContext, source: Session, target: Session): Promise<number> {
  const filled = await source.rows<RelationName & Record<string, unknown>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind = 'm' AND c.relispopulated`,
  );
  const wanted = new Set(filled.map((view) => relation(view)));
  // pg_dump lists them in an order in which each can be made; oids of the target follow that order.
  const here = await target.rows<RelationName & { filled: boolean } & Record<string, unknown>>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name, c.relispopulated AS filled
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'm' ORDER BY c.oid`,
  );
  let refreshed = 0;
  for (const view of here) {
    checkSignal(context.signal);
    if (view.filled || !wanted.has(relation(view))) continue;
    await target.run(`REFRESH MATERIALIZED VIEW ${relation(view)}`);
    await target.run(`ANALYZE ${relation(view)}`);
    refreshed += 1;
  }
  return refreshed;
}

/** Nothing else ever analyses the parents of partitions. */
export async function analyseParents(target: Session, migration: string): Promise<void> {
  const parents = await target.rows<RelationName & Record<string, unknown>>(
    `WITH RECURSIVE up(oid) AS (
       SELECT i.inhparent FROM pgshift.copy_tables AS t
         JOIN pg_inherits AS i ON i.inhrelid = to_regclass(quote_ident(t.schema_name) || '.' || quote_ident(t.table_name))
        WHERE t.migration_name = $1
       UNION SELECT i.inhparent FROM up JOIN pg_inherits AS i ON i.inhrelid = up.oid)
     SELECT n.nspname::text AS schema, c.relname::text AS name FROM up JOIN pg_class AS c USING (oid)
       JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'p'`,
    [migration],
  );
  for (const parent of parents) await target.run(`ANALYZE ${relation(parent)}`);
}

const PIECE = 1024 ** 2;

interface LargeObject extends Record<string, unknown> {
  readonly oid: string;
  readonly owner: string;
  readonly comment: string | null;
  readonly grants: readonly { readonly role: string | null; readonly privilege: string; readonly grantable: boolean }[];
}

const taken = (target: Session, oids: readonly string[]): Problem =>
  new Problem(
    'PreflightFailed',
    `${target.name}: large object${oids.length === 1 ? '' : 's'} ${oids.slice(0, 5).join(', ')}${oids.length > 5 ? ` and ${oids.length - 5} more` : ''} exist there already`,
    {
      hint: 'large objects keep their numbers, which rows refer to: copy into a database without them, or unlink those with lo_unlink',
    },
  );

/** Before anything is written: none of the source's large objects may be there under its number. Throws PreflightFailed. */
export async function refuseLargeObjects(source: Session, target: Session): Promise<void> {
  const there = await target.rows<{ oid: string }>(`SELECT m.oid::text AS oid FROM pg_largeobject_metadata AS m`);
  if (there.length === 0) return;
  const both = await source.rows<{ oid: string }>(
    `SELECT m.oid::text AS oid FROM pg_largeobject_metadata AS m WHERE m.oid = ANY ($1::oid[]) ORDER BY m.oid`,
    [there.map(({ oid }) => oid)],
  );
  if (both.length > 0)
    throw taken(
      target,
      both.map(({ oid }) => oid),
    );
}

/** Large objects keep their oids, which rows refer to. Each is one transaction, with its line on the list; one on the list is there already. */
export async function copyLargeObjects(
  context: CopyContext,
  source: Session,
  target: Session,
  epoch: Epoch,
): Promise<number> {
  return readAt(source, epoch.snapshot, async () => {
    const objects = await source.rows<LargeObject>(
      `SELECT m.oid::text AS oid, r.rolname::text AS owner, obj_description(m.oid, 'pg_largeobject') AS comment,
              coalesce((SELECT jsonb_agg(jsonb_build_object('role', g.rolname, 'privilege', x.privilege_type, 'grantable', x.is_grantable))
                          FROM aclexplode(m.lomacl) AS x LEFT JOIN pg_roles AS g ON g.oid = x.grantee), '[]'::jsonb) AS grants
         FROM pg_largeobject_metadata AS m JOIN pg_roles AS r ON r.oid = m.lomowner ORDER BY m.oid`,
    );
    const listed = await target.rows<{ tag: string }>(
      `SELECT i.tag FROM pgshift.copy_items AS i WHERE i.migration_name = $1 AND i.kind = 'LARGE OBJECT'`,
      [context.migration],
    );
    const done = new Set(listed.map(({ tag }) => tag));
    for (const object of objects) {
      checkSignal(context.signal);
      if (done.has(object.oid)) continue;
      await inTransaction(target, () => copyLargeObject(context, source, target, object));
    }
    return objects.length;
  });
}

async function copyLargeObject(
  context: CopyContext,
  source: Session,
  target: Session,
  object: LargeObject,
): Promise<void> {
  const { oid, owner, comment, grants } = object;
  const there = await target.one(`SELECT 1 AS one FROM pg_largeobject_metadata AS m WHERE m.oid = $1::oid`, [oid]);
  if (there) throw taken(target, [oid]);
  await target.run(`SELECT lo_create($1::oid)`, [oid]);
  for (let at = 0; ; at += PIECE) {
    checkSignal(context.signal);
    const piece = await source.one<{ data: string | null }>(`SELECT lo_get($1::oid, $2::bigint, $3::int) AS data`, [
      oid,
      at,
      PIECE,
    ]);
    if (piece?.data === undefined || piece.data === null || piece.data === '\\x') break;
    await target.run(`SELECT lo_put($1::oid, $2::bigint, $3::bytea)`, [oid, at, piece.data]);
  }
  await target.run(`ALTER LARGE OBJECT ${Number(oid)} OWNER TO ${ident(owner)}`);
  if (comment !== null) await target.run(`COMMENT ON LARGE OBJECT ${Number(oid)} IS ${literal(comment)}`);
  for (const { role, privilege, grantable } of grants) {
    if (role === owner || (privilege !== 'SELECT' && privilege !== 'UPDATE')) continue;
    const to = role === null ? 'PUBLIC' : ident(role);
    await target.run(
      `GRANT ${privilege} ON LARGE OBJECT ${Number(oid)} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`,
    );
  }
  // Its way back is on the list like every other object's.
  await target.run(
    `INSERT INTO pgshift.copy_items (migration_name, item_no, section, kind, tag, sql, drop_sql)
     SELECT $1, coalesce(max(i.item_no), 0) + 1, 'post', 'LARGE OBJECT', $2, '',
            'SELECT pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata AS m WHERE m.oid = ' || $2
       FROM pgshift.copy_items AS i WHERE i.migration_name = $1`,
    [context.migration, oid],
  );
}
