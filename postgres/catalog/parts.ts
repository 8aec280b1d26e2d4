/**
 * SQL that reads what belongs to a relation: indexes, constraints, triggers, policies, rules, extended statistics. Definitions are
 * Postgres' own text; column lists come from the catalogue's numbers and from pg_depend (expressions, predicates, WHEN, bodies).
 */
import type { Constraint, Index, Statistics, Table, Trigger } from '../../plan/model/catalog';
import { bytes, columnNames, commentOf, dependedColumns, relationJson } from './relations';
import { USER_SCHEMA } from './session';

type Of<Part> = Part & { readonly rel: number };
export type IndexRow = Of<Index>;
/** `refers` is the table that a foreign key points to. */
export type ConstraintRow = Of<Constraint> & { readonly refers: number };
export type TriggerRow = Of<Trigger>;
export type PolicyRow = Of<Table['policies'][number]>;
export type RuleRow = Of<Table['rules'][number]>;
export type StatisticsRow = Of<Statistics>;

export const indexesSql = (serverVersion: number, many: boolean): string => `
  SELECT i.indrelid::int8 AS rel, n.nspname AS schema, x.relname AS name,
    pg_get_indexdef(i.indexrelid) AS definition,
    am.amname AS method,
    i.indisunique AS unique, i.indisprimary AS primary, i.indisvalid AND i.indisready AS valid, i.indimmediate AS immediate,
    ${serverVersion >= 150000 ? 'i.indnullsnotdistinct' : 'false'} AS "nullsNotDistinct",
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, ord)
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num AND k.num <> 0
          WHERE k.ord <= i.indnkeyatts ORDER BY k.ord) AS keys,
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, ord)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
          WHERE k.ord > i.indnkeyatts ORDER BY k.ord) AS include,
    CASE WHEN i.indexprs IS NULL AND i.indpred IS NULL
      THEN ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) ORDER BY a.attnum)
      ELSE ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) AND a.attnum <> 0 ORDER BY a.attnum)
      END AS columns,
    pg_get_expr(i.indpred, i.indrelid) AS predicate,
    (SELECT k.conname FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x') LIMIT 1) AS "constraint",
    CASE WHEN x.relkind = 'i' THEN ${bytes('x', many)} ELSE 0 END AS bytes,
    i.indisclustered AS clustered, i.indisreplident AS "replicaIdentity",
    ${commentOf('pg_class', 'x.oid')} AS comment,
    CASE WHEN i.indexprs IS NULL THEN '[]'::json ELSE coalesce((
      SELECT json_agg(json_build_object('number', a.attnum, 'target', a.attstattarget) ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = x.oid AND a.attnum > 0 AND a.attstattarget >= 0), '[]') END AS "statisticsTargets",
    CASE WHEN x.relispartition THEN (
      SELECT ${relationJson('pn', 'p')} FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE h.inhrelid = x.oid LIMIT 1) END AS parent,
    (SELECT spcname FROM pg_tablespace s WHERE s.oid = x.reltablespace) AS tablespace
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_am am ON am.oid = x.relam
  JOIN pg_namespace n ON n.oid = x.relnamespace
  WHERE ${USER_SCHEMA}
  ORDER BY n.nspname, x.relname`;

/** `index` of a foreign key is the unique index that it leans on, over there. */
export const constraintsSql = (serverVersion: number): string => `
  SELECT k.conrelid::int8 AS rel, k.confrelid::int8 AS refers, k.conname AS name,
    CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign' WHEN 'p' THEN 'primary' WHEN 'u' THEN 'unique' WHEN 'x' THEN 'exclude'
      WHEN 'n' THEN 'not-null' ELSE 'trigger' END AS type,
    ${relationJson('n', 'c')} AS "table",
    pg_get_constraintdef(k.oid) AS definition,
    ${columnNames('k.conrelid', 'k.conkey')} AS columns,
    k.convalidated AS validated, k.condeferrable AS deferrable, k.condeferred AS deferred,
    ${serverVersion >= 180000 ? 'k.conenforced' : 'true'} AS enforced,
    k.connoinherit AS "noInherit",
    (SELECT ${relationJson('xn', 'x')} FROM pg_class x JOIN pg_namespace xn ON xn.oid = x.relnamespace WHERE x.oid = k.conindid) AS index,
    CASE WHEN k.confrelid <> 0 THEN (
      SELECT json_build_object('table', ${relationJson('fn', 'f')}, 'columns', ${columnNames('k.confrelid', 'k.confkey')})
      FROM pg_class f JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE f.oid = k.confrelid) END AS references,
    ${commentOf('pg_constraint', 'k.oid')} AS comment,
    k.coninhcount > 0 AS inherited,
    k.conparentid <> 0 AS "hasParent"
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${USER_SCHEMA}
  ORDER BY n.nspname, c.relname, k.conname`;

