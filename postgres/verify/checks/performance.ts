/**
 * Check performance: the source's slowest statements explained on both sides, cache hit ratio, indexes that the source reads by and the target lacks,
 * tables without statistics. Warnings alone: a cost is an estimate. Statements are named by their queryid, never by their text.
 */
import { shownRelation } from '../../../plan/model/quote';
import type { VerifyFinding } from '../../../plan/model/validation';
import { formatCount } from '../../../plan/model/values';
import { relation } from '../../ident';
import type { Session } from '../../session';
import type { Phase } from '../prepared';
import { onBoth } from '../tally';
import { unmapped } from './facts';
import type { Checked } from './index';

const STATEMENTS = 20;
/** The target's cost against the source's. */
const WORSE = 2;
const HIT_RATIO = 0.9;
/** EXPLAIN (GENERIC_PLAN) came with 16. */
const GENERIC_FROM = 160000;

interface Slow extends Record<string, unknown> {
  readonly id: string;
  readonly text: string;
}

async function slowest(session: Session): Promise<readonly Slow[] | null> {
  const place = await session.one<{ schema: string }>(
    `SELECT n.nspname::text AS schema FROM pg_extension AS x JOIN pg_namespace AS n ON n.oid = x.extnamespace WHERE x.extname = 'pg_stat_statements'`,
  );
  if (!place) return null;
  return session
    .rows<Slow>(
      `SELECT s.queryid::text AS id, s.query AS text FROM ${relation({ schema: place.schema, name: 'pg_stat_statements' })} AS s
        WHERE s.dbid = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()) AND s.toplevel
          AND s.query ~* '^\\s*(select|with|insert|update|delete)\\M' AND s.query !~* 'pgshift'
        ORDER BY s.total_exec_time DESC LIMIT ${STATEMENTS}`,
    )
    .catch(() => null);
}

/** Null: it cannot be explained there. */
async function costOf(session: Session, text: string): Promise<number | null> {
  try {
    const row = await session.one<{ 'QUERY PLAN': { Plan: { 'Total Cost': number } }[] }>(
      `EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text.replace(/;\s*$/, '')}`,
    );
    return row?.['QUERY PLAN'][0]?.Plan['Total Cost'] ?? null;
  } catch {
    return null;
  }
}

const hitRatio = async (session: Session): Promise<number | null> => {
  const row = await session.one<{ ratio: number | null }>(
    `SELECT (sum(s.heap_blks_hit) / nullif(sum(s.heap_blks_hit) + sum(s.heap_blks_read), 0))::float8 AS ratio FROM pg_statio_user_tables AS s`,
  );
  return row?.ratio ?? null;
};

interface Index extends Record<string, unknown> {
  readonly rel: string;
  readonly what: string;
  readonly scans: number;
}

/** By what it is made of: the same index under another name is the same. */
const INDEXES = `
SELECT i.indrelid::text AS rel, regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX .*? ON (ONLY )?.*? USING ', '') AS what,
       coalesce((SELECT sum(s.idx_scan) FROM pg_stat_all_indexes AS s
                  WHERE s.indexrelid = i.indexrelid OR s.indexrelid IN (SELECT p.relid FROM pg_partition_tree(i.indexrelid) AS p)), 0)::float8 AS scans
  FROM pg_index AS i WHERE i.indrelid = ANY ($1::oid[]) AND i.indisvalid`;

/** Of tables whose columns have the same names on both sides; those that a map shapes have indexes of their own. */
async function missingIndexes(phase: Phase): Promise<VerifyFinding[]> {
  const same = unmapped(phase);
  const found = await onBoth((side) => phase.sessions[side].rows<Index>(INDEXES, [same.map((pair) => pair[side].oid)]));
  return same.flatMap(({ source, target, label }) => {
    const there = new Set(found.target.filter(({ rel }) => rel === target.oid).map(({ what }) => what));
    return found.source
      .filter(({ rel, what, scans }) => rel === source.oid && scans > 0 && !there.has(what))
      .map(({ what, scans }) =>
        warn(label, `index ${what} was read ${formatCount(scans)} times on the source and is missing on the target`),
      );
  });
}

const warn = (table: string | null, message: string): VerifyFinding => ({ check: 'performance', table, message });

export async function checkPerformance(phase: Phase): Promise<Checked> {
  const { sessions, pairs } = phase;
  const warnings: VerifyFinding[] = [];
  for (const pair of pairs)
    if (pair.target.rows < 0 && pair.target.bytes > 0)
      warnings.push(warn(pair.label, `${shownRelation(pair.target)} was never analysed on the target`));
  const ratios = await onBoth((side) => hitRatio(sessions[side]));
  if (ratios.target !== null && ratios.target < HIT_RATIO && (ratios.source ?? 1) > ratios.target)
    warnings.push(
      warn(
        null,
        `cache hit ratio is ${ratios.target.toFixed(2)} on the target, ${ratios.source?.toFixed(2) ?? 'unknown'} on the source`,
      ),
    );
  return {
    errors: [],
    warnings: [...warnings, ...(await missingIndexes(phase)), ...(await statements(sessions.source, sessions.target))],
  };
}

async function statements(source: Session, target: Session): Promise<VerifyFinding[]> {
  if (Math.min(source.serverVersion, target.serverVersion) < GENERIC_FROM)
    return [warn(null, 'statements are not explained: both sides must be PostgreSQL 16 or later')];
  const slow = await slowest(source);
  if (slow === null)
    return [warn(null, 'statements are not explained: the source has no pg_stat_statements that this role may read')];
  const found: VerifyFinding[] = [];
  let unknown = 0;
  for (const { id, text } of slow) {
    const [here, there] = await Promise.all([costOf(source, text), costOf(target, text)]);
    if (here === null || there === null) unknown += 1;
    else if (there > here * WORSE)
      found.push(
        warn(null, `statement ${id} costs ${formatCount(there)} on the target, ${formatCount(here)} on the source`),
      );
  }
  if (unknown > 0)
    found.push(warn(null, `${unknown} of ${slow.length} statements could not be explained on both sides`));
  return found;
}
