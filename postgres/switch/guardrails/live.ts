/** Guardrails about this very moment: open transactions, other people's replication, ours, the wall. */
import type { RelationName } from '../../../plan/model/steps';
import type { Side } from '../../../plan/model/traffic';
import { otherSide } from '../../../plan/model/traffic';
import { carriedTables } from '../carried';
import { clientsOf, describeClients } from '../clients';
import { readGuard } from '../guard';
import { publisherOf } from '../names';
import type { Both } from '../pair';
import { healthOf } from '../progress';
import { endsOf, namesOf } from '../replicate';
import { publishedTables } from '../publication';
import { replicated, userTables } from '../tables';
import { wallGaps } from '../wall';
import { shownRelation } from '../../../plan/model/quote';
import type { Check } from './types';
import { ALWAYS, AT_SWITCH, listed, none, ofEach } from './types';

const OURS = `'^pgshift_[0-9a-f]{16}_(fwd|rev)(_chk|_at)?$'`;
const HERE = `(SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())`;

/** What a direction must carry: all of blue's tables; of green's, those that blue has as well (the plan's change may have added some). */
const expected = async (both: Both, publisher: Side): Promise<RelationName[]> =>
  publisher === 'blue' ? replicated(await userTables(both.blue)) : carriedTables(both, publisher);

