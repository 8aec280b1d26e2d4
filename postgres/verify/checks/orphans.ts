/**
 * Check orphans: rows that refer to a row which is not there (a foreign key may be NOT VALID, not enforced, or was loaded behind switched-off
 * triggers), and NULLs on the source where the target takes none. Counts alone.
 */
import { shown, shownRelation } from '../../../plan/model/quote';
import type { VerifyFinding } from '../../../plan/model/validation';
import { formatCount } from '../../../plan/model/values';
import { ident, relation } from '../../ident';
import type { Session } from '../../session';
import type { Pair } from '../pairs';
import type { Phase } from '../prepared';
import { onBoth } from '../tally';
import type { Checked } from './index';

interface ForeignKey extends Record<string, unknown> {
  readonly name: string;
  readonly child: { readonly schema: string; readonly name: string };
  readonly parent: { readonly schema: string; readonly name: string };
  readonly from: string[];
  readonly to: string[];
}

const FOREIGN_KEYS = `
  SELECT k.conname::text AS name, json_build_object('schema', n.nspname, 'name', c.relname) AS child,
    json_build_object('schema', pn.nspname, 'name', p.relname) AS parent,
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(num, ord) JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.num ORDER BY u.ord) AS "from",
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(num, ord) JOIN pg_attribute AS a ON a.attrelid = p.oid AND a.attnum = u.num ORDER BY u.ord) AS "to"
  FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_class AS p ON p.oid = k.confrelid JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
  WHERE k.contype = 'f' AND k.conparentid = 0 AND c.oid::text = ANY ($1::text[]) ORDER BY 1`;

async function orphansOf(session: Session, key: ForeignKey): Promise<number> {
  const match = key.from.map((name, index) => `p.${ident(key.to[index] ?? '')} = t.${ident(name)}`).join(' AND ');
  const given = key.from.map((name) => `t.${ident(name)} IS NOT NULL`).join(' AND ');
  const row = await session.one<{ n: number }>(
    `SELECT count(*)::float8 AS n FROM ${relation(key.child)} AS t WHERE ${given}
        AND NOT EXISTS (SELECT FROM ${relation(key.parent)} AS p WHERE ${match})`,
  );
  return row?.n ?? 0;
}

export async function checkOrphans({ sessions, pairs }: Phase): Promise<Checked> {
  const found = await onBoth(async (side) => {
    const keys = await sessions[side].rows<ForeignKey>(FOREIGN_KEYS, [pairs.map((pair) => pair[side].oid)]);
    const findings: VerifyFinding[] = [];
    for (const key of keys) {
      const rows = await orphansOf(sessions[side], key);
      const message = `${formatCount(rows)} rows on the ${side} refer to no row of ${shownRelation(key.parent)} (${shown(key.name)})`;
      if (rows > 0) findings.push({ check: 'orphans', table: shownRelation(key.child), message });
    }
    return findings;
  });
  const nulls: VerifyFinding[] = [];
  for (const pair of pairs) nulls.push(...(await nullsOf(sessions.source, pair)));
  return { errors: [...found.target, ...nulls], warnings: found.source };
}

/** Columns that may be NULL on the source and not on the target. */
async function nullsOf(session: Session, pair: Pair): Promise<VerifyFinding[]> {
  const strict = pair.columns.filter(({ from, to }) => to.notNull && !(from?.notNull ?? false));
  if (strict.length === 0) return [];
  const counts = strict.map(({ source }, index) => `count(*) FILTER (WHERE (${source}) IS NULL)::float8 AS n${index}`);
  const row = await session.one<Record<string, number>>(
    `SELECT ${counts.join(', ')} FROM ${pair.from.source} WHERE ${pair.where.source}`,
  );
  return strict.flatMap(({ name }, index): VerifyFinding[] => {
    const n = row?.[`n${index}`] ?? 0;
    const message = `${formatCount(n)} rows on the source are NULL in ${shown(name)}, which the target does not take`;
    return n > 0 ? [{ check: 'orphans', table: pair.label, message }] : [];
  });
}