/** The user's own triggers; those of foreign keys are internal. A partition's clone of its parent's trigger is listed too. */
export const TRIGGERS = `
  SELECT t.tgrelid::int8 AS rel, t.tgname AS name,
    pg_get_triggerdef(t.oid) AS definition,
    t.tgenabled AS enabled,
    CASE WHEN t.tgtype & 2 <> 0 THEN 'before' WHEN t.tgtype & 64 <> 0 THEN 'instead' ELSE 'after' END AS timing,
    t.tgtype & 1 <> 0 AS row,
    array_remove(ARRAY[
      CASE WHEN t.tgtype & 4 <> 0 THEN 'insert' END, CASE WHEN t.tgtype & 16 <> 0 THEN 'update' END,
      CASE WHEN t.tgtype & 8 <> 0 THEN 'delete' END, CASE WHEN t.tgtype & 32 <> 0 THEN 'truncate' END], NULL) AS events,
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attnum > 0 AND (
      a.attnum = ANY (t.tgattr::int2[]) OR (t.tgqual IS NOT NULL AND EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.tgrelid AND d.refobjsubid = a.attnum))) ORDER BY a.attnum) AS columns,
    (SELECT format('%I.%I', pn.nspname, p.proname) FROM pg_proc p JOIN pg_namespace pn ON pn.oid = p.pronamespace WHERE p.oid = t.tgfoid) AS function,
    ${commentOf('pg_trigger', 't.oid')} AS comment
  FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT t.tgisinternal AND ${USER_SCHEMA}
  ORDER BY t.tgrelid, t.tgname`;

export const POLICIES = `
  SELECT p.polrelid::int8 AS rel, p.polname AS name,
    format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s', p.polname, n.nspname, c.relname,
      CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
      CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
      (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(p.polroles) AS r))
      || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
      || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '') AS definition,
    ${dependedColumns('p.polrelid', 'pg_policy', 'p.oid')} AS columns,
    ${commentOf('pg_policy', 'p.oid')} AS comment
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${USER_SCHEMA}
  ORDER BY p.polrelid, p.polname`;

/** Rules but a view's own SELECT. */
export const RULES = `
  SELECT r.ev_class::int8 AS rel, r.rulename AS name, pg_get_ruledef(r.oid) AS definition,
    ${dependedColumns('r.ev_class', 'pg_rewrite', 'r.oid')} AS columns,
    r.ev_enabled AS enabled,
    ${commentOf('pg_rewrite', 'r.oid')} AS comment
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE r.rulename <> '_RETURN' AND ${USER_SCHEMA}
  ORDER BY r.ev_class, r.rulename`;

export const STATISTICS = `
  SELECT s.stxrelid::int8 AS rel, sn.nspname AS schema, s.stxname AS name,
    pg_get_statisticsobjdef(s.oid) AS definition,
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = s.stxrelid AND a.attnum > 0 AND (
      a.attnum = ANY (s.stxkeys::int2[]) OR EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.stxrelid AND d.refobjsubid = a.attnum)) ORDER BY a.attnum) AS columns,
    ${commentOf('pg_statistic_ext', 's.oid')} AS comment,
    pg_get_userbyid(s.stxowner) AS owner,
    CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget END AS target
  FROM pg_statistic_ext s
  JOIN pg_namespace sn ON sn.oid = s.stxnamespace
  JOIN pg_class c ON c.oid = s.stxrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${USER_SCHEMA}
  ORDER BY sn.nspname, s.stxname`;