export const LIVE: readonly Check[] = [
  {
    id: 'prepared_transactions',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'COMMIT PREPARED or ROLLBACK PREPARED; pg_prepared_xacts lists them',
    look: (input) =>
      ofEach(input, async (session) => {
        const row = await session.one<{ n: number }>(
          `SELECT count(*)::int AS n FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = pg_catalog.current_database()`,
        );
        if (!row) throw new Error('no count');
        return { ok: row.n === 0, evidence: `${row.n} prepared transactions` };
      }),
  },
  {
    id: 'long_transactions',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'wait for them or end them: a slot waits for every one of the server, and the fence ends those of blue',
    look: ({ both, limits: { maxTransactionAgeMs }, ...input }) =>
      // Of the whole server: that is what a slot waits for.
      ofEach({ both, limits: { maxTransactionAgeMs, maxLagBytes: 0 }, ...input }, async (session) => {
        const rows = await session.rows<{
          pid: number;
          seconds: number | null;
          database: string | null;
          hidden: boolean;
        }>(
          `SELECT a.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds, a.datname::text AS database,
                  a.backend_type IS NULL AS hidden
             FROM pg_catalog.pg_stat_activity AS a
            WHERE coalesce(a.backend_type, 'client backend') = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid() AND a.usename IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_replication AS r WHERE r.pid = a.pid)
              AND NOT coalesce(a.usename = current_user AND a.application_name LIKE 'pgshift/%', false)`,
        );
        const hidden = rows.filter((row) => row.hidden);
        if (hidden.length > 0) throw new Error('hidden'); // without pg_read_all_stats their age is unknown
        const old = rows.filter(({ seconds }) => seconds !== null && seconds * 1000 > maxTransactionAgeMs);
        return {
          ok: old.length === 0,
          evidence:
            old.length === 0
              ? `none older than ${maxTransactionAgeMs / 1000} s`
              : listed(
                  old.map(
                    ({ pid, seconds, database }) =>
                      `pid ${pid} in ${database ?? '?'} for ${Math.round(seconds ?? 0)} s`,
                  ),
                ),
        };
      }),
  },
  {
    id: 'other_slots',
    stages: ALWAYS,
    severity: 'warning',
    remedy: 'whoever owns them has to make them anew on green: slots do not move',
    look: async ({ both }) => [
      {
        side: 'blue',
        ...(await none(
          both.blue,
          `SELECT s.slot_name::text AS name FROM pg_catalog.pg_replication_slots AS s
            WHERE s.database = pg_catalog.current_database() AND NOT s.temporary AND s.slot_name !~ ${OURS} ORDER BY 1`,
          `other people's logical slots`,
        )),
      },
    ],
  },
  {
    id: 'other_subscriptions',
    stages: ALWAYS,
    severity: 'error',
    remedy: 'what they apply passes the wall: disable them, and make them anew on the new side',
    look: (input) =>
      ofEach(input, (session) =>
        none(
          session,
          `SELECT u.subname::text AS name FROM pg_catalog.pg_subscription AS u WHERE u.subdbid = ${HERE} AND u.subenabled AND u.subname !~ ${OURS} ORDER BY 1`,
          `other people's subscriptions`,
        ),
      ),
  },
  {
    id: 'other_publications',
    stages: ALWAYS,
    severity: 'warning',
    remedy: 'they are copied with the schema; their subscribers have to come to green',
    look: async ({ both }) => [
      {
        side: 'blue',
        ...(await none(
          both.blue,
          `SELECT p.pubname::text AS name FROM pg_catalog.pg_publication AS p WHERE p.pubname !~ ${OURS} ORDER BY 1`,
          `other people's publications`,
        )),
      },
    ],
  },
  {
    id: 'replication_well',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'look at the log of the subscriber; a switch waits until replication is well',
    look: async ({ both, pair, direction }) => {
      const publisher = publisherOf(direction);
      const names = namesOf(pair, direction);
      const tables = (await expected(both, publisher)).length;
      const { problems, lag } = await healthOf(endsOf(both, direction), names, tables);
      return [
        {
          side: otherSide(publisher),
          ok: problems.length === 0,
          evidence: problems.length === 0 ? `${tables} tables, lag ${lag.bytes ?? '?'} bytes` : problems.join('; '),
        },
      ];
    },
  },
  {
    id: 'replication_lag',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'wait until it has caught up, or raise switch.maxLag',
    look: async ({ both, pair, direction, limits }) => {
      const publisher = publisherOf(direction);
      const { lag } = await healthOf(endsOf(both, direction), namesOf(pair, direction), 0);
      if (lag.bytes === null) throw new Error('unknown');
      return [
        {
          side: otherSide(publisher),
          ok: lag.bytes <= limits.maxLagBytes,
          evidence: `${lag.bytes} bytes, ${lag.ms ?? '?'} ms`,
        },
      ];
    },
  },
  {
    id: 'all_published',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'tables came or went since the sync began: take them in, or begin again',
    look: async ({ both, pair, direction }) => {
      const publisher = publisherOf(direction);
      const published = new Set(
        ((await publishedTables(both[publisher], namesOf(pair, direction).publication)) ?? []).map(shownRelation),
      );
      const tables = (await expected(both, publisher)).map(shownRelation);
      const missing = tables.filter((name) => !published.has(name));
      return [
        {
          side: publisher,
          ok: missing.length === 0,
          evidence: missing.length === 0 ? `${tables.length} tables` : `not carried: ${listed(missing)}`,
        },
      ];
    },
  },
  {
    id: 'one_writable_side',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'pgshift fence status says which side it is',
    look: async ({ both, pair, direction }) => {
      const source = publisherOf(direction);
      const here = await readGuard(both[source], pair.migration);
      const there = await readGuard(both[otherSide(source)], pair.migration);
      const ok = here?.writable === true && there?.writable === false;
      return [
        {
          side: 'both',
          ok,
          evidence: `${source}: ${here?.writable ?? 'no row'}, ${otherSide(source)}: ${there?.writable ?? 'no row'}`,
        },
      ];
    },
  },
  {
    id: 'other_side_fenced',
    stages: AT_SWITCH,
    severity: 'error',
    remedy: 'the wall goes up again before the switch: tables came, or somebody took a trigger away',
    look: async ({ both, pair, direction }) => {
      const side = otherSide(publisherOf(direction));
      const gaps = await wallGaps(both[side], pair.migration);
      return [
        {
          side,
          ok: gaps.length === 0,
          evidence: gaps.length === 0 ? 'every table is walled' : `open: ${listed(gaps)}`,
        },
      ];
    },
  },
  {
    id: 'other_side_quiet',
    stages: AT_SWITCH,
    severity: 'warning',
    remedy: 'see who works there already; its writes are refused until the switch',
    look: async ({ both, direction }) => {
      const side = otherSide(publisherOf(direction));
      const writing = (await clientsOf(both[side])).filter((client) => client.writing);
      return [
        { side, ok: writing.length === 0, evidence: writing.length === 0 ? 'nobody writes' : describeClients(writing) },
      ];
    },
  },
];
