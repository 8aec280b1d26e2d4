/**
 * Guardrails about what applications take for granted and no copy carries: locale, encoding, extensions, settings of the server, of roles and of the
 * database. Keeps true: settings that may hold anything are compared by their values and shown by their names alone.
 */
import { SIDES } from '../../../plan/model/traffic';
import type { Session } from '../../session';
import type { Check } from './types';
import { BEFORE, listed, none } from './types';

/** From here on a server can tell the version of the locale's own library. */
const VERSIONS_FROM = 150000;

/** What changes the meaning of a client's statements, or when they end. None of them is a secret. */
const TOLD: readonly string[] = [
  ...['TimeZone', 'DateStyle', 'IntervalStyle', 'bytea_output', 'default_text_search_config', 'search_path'],
  ...['default_transaction_isolation', 'default_transaction_read_only', 'synchronous_commit', 'row_security'],
  ...['standard_conforming_strings', 'transform_null_equals', 'array_nulls', 'lc_monetary', 'lc_numeric', 'lc_time'],
  ...['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout'],
  ...['max_connections', 'shared_preload_libraries', 'session_preload_libraries', 'local_preload_libraries'],
];

export const ALIKE: readonly Check[] = [
  {
    id: 'collations',
    stages: BEFORE,
    severity: 'warning',
    remedy:
      'the same locale provider, locale and version of its library on green, or look at what sorts by text (indexes are built anew, order and LIKE may differ)',
    look: async ({ both }) => {
      const versions = SIDES.every((side) => both[side].serverVersion >= VERSIONS_FROM);
      const [blue, green] = await Promise.all(SIDES.map((side) => localeOf(both[side], versions)));
      return [{ side: 'both', ok: blue === green, evidence: `blue: ${blue ?? '?'}; green: ${green ?? '?'}` }];
    },
  },
  {
    id: 'collation_versions',
    stages: BEFORE,
    severity: 'warning',
    remedy:
      'indexes on text may be in another order than the library has now, and a unique one may hold a value twice: REINDEX, then REFRESH VERSION',
    look: async ({ both }) => {
      if (both.blue.serverVersion < VERSIONS_FROM)
        return [{ side: 'blue', ok: true, evidence: 'not told before version 15' }];
      return [
        {
          side: 'blue',
          ...(await none(
            both.blue,
            `SELECT 'database' AS name FROM pg_catalog.pg_database AS d
              WHERE d.datname = pg_catalog.current_database() AND d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid)
             UNION ALL
             SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname)
               FROM pg_catalog.pg_collation AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
              WHERE c.collversion <> pg_catalog.pg_collation_actual_version(c.oid) ORDER BY 1`,
            'collations of another version of their library than was used for the indexes',
          )),
        },
      ];
    },
  },
  {
    id: 'encoding',
    stages: BEFORE,
    severity: 'error',
    remedy: `make green with blue's encoding`,
    look: async ({ both }) => {
      const [blue, green] = await Promise.all(SIDES.map((side) => encodingOf(both[side])));
      return [{ side: 'both', ok: blue === green, evidence: `blue ${blue ?? '?'}, green ${green ?? '?'}` }];
    },
  },
  {
    id: 'extensions',
    stages: BEFORE,
    severity: 'error',
    remedy: `install the extension's files on green's server, in that version`,
    look: async ({ both }) => {
      const used = await extensionsOf(both.blue);
      const offered = await offeredBy(both.green);
      const missing = used.filter(({ name }) => !offered.has(name)).map(({ name, version }) => `${name} ${version}`);
      return [
        {
          side: 'green',
          ok: missing.length === 0,
          evidence: missing.length === 0 ? `${used.length} extensions, all offered` : `not offered: ${listed(missing)}`,
        },
      ];
    },
  },
  {
    id: 'extension_versions',
    stages: BEFORE,
    severity: 'warning',
    remedy:
      'green gets the version that its server offers: read what changed between the two, or install the same files',
    look: async ({ both }) => {
      const offered = await offeredBy(both.green);
      const other = (await extensionsOf(both.blue)).flatMap(({ name, version }) => {
        const there = offered.get(name);
        return there === undefined || there === version ? [] : [`${name} ${version} becomes ${there}`];
      });
      return [
        { side: 'green', ok: other.length === 0, evidence: other.length === 0 ? 'the same versions' : listed(other) },
      ];
    },
  },
  {
    id: 'server_settings',
    stages: BEFORE,
    severity: 'warning',
    remedy: 'the same settings on green, where applications count on them',
    look: async ({ both }) => {
      const [blue, green] = await Promise.all(SIDES.map((side) => serverSettings(both[side])));
      const other = [...(blue ?? [])].flatMap(([name, value]) => {
        const there = green?.get(name);
        if (there === undefined || there === value) return [];
        if (name === 'max_connections' && Number(there) > Number(value)) return [];
        return [`${name} (blue ${value}, green ${there})`];
      });
      return [{ side: 'green', ok: other.length === 0, evidence: other.length === 0 ? 'the same' : listed(other) }];
    },
  },
  {
    id: 'role_settings',
    stages: BEFORE,
    severity: 'warning',
    remedy: 'set them on green too: ALTER DATABASE ... SET, ALTER ROLE ... SET, ALTER ROLE ... IN DATABASE ... SET',
    look: async ({ both }) => {
      const blue = await roleSettings(both.blue);
      const green = new Set((await roleSettings(both.green)).map(keyOf));
      const roles = new Set(
        (await both.green.rows<{ name: string }>(`SELECT r.rolname::text AS name FROM pg_catalog.pg_roles AS r`)).map(
          ({ name }) => name,
        ),
      );
      // A role that is missing on green is told by roles_on_green.
      const other = blue.filter((one) => (one.role === null || roles.has(one.role)) && !green.has(keyOf(one)));
      const names = [...new Set(other.map(({ role, name }) => `${role ?? 'everybody'}: ${name}`))].sort();
      return [
        {
          side: 'green',
          ok: names.length === 0,
          evidence: names.length === 0 ? 'the same' : `not the same on green: ${listed(names)}`,
        },
      ];
    },
  },
];

