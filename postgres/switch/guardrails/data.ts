/** Guardrails about what the databases hold: what logical replication does not carry, or carries otherwise than one expects. */
import { shownRelation } from '../../../plan/model/quote';
import { SIDES } from '../../../plan/model/traffic';
import { planIdentities } from '../identity';
import { readSequences, sequencesBehind } from '../sequences';
import { ofUser, userTables } from '../tables';
import type { Check } from './types';
import { ALWAYS, AT_SWITCH, BEFORE, listed, none, ofEach } from './types';

const USER_TABLES = `pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace`;
const NAME = `pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name`;

export const DATA: readonly Check[] = [
  {
    id: 'green_empty',
    stages: BEFORE,
    severity: 'error',
    remedy: 'green is a database that holds nothing of yours',
    look: async ({ both }) => [
      {
        side: 'green',
        ...(await none(
          both.green,
          `SELECT ${NAME} FROM ${USER_TABLES} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND ${ofUser('c', 'n')} ORDER BY 1`,
          'relations in green',
        )),
      },
    ],
  },
  {
    id: 'replica_identity',
    stages: BEFORE,
    severity: 'error',
    remedy: 'give the table a primary key that is not deferrable',
    look: async ({ both }) => {
      const plans = await planIdentities(both.blue, await userTables(both.blue));
      const bad = plans.flatMap((plan) =>
        plan.use === 'none' ? [`${shownRelation(plan.table)} (${plan.types.join(', ')})`] : [],
      );
      return [
        {
          side: 'blue',
          ok: bad.length === 0,
          evidence:
            bad.length === 0
              ? `${plans.length} tables can be told apart`
              : `no key, and types without equality: ${listed(bad)}`,
        },
      ];
    },
  },
  {
    id: 'identity_full',
    stages: BEFORE,
    severity: 'warning',
    remedy: 'a primary key; without one every UPDATE and DELETE of a row reads the whole table on the other side',
    look: async ({ both }) => {
      const plans = await planIdentities(both.blue, await userTables(both.blue));
      const full = plans
        .filter(({ use, table }) => use === 'full' || table.identity === 'f')
        .map(({ table }) => shownRelation(table));
      return [
        {
          side: 'blue',
          ok: full.length === 0,
          evidence: full.length === 0 ? 'none' : `whole rows are compared: ${listed(full)}`,
        },
      ];
    },
  },
  {
    id: 'identity_both_sides',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'replica identities are set on both sides before the sync; set them again',
    look: async (input) => {
      // A table that one side has alone is carried nowhere.
      const [blue = [], green = []] = await Promise.all(SIDES.map((side) => userTables(input.both[side])));
      const labels = new Set(green.map(shownRelation));
      const common = new Set(blue.map(shownRelation).filter((label) => labels.has(label)));
      return ofEach(input, async (session) => {
        const tables = (await userTables(session)).filter((table) => common.has(shownRelation(table)));
        const open = (await planIdentities(session, tables)).filter(({ use }) => use !== 'as it is');
        return {
          ok: open.length === 0,
          evidence: open.length === 0 ? 'all set' : listed(open.map(({ table }) => shownRelation(table))),
        };
      });
    },
  },
  {
    id: 'unlogged_tables',
    stages: ALWAYS,
    severity: 'error',
    remedy:
      'ALTER TABLE ... SET LOGGED, or answer for it by name (allow): it is copied once, and what is written to it afterwards stays behind',
    look: async ({ both }) => [
      {
        side: 'blue',
        ...(await none(
          both.blue,
          `SELECT ${NAME} FROM ${USER_TABLES} WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND ${ofUser('c', 'n')} ORDER BY 1`,
          'unlogged tables, which no replication carries',
        )),
      },
    ],
  },
  {
    id: 'large_objects',
    stages: ALWAYS,
    severity: 'warning',
    remedy:
      'they are copied once; what changes afterwards is not carried, and no wall stops it: write none while the switch runs',
    look: async ({ both }) => {
      const row = await both.blue.one<{ n: number }>(
        `SELECT count(*)::int AS n FROM pg_catalog.pg_largeobject_metadata`,
      );
      if (!row) throw new Error('no count');
      return [{ side: 'blue', ok: row.n === 0, evidence: `${row.n} large objects` }];
    },
  },
  {
    id: 'foreign_tables',
    stages: BEFORE,
    severity: 'warning',
    remedy: 'what they write elsewhere is written elsewhere: check that green reaches the same servers',
    look: async ({ both }) => [
      {
        side: 'blue',
        ...(await none(
          both.blue,
          `SELECT ${NAME} FROM ${USER_TABLES} WHERE c.relkind = 'f' AND ${ofUser('c', 'n')} ORDER BY 1`,
          'foreign tables',
        )),
      },
    ],
  },
  {
    id: 'materialized_views',
    stages: BEFORE,
    severity: 'info',
    remedy: 'they are refreshed on green; what refreshes them on blue has to do it on green after the switch',
    look: async ({ both }) => [
      {
        side: 'blue',
        ...(await none(
          both.blue,
          `SELECT ${NAME} FROM ${USER_TABLES} WHERE c.relkind = 'm' AND ${ofUser('c', 'n')} ORDER BY 1`,
          'materialized views',
        )),
      },
    ],
  },
  {
    id: 'generated_columns',
    stages: BEFORE,
    severity: 'error',
    remedy: 'VIRTUAL generated columns need version 18 on both sides: make them STORED, or choose a newer green',
    look: async ({ both }) => {
      if (both.green.serverVersion >= 180000 || both.blue.serverVersion < 180000)
        return [{ side: 'blue', ok: true, evidence: 'stored ones only, computed on each side' }];
      return [
        {
          side: 'blue',
          ...(await none(
            both.blue,
            `SELECT DISTINCT ${NAME} FROM ${USER_TABLES} JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
              WHERE a.attgenerated = 'v' AND NOT a.attisdropped AND ${ofUser('c', 'n')} ORDER BY 1`,
            'virtual generated columns',
          )),
        },
      ];
    },
  },
  {
    id: 'triggers_always',
    stages: ALWAYS,
    severity: 'error',
    remedy:
      'ENABLE ALWAYS and ENABLE REPLICA triggers also run for what is replicated: their effects would come twice. ALTER TABLE ... ENABLE TRIGGER',
    look: (input) =>
      ofEach(input, (session) =>
        none(
          session,
          `SELECT pg_catalog.quote_ident(t.tgname) || ' on ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
             FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE t.tgenabled IN ('A', 'R') AND NOT t.tgisinternal AND ${ofUser('c', 'n')}
           UNION ALL
           SELECT 'rule ' || pg_catalog.quote_ident(r.rulename) || ' on ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
             FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE r.ev_enabled IN ('A', 'R') AND ${ofUser('c', 'n')} ORDER BY 1`,
          'triggers and rules that also run for replication',
        ),
      ),
  },
  {
    id: 'event_triggers',
    stages: BEFORE,
    severity: 'warning',
    remedy: 'they also run for what pgshift makes and drops: see that they let it',
    look: (input) =>
      ofEach(input, (session) =>
        none(
          session,
          `SELECT e.evtname::text AS name FROM pg_catalog.pg_event_trigger AS e WHERE e.evtenabled <> 'D' ORDER BY 1`,
          'event triggers',
        ),
      ),
  },
  {
    id: 'invalid_indexes',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'REINDEX INDEX CONCURRENTLY, or drop it',
    look: (input) =>
      ofEach(input, (session) =>
        none(
          session,
          `SELECT ${NAME} FROM ${USER_TABLES} JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
            WHERE NOT i.indisvalid AND c.relkind = 'i' AND ${ofUser('c', 'n')} ORDER BY 1`,
          'invalid indexes',
        ),
      ),
  },
  {
    id: 'deferrable_constraints',
    stages: BEFORE,
    severity: 'info',
    remedy: 'replication applies row by row, without them: constraints are checked on the writing side only',
    look: async ({ both }) => [
      {
        side: 'blue',
        ...(await none(
          both.blue,
          `SELECT pg_catalog.quote_ident(k.conname) || ' of ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
             FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE k.condeferrable AND ${ofUser('c', 'n')} ORDER BY 1`,
          'deferrable constraints',
        )),
      },
    ],
  },
  {
    id: 'sequences_readable',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA ... to the role of the connection',
    look: async ({ both }) => {
      const all = await readSequences(both.blue);
      const denied = await both.green.rows<{ name: string }>(
        `SELECT ${NAME} FROM ${USER_TABLES}
          WHERE ${ofUser('c', 'n')} AND CASE WHEN c.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(c.oid, 'UPDATE') ELSE false END`,
      );
      return [
        {
          side: 'both',
          ok: denied.length === 0,
          evidence:
            denied.length === 0
              ? `${all.length} sequences`
              : `may not be set: ${listed(denied.map(({ name }) => name))}`,
        },
      ];
    },
  },
  {
    id: 'sequences_there',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'make the sequence on the other side: it came after the schema was copied',
    look: async ({ both, direction }) => {
      const [source, dest] = direction === 'forward' ? [both.blue, both.green] : [both.green, both.blue];
      const here = new Set((await readSequences(dest)).map(shownRelation));
      const missing = (await sequencesBehind(source, dest)).filter((name) => !here.has(name));
      return [
        {
          side: 'both',
          ok: missing.length === 0,
          evidence: missing.length === 0 ? 'the same sequences' : `missing: ${listed(missing)}`,
        },
      ];
    },
  },
];
