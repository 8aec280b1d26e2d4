/**
 * Rights and comments that a copy sets on what stood in the target before (schema public has both), and default privileges, which are no object that
 * could be dropped. Keeps true: they are read before anything is made, and the way back gives exactly those back that the copy set.
 */
import { ident, literal } from '../ident';
import type { Session } from '../session';
import type { DumpItem } from './dump';

const WHO = `CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END`;
/** Of a row of pg_namespace. */
const rightsOf = (row: string): string =>
  `(SELECT pg_catalog.jsonb_agg(g.g ORDER BY g.g) FROM (
      SELECT pg_catalog.jsonb_build_object('who', ${WHO}, 'what', x.privilege_type, 'again', x.is_grantable) AS g
        FROM pg_catalog.aclexplode(coalesce(${row}.nspacl, pg_catalog.acldefault('n', ${row}.nspowner))) AS x) AS g)`;
const SCHEMAS = `
SELECT n.nspname::text AS name, pg_catalog.obj_description(n.oid, 'pg_namespace') AS comment, ${rightsOf('n')}::text AS rights
  FROM pg_catalog.pg_namespace AS n`;
const DEFAULTS = `
SELECT a.oid, a.defaclacl, a.defaclobjtype::text AS kind, pg_catalog.quote_ident(r.rolname) AS role, pg_catalog.quote_ident(n.nspname) AS place,
       pg_catalog.concat_ws('/', r.rolname, n.nspname, a.defaclobjtype) AS key
  FROM pg_catalog.pg_default_acl AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.defaclrole
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = a.defaclnamespace`;

interface SchemaRow extends Record<string, unknown> {
  readonly name: string;
  readonly comment: string | null;
  readonly rights: string | null;
}

const isOnSchema = ({ kind, tag }: DumpItem, name: string): boolean =>
  (kind === 'ACL' || kind === 'COMMENT') && tag === `SCHEMA ${name}`;

/** One statement that gives back what the items take; null = they take nothing of the kind. */
export async function wayBackOfRights(target: Session, items: readonly DumpItem[]): Promise<string | null> {
  const schemas = (await target.rows<SchemaRow>(SCHEMAS)).filter(({ name }) =>
    items.some((item) => isOnSchema(item, name)),
  );
  const defaults = items.some(({ kind }) => kind === 'DEFAULT ACL');
  if (schemas.length === 0 && !defaults) return null;
  const before = defaults ? await target.rows<{ key: string }>(DEFAULTS) : [];
  const parts = [...schemas.map(schemaBack), ...(defaults ? [defaultsBack(before.map(({ key }) => key))] : [])];
  return `DO ${literal(`DECLARE v_schema record; v_default record; v_right record; v_kind text; v_alter text; BEGIN\n${parts.join('\n')}\nEND`)}`;
}

/** A schema that is gone meanwhile needs nothing. */
const schemaBack = ({ name, comment, rights }: SchemaRow): string => `
FOR v_schema IN SELECT n.nspname, n.nspacl, n.nspowner FROM pg_catalog.pg_namespace AS n WHERE n.nspname = ${literal(name)} LOOP
  COMMENT ON SCHEMA ${ident(name)} IS ${comment === null ? 'NULL' : literal(comment)};
  IF ${rightsOf('v_schema')} IS DISTINCT FROM ${literal(rights ?? 'null')}::jsonb THEN
    FOR v_right IN SELECT DISTINCT ${WHO} AS who FROM pg_catalog.aclexplode(v_schema.nspacl) AS x LOOP
      EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', v_schema.nspname, v_right.who);
    END LOOP;
    FOR v_right IN SELECT * FROM pg_catalog.jsonb_to_recordset(${literal(rights ?? '[]')}::jsonb) AS r(who text, what text, again boolean) LOOP
      EXECUTE pg_catalog.format('GRANT %s ON SCHEMA %I TO %s %s', v_right.what, v_schema.nspname, v_right.who, CASE WHEN v_right.again THEN 'WITH GRANT OPTION' END);
    END LOOP;
  END IF;
END LOOP;`;

/** A default that was there before is left as it is now: who else changed it cannot be told. */
const defaultsBack = (before: readonly string[]): string => `
FOR v_default IN SELECT * FROM (${DEFAULTS}) AS q WHERE NOT ${literal(JSON.stringify(before))}::jsonb ? q.key LOOP
  v_kind := CASE v_default.kind WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END;
  v_alter := pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %s %s', v_default.role, 'IN SCHEMA ' || v_default.place);
  FOR v_right IN SELECT DISTINCT ${WHO} AS who FROM pg_catalog.aclexplode(v_default.defaclacl) AS x LOOP
    EXECUTE pg_catalog.format('%s REVOKE ALL ON %s FROM %s', v_alter, v_kind, v_right.who);
  END LOOP;
  -- Of a whole role there is more than nothing by default: the owner's own, and what everybody has of functions and types.
  IF v_default.place IS NULL THEN
    EXECUTE pg_catalog.format('%s GRANT ALL ON %s TO %s', v_alter, v_kind, v_default.role);
    IF v_default.kind = 'f' THEN EXECUTE v_alter || ' GRANT EXECUTE ON ROUTINES TO PUBLIC'; END IF;
    IF v_default.kind = 'T' THEN EXECUTE v_alter || ' GRANT USAGE ON TYPES TO PUBLIC'; END IF;
  END IF;
END LOOP;`;
