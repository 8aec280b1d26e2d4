/**
 * The last look inside the pause: what changed since every row was compared is compared once more, now that nobody writes. Row by row where the changes
 * are known by their keys (changedRows.ts); elsewhere (no key, truncated, never compared) the tables that were written to. Keeps true: what differs
 * stops the switch; a table that is too large to be read in the pause is compared by its newest rows, and is counted as such, never as whole.
 */
import { Problem } from '../../plan/model/errors';
import { shown, shownRelation } from '../../plan/model/quote';
import type { ValidationPlan } from '../../plan/model/validation';
import { ident } from '../ident';
import type { Session } from '../session';
import { QUERY_CANCELED, sqlstate } from '../toProblem';
import type { Target } from '../types';
import type { Pair } from '../verify/pairs';
import { pairTables } from '../verify/pairs';
import { selfTest } from '../verify/selfTest';
import type { SessionPair } from '../verify/session';
import { closePair, openPair } from '../verify/session';
import { readShapes } from '../verify/shapes';
import type { ChangedRows } from './changedRows';
import { ofUser } from './tables';

/** Rows written so far, by table. Reset or unknown figures are never equal to anything. */
export type Counters = Readonly<Record<string, number>>;

export async function readCounters(session: Session): Promise<Counters> {
  const rows = await session.rows<{ schema: string; name: string; n: number }>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name,
            (pg_catalog.pg_stat_get_tuples_inserted(c.oid) + pg_catalog.pg_stat_get_tuples_updated(c.oid)
              + pg_catalog.pg_stat_get_tuples_deleted(c.oid))::float8 AS n
       FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND ${ofUser('c', 'n')}`,
  );
  return Object.fromEntries(rows.map(({ schema, name, n }) => [shownRelation({ schema, name }), n]));
}

/** Up to here a table is read whole in the pause, where it has a key to take its newest rows by. */
const WHOLE_BYTES = 4 * 1024 ** 2;
const NEWEST = 1_000;

export interface QuickVerified {
  /** Rows that changed since they were compared; null = the changes are not known by their keys. */
  readonly changed: number | null;
  /** Compared as tables. */
  readonly tables: number;
  /** Compared by their newest rows alone. */
  readonly newest: number;
  readonly rows: number;
  /** Changed, and not looked at for want of time. */
  readonly unread: number;
}

export interface QuickVerify {
  /** `before` = counters of when every row was compared; null = everything counts as changed. Throws ProofFailed, SwitchOverran. */
  run(
    what: 'changed' | 'full',
    before: Counters | null,
    fenceLsn: string,
    leftMs: () => number,
  ): Promise<QuickVerified>;
}

interface Sum extends Record<string, unknown> {
  readonly n: number;
  readonly sum: string;
}

function sumSql(pair: Pair, side: 'source' | 'target', newest: boolean): string {
  const walk = pair.key?.walk;
  const order =
    newest && walk
      ? ` ORDER BY ${walk[side].map(({ name }) => `t.${ident(name)} DESC`).join(', ')} LIMIT ${NEWEST}`
      : '';
  return `SELECT count(*)::float8 AS n, coalesce(sum(x.h), 0)::text AS sum
            FROM (SELECT (${pair.rowHash[side]})::bigint AS h FROM ${pair.from[side]} WHERE ${pair.where[side]}${order}) AS x`;
}

const isTimeout = (error: unknown): boolean => sqlstate(error) === QUERY_CANCELED;

async function compareOne(sessions: SessionPair, pair: Pair, newest: boolean, leftMs: number): Promise<number> {
  const read = async (side: 'source' | 'target'): Promise<Sum> => {
    const session = sessions[side];
    await session.run(`SET statement_timeout = ${Math.max(1, Math.ceil(leftMs))}`);
    return (await session.one<Sum>(sumSql(pair, side, newest))) ?? { n: -1, sum: '' };
  };
  const [source, target] = await Promise.all([read('source'), read('target')]);
  if (source.n !== target.n || source.sum !== target.sum)
    throw new Problem(
      'ProofFailed',
      `${pair.label} differs: ${source.n} and ${target.n} rows${newest ? ' of the newest' : ''}`,
      {
        hint: 'pgshift verify shows the rows that differ',
        details: { table: pair.label },
      },
    );
  return source.n;
}

/** Part of the pause that may be spent here when the plan asks for changed rows only. */
const SHARE = 0.4;

export interface OpenPairs {
  readonly sessions: SessionPair;
  readonly pairs: readonly Pair[];
  close(): Promise<void>;
}

/** Sessions that compare, and what is compared with what. */
export async function openPairs(
  source: Target,
  target: Target,
  plan: ValidationPlan,
  purpose: string,
): Promise<OpenPairs> {
  const sessions = await openPair(source, target, plan.name, purpose);
  try {
    const test = await selfTest(sessions);
    const [here, there] = await Promise.all([readShapes(sessions.source), readShapes(sessions.target)]);
    const pairs =
      here.length === 0 ? [] : pairTables({ plan, source: here, target: there, sameDatabase: false, test }).pairs;
    return { sessions, pairs, close: () => closePair(sessions) };
  } catch (error) {
    await closePair(sessions);
    throw error;
  }
}

/** Before clients wait. `rows` reads what changed; null = nobody knows it by its keys. Both stay the caller's. */
export function quickVerify(
  { sessions, pairs }: OpenPairs,
  rows: ChangedRows | null,
  signal: AbortSignal,
): QuickVerify {
  return {
    async run(what, before, fenceLsn, leftMs) {
      const byKey = what === 'changed' ? rows : null;
      const now = before === null ? null : await readCounters(sessions.source);
      const known = byKey === null ? null : await byKey.finish(fenceLsn, leftMs(), signal);
      const changed = pairs.filter(
        (pair) =>
          byKey?.covers(pair) !== true &&
          (what === 'full' || pair.source.partitioned || now === null || now[pair.label] !== before?.[pair.label]),
      );
      const done = { changed: known, tables: 0, newest: 0, rows: 0, unread: 0 };
      const began = performance.now();
      const share = what === 'full' ? Infinity : leftMs() * SHARE;
      // The smallest first: as many as can be had.
      for (const pair of [...changed].sort((a, b) => a.source.bytes - b.source.bytes)) {
        const left = Math.min(leftMs(), share - (performance.now() - began));
        const newest = what === 'changed' && pair.source.bytes > WHOLE_BYTES;
        if (left <= 0 || (newest && !pair.key?.walk)) {
          done.unread += 1;
          continue;
        }
        try {
          done.rows += await compareOne(sessions, pair, newest, left);
          done.tables += 1;
          if (newest) done.newest += 1;
        } catch (error) {
          if (!isTimeout(error)) throw error;
          if (what === 'full')
            throw new Problem('SwitchOverran', `${shown(pair.label)} could not be compared within the pause`);
          done.unread += 1;
        }
      }
      return done;
    },
  };
}
