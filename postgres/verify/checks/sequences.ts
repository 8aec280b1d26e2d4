/**
 * Check sequences: none of the target's may hand out a value that the source has handed out already, or that stands in its own column. Where logical
 * replication feeds the target positions are not replicated and are set at the switch: then being behind is a warning.
 */
import { shown } from '../../../plan/model/quote';
import type { VerifyFinding } from '../../../plan/model/validation';
import { ident, relation } from '../../ident';
import type { Session } from '../../session';
import { findBarrier } from '../barrier';
import type { Phase } from '../prepared';
import { onBoth } from '../tally';
import type { Checked } from './index';

interface Sequence extends Record<string, unknown> {
  readonly schema: string;
  readonly name: string;
  readonly shape: string;
  readonly increment: string;
  /** The last value that was handed out; null = none yet. */
  readonly last: string | null;
  readonly owner: {
    readonly schema: string;
    readonly table: string;
    readonly column: string;
    readonly indexed: boolean;
  } | null;
}

const SEQUENCES = `
  SELECT n.nspname::text AS schema, c.relname::text AS name, s.seqincrement::text AS increment, pg_sequence_last_value(c.oid)::text AS last,
    concat(format_type(s.seqtypid, NULL), ' INCREMENT ', s.seqincrement, ' MINVALUE ', s.seqmin, ' MAXVALUE ', s.seqmax,
      CASE WHEN s.seqcycle THEN ' CYCLE' END) AS shape,
    (SELECT json_build_object('schema', tn.nspname, 'table', t.relname, 'column', a.attname, 'indexed', EXISTS (
        SELECT FROM pg_index AS i WHERE i.indrelid = t.oid AND i.indisvalid AND i.indkey[0] = a.attnum AND i.indpred IS NULL))
       FROM pg_depend AS d JOIN pg_class AS t ON t.oid = d.refobjid JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
       JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1) AS owner
  FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = ANY ($1::text[]) ORDER BY 1, 2`;

const nameOf = ({ schema, name }: Sequence): string => `${shown(schema)}.${shown(name)}`;

export async function checkSequences(phase: Phase): Promise<Checked> {
  const { sessions, pairs } = phase;
  const schemas = [...new Set(pairs.flatMap(({ source, target }) => [source.schema, target.schema]))];
  const sides = await onBoth((side) => sessions[side].rows<Sequence>(SEQUENCES, [schemas]));
  const fed = (await findBarrier(sessions)) !== null;
  const there = new Map(sides.target.map((one) => [nameOf(one), one]));
  // A sequence of a table that is not compared is not looked at.
  const compared = new Set(pairs.filter((p) => !p.mapped).map(({ source }) => `${source.schema}.${source.name}`));
  const relevant = sides.source.filter(({ owner }) => owner === null || compared.has(`${owner.schema}.${owner.table}`));
  const errors: VerifyFinding[] = [];
  const warnings: VerifyFinding[] = [];
  const say = (list: VerifyFinding[], message: string): void =>
    void list.push({ check: 'sequences', table: null, message });
  for (const source of relevant) {
    const target = there.get(nameOf(source));
    if (!target) {
      say(errors, `${nameOf(source)} is missing on the target`);
      continue;
    }
    if (target.shape !== source.shape)
      say(errors, `${nameOf(source)} is ${target.shape} on the target, ${source.shape} on the source`);
    const behind = behindBy(source, target);
    if (behind !== null)
      say(fed ? warnings : errors, `${nameOf(source)} is behind the source${behind}: it would hand out values again`);
  }
  const targets = new Set(pairs.map(({ target }) => `${target.schema}.${target.name}`));
  for (const target of sides.target.filter(({ owner }) => owner && targets.has(`${owner.schema}.${owner.table}`)))
    if (await isBehindColumn(sessions.target, target))
      say(
        fed ? warnings : errors,
        `${nameOf(target)} is behind the values that stand in ${target.owner?.table ?? ''}.${target.owner?.column ?? ''}`,
      );
  return { errors, warnings };
}

/** Null: not behind. */
function behindBy(source: Sequence, target: Sequence): string | null {
  if (source.last === null) return null;
  if (target.last === null) return ', it was never used there';
  const up = BigInt(source.increment) > 0n;
  const distance = up ? BigInt(source.last) - BigInt(target.last) : BigInt(target.last) - BigInt(source.last);
  return distance > 0n ? ` by ${distance}` : null;
}

async function isBehindColumn(session: Session, { schema, name, owner, increment }: Sequence): Promise<boolean> {
  // Without an index the answer would cost a scan of the table.
  if (!owner?.indexed) return false;
  const up = BigInt(increment) > 0n;
  const sequence = { schema, name };
  const table = { schema: owner.schema, name: owner.table };
  const row = await session.one<{ behind: boolean }>(
    `SELECT coalesce((SELECT ${up ? 'max' : 'min'}(t.${ident(owner.column)})::numeric FROM ${relation(table)} AS t)
        ${up ? '>' : '<'} (SELECT CASE WHEN q.is_called THEN q.last_value ELSE q.last_value - ${up ? '1' : '-1'} END::numeric
          FROM ${relation(sequence)} AS q), false) AS behind`,
  );
  return row?.behind ?? false;
}
