/**
 * SQL that reads what is not a part of a relation: the connection itself, types, casts, functions, sequences, publications. Built-in
 * types, casts and functions are included: the planner asks them for categories and volatility.
 */
import type { Cast, FunctionInfo, Publication, Sequence, TypeInfo } from '../../plan/model/catalog';
import { commentOf, relationJson } from './relations';
import { OWN_SCHEMA, USER_SCHEMA } from './session';

export type { Cast, FunctionInfo, Publication, Sequence, TypeInfo };

/** Runs before anything is pinned. reset_val: what a new session of this user gets here, whatever this one has SET. */
export const CONNECTION = `
  SELECT current_setting('server_version_num')::int AS "serverVersion", current_database() AS database, current_user AS "user",
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
    (SELECT json_object_agg(name, reset_val) FROM pg_catalog.pg_settings
     WHERE name IN ('search_path', 'TimeZone', 'DateStyle', 'IntervalStyle', 'default_tablespace')) AS settings`;

/** From 15 on; before that only a superuser may. */
export const REPLICATION_ROLE = `SELECT has_parameter_privilege('session_replication_role', 'SET') AS "may"`;

export const SCHEMAS = `SELECT n.nspname AS name FROM pg_namespace n WHERE ${USER_SCHEMA} ORDER BY 1`;
export const EXTENSIONS = 'SELECT extname AS name, extversion AS version FROM pg_extension ORDER BY 1';

/** Without the row types of tables and views, and their arrays. */
export const TYPES = `
  SELECT n.nspname AS schema, t.typname AS name,
    CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range' WHEN 'm' THEN 'multirange'
      WHEN 'p' THEN 'pseudo' ELSE 'base' END AS kind,
    t.typcategory AS category,
    ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) AS labels,
    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END AS base,
    t.typnotnull AS "notNull",
    t.typtype = 'd' AND EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c') AS "hasConstraints",
    t.typdefault AS "default"
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
  LEFT JOIN pg_class c ON c.oid = coalesce(nullif(t.typrelid, 0), e.typrelid)
  WHERE (c.oid IS NULL OR c.relkind = 'c') AND n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('information_schema', '${OWN_SCHEMA}')
  ORDER BY 1, 2`;

/** Through input and output functions the volatility is the weaker one of the two. */
export const CASTS = `
  SELECT format_type(c.castsource, NULL) AS source, format_type(c.casttarget, NULL) AS target,
    CASE c.castcontext WHEN 'i' THEN 'implicit' WHEN 'a' THEN 'assignment' ELSE 'explicit' END AS context,
    CASE c.castmethod WHEN 'f' THEN 'function' WHEN 'b' THEN 'binary' ELSE 'inout' END AS method,
    CASE WHEN 'v' IN (f.provolatile, o.provolatile, i.provolatile) THEN 'volatile'
      WHEN 's' IN (f.provolatile, o.provolatile, i.provolatile) THEN 'stable' ELSE 'immutable' END AS volatility
  FROM (SELECT castsource, casttarget, castcontext, castmethod, castfunc FROM pg_cast) AS c
  JOIN pg_type s ON s.oid = c.castsource
  JOIN pg_type t ON t.oid = c.casttarget
  LEFT JOIN pg_proc f ON f.oid = c.castfunc AND c.castmethod = 'f'
  LEFT JOIN pg_proc o ON o.oid = s.typoutput AND c.castmethod = 'i'
  LEFT JOIN pg_proc i ON i.oid = t.typinput AND c.castmethod = 'i'
  ORDER BY 1, 2`;

/** `source` only for functions that a user wrote in text: the planner looks for names in it. */
export const FUNCTIONS = `
  SELECT n.nspname AS schema, p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments,
    CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
    l.lanname AS language,
    CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window' ELSE 'function' END AS kind,
    CASE WHEN n.nspname <> 'pg_catalog' AND l.lanname NOT IN ('internal', 'c') THEN p.prosrc END AS source
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  WHERE n.nspname = 'pg_catalog' OR ${USER_SCHEMA}
  ORDER BY 1, 2, 3`;

export const SEQUENCES = `
  SELECT n.nspname AS schema, c.relname AS name, format_type(s.seqtypid, NULL) AS type, pg_get_userbyid(c.relowner) AS owner,
    (SELECT json_build_object('table', ${relationJson('tn', 't')}, 'column', a.attname)
     FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
     JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1) AS "ownedBy",
    s.seqstart::text AS start, s.seqincrement::text AS increment, s.seqmin::text AS min, s.seqmax::text AS max,
    s.seqcache::text AS cache, s.seqcycle AS cycle,
    c.relacl::text[] AS acl, ${commentOf('pg_class', 'c.oid')} AS comment
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${USER_SCHEMA}
  ORDER BY 1, 2`;

export const publicationsSql = (serverVersion: number): string => `
  SELECT p.pubname AS name, p.puballtables AS "allTables",
    ${serverVersion >= 150000 ? `ARRAY(SELECT sn.nspname::text FROM pg_publication_namespace q JOIN pg_namespace sn ON sn.oid = q.pnnspid WHERE q.pnpubid = p.oid ORDER BY 1)` : `'{}'::text[]`} AS schemas,
    coalesce((
      SELECT json_agg(json_build_object('table', ${relationJson('n', 'c')},
        'columns', ${
          serverVersion >= 150000
            ? `CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(
                 SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]) ORDER BY a.attnum) END`
            : 'NULL'
        },
        'where', ${serverVersion >= 150000 ? 'pg_get_expr(r.prqual, r.prrelid)' : 'NULL'}) ORDER BY n.nspname, c.relname)
      FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE r.prpubid = p.oid), '[]') AS tables
  FROM pg_publication p
  ORDER BY 1`;
