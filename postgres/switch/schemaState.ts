/**
 * What no wall stops and no replication carries, as lines that can be compared: definitions of the user's objects, and which large objects there are.
 * Keeps true: what a switch itself does for a while (walls, replica identities, publications) changes no line; any other DDL changes the line of the
 * object it touched, so it can be named. Fast enough for the pause: one statement, no file is read.
 */
import { createHash } from 'node:crypto';
import type { Session } from '../session';
import { inTransaction } from '../session';
import { WALL } from './names';
import { ofUser } from './tables';

export interface SchemaState {
  readonly digest: string;
  /** `kind name hash`, sorted. */
  readonly lines: readonly string[];
}

const REL = `pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)`;
const FROM_REL = `pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace`;
/** Of anything with a schema. */
const mine = (namespace: string): string =>
  `${namespace}.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift') AND ${namespace}.nspname !~ '^pg_(toast|temp)'`;

const LINES = `
SELECT 'relation' AS kind, ${REL} AS name,
       concat_ws('|', c.relkind, c.relpersistence, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relam,
                 pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                 (SELECT pg_catalog.string_agg(i.inhparent::text, ',' ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid),
                 (SELECT pg_catalog.string_agg(concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attidentity, a.attgenerated,
                                                         a.attcollation, a.attacl, d.adbin), ';' ORDER BY a.attnum)
                    FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) AS text
  FROM ${FROM_REL} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND ${ofUser('c', 'n')}
UNION ALL
SELECT 'sequence', ${REL}, concat_ws('|', s.seqtypid, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle, c.relowner, c.relacl)
  FROM ${FROM_REL} JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.oid WHERE ${ofUser('c', 'n')}
UNION ALL
SELECT 'index', ${REL}, concat_ws('|', i.indrelid, i.indisunique, i.indisprimary, i.indisexclusion, i.indimmediate, i.indisvalid, i.indkey::text,
                                  i.indcollation::text, i.indclass::text, i.indoption::text, i.indexprs, i.indpred, c.reloptions)
  FROM ${FROM_REL} JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid WHERE ${ofUser('c', 'n')}
UNION ALL
SELECT 'constraint', ${REL} || '.' || pg_catalog.quote_ident(k.conname),
       concat_ws('|', k.contype, k.condeferrable, k.condeferred, k.convalidated, k.conkey, k.confrelid, k.confkey, k.confupdtype, k.confdeltype, k.conbin)
  FROM ${FROM_REL} JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid WHERE ${ofUser('c', 'n')}
UNION ALL
SELECT 'trigger', ${REL} || '.' || pg_catalog.quote_ident(t.tgname), concat_ws('|', t.tgfoid, t.tgtype, t.tgenabled, t.tgargs, t.tgattr::text, t.tgqual)
  FROM ${FROM_REL} JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal AND t.tgname <> '${WALL}' AND ${ofUser('c', 'n')}
UNION ALL
SELECT 'rule', ${REL} || '.' || pg_catalog.quote_ident(r.rulename), concat_ws('|', r.ev_type, r.ev_enabled, r.is_instead, r.ev_qual, r.ev_action)
  FROM ${FROM_REL} JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = c.oid WHERE ${ofUser('c', 'n')}
UNION ALL
SELECT 'policy', ${REL} || '.' || pg_catalog.quote_ident(p.polname), concat_ws('|', p.polcmd, p.polpermissive, p.polroles, p.polqual, p.polwithcheck)
  FROM ${FROM_REL} JOIN pg_catalog.pg_policy AS p ON p.polrelid = c.oid WHERE ${ofUser('c', 'n')}
UNION ALL
SELECT 'function', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname) || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')',
       concat_ws('|', p.prosrc, p.prorettype, p.prolang, p.provolatile, p.prosecdef, p.proconfig, p.proowner, p.proacl, p.proargdefaults)
  FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace WHERE ${mine('n')}
UNION ALL
SELECT 'type', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname),
       concat_ws('|', t.typtype, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault, t.typowner, t.typacl,
                 (SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid),
                 (SELECT pg_catalog.string_agg(concat_ws(',', k.conname, k.conbin), ';' ORDER BY k.conname) FROM pg_catalog.pg_constraint AS k WHERE k.contypid = t.oid))
  FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typtype IN ('d', 'e', 'r') AND ${mine('n')}
UNION ALL
SELECT 'schema', pg_catalog.quote_ident(n.nspname), concat_ws('|', n.nspowner, n.nspacl) FROM pg_catalog.pg_namespace AS n WHERE ${mine('n')}
UNION ALL
SELECT 'extension', pg_catalog.quote_ident(e.extname), e.extversion FROM pg_catalog.pg_extension AS e
UNION ALL
SELECT 'statistics', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.stxname), concat_ws('|', s.stxrelid, s.stxkeys::text, s.stxkind, s.stxexprs)
  FROM pg_catalog.pg_statistic_ext AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.stxnamespace WHERE ${mine('n')}
UNION ALL
SELECT 'event trigger', pg_catalog.quote_ident(v.evtname), concat_ws('|', v.evtevent, v.evtfoid, v.evtenabled, v.evttags) FROM pg_catalog.pg_event_trigger AS v
UNION ALL
SELECT 'large object', m.oid::text, concat_ws('|', m.lomowner, m.lomacl) FROM pg_catalog.pg_largeobject_metadata AS m`;

/** Of one database, for comparison with itself at another time: object ids stand for what they name. */
export async function schemaState(session: Session): Promise<SchemaState> {
  const rows = await inTransaction(
    session,
    () =>
      session.rows<{ line: string }>(
        `SELECT o.kind || ' ' || o.name || ' ' || pg_catalog.md5(o.text) AS line FROM (${LINES}) AS o`,
      ),
    'ISOLATION LEVEL REPEATABLE READ READ ONLY',
  );
  const lines = rows.map(({ line }) => line).sort();
  return { digest: createHash('sha256').update(lines.join('\n')).digest('hex'), lines };
}

export interface SchemaChange {
  readonly kind: string;
  readonly name: string;
  readonly change: 'added' | 'removed' | 'changed';
}

const KIND = /^(event trigger|large object|[a-z]+) (.*) [0-9a-f]{32}$/s;

/** What happened between two states of one database; empty = nothing. Pure. */
export function schemaChanges(before: SchemaState, after: SchemaState): SchemaChange[] {
  const key = (line: string): string => line.slice(0, -33);
  const old = new Map(before.lines.map((line) => [key(line), line]));
  const now = new Map(after.lines.map((line) => [key(line), line]));
  const found: SchemaChange[] = [];
  for (const [name, line] of [...old, ...now]) {
    const change = !now.has(name)
      ? 'removed'
      : !old.has(name)
        ? 'added'
        : old.get(name) === now.get(name)
          ? null
          : 'changed';
    const [, kind = '', of = ''] = KIND.exec(line) ?? [];
    if (change === null || found.some((one) => one.kind === kind && one.name === of)) continue;
    found.push({ kind, name: of, change });
  }
  return found;
}