async function localeOf(session: Session, versions: boolean): Promise<string> {
  const version = versions ? `pg_catalog.pg_database_collation_actual_version(d.oid)` : 'NULL';
  const row = await session.one<{ text: string }>(
    `SELECT concat_ws(' ', d.datcollate, d.datctype, to_jsonb(d)->>'datlocprovider',
                      coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), ${version}) AS text
       FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()`,
  );
  if (!row) throw new Error('no database');
  return row.text;
}

async function encodingOf(session: Session): Promise<string> {
  const row = await session.one<{ value: string }>(`SELECT pg_catalog.current_setting('server_encoding') AS value`);
  if (!row) throw new Error('no such setting');
  return row.value;
}

const extensionsOf = (session: Session): Promise<{ name: string; version: string }[]> =>
  session.rows(
    `SELECT e.extname::text AS name, e.extversion AS version FROM pg_catalog.pg_extension AS e WHERE e.extname <> 'plpgsql' ORDER BY 1`,
  );

/** The version that CREATE EXTENSION makes. */
async function offeredBy(session: Session): Promise<ReadonlyMap<string, string>> {
  const rows = await session.rows<{ name: string; version: string }>(
    `SELECT a.name::text AS name, a.default_version AS version FROM pg_catalog.pg_available_extensions AS a`,
  );
  return new Map(rows.map(({ name, version }) => [name, version]));
}

/** As a new session of our role begins with them: what this one set for itself does not count. */
async function serverSettings(session: Session): Promise<ReadonlyMap<string, string>> {
  const rows = await session.rows<{ name: string; value: string }>(
    `SELECT s.name, coalesce(s.reset_val, '') AS value FROM pg_catalog.pg_settings AS s WHERE s.name = ANY ($1) ORDER BY 1`,
    [TOLD],
  );
  return new Map(rows.map(({ name, value }) => [name, value]));
}

interface RoleSetting extends Record<string, unknown> {
  /** null = everybody in this database. */
  readonly role: string | null;
  readonly name: string;
  /** A hash: the value may be anything. */
  readonly value: string;
}

const keyOf = ({ role, name, value }: RoleSetting): string => JSON.stringify([role, name, value]);

/** Of this database, and of roles in every database; the former win. */
const roleSettings = (session: Session): Promise<RoleSetting[]> =>
  session.rows<RoleSetting>(
    `SELECT DISTINCT ON (1, 2) r.rolname::text AS role, pg_catalog.split_part(c.line, '=', 1) AS name, pg_catalog.md5(c.line) AS value
       FROM pg_catalog.pg_db_role_setting AS s LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
      CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c(line)
      WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))
      ORDER BY 1, 2, s.setdatabase DESC`,
  );
