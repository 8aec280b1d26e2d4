/**
 * Sequences, which no replication carries: all of them, with a gap. Keeps true: after it no sequence of the target hands out a value that the source has
 * handed out, in either sense of counting, whatever was cached; a position never goes back; doing it again changes nothing.
 */
import { Problem } from '../../plan/model/errors';
import type { RelationName } from '../../plan/model/steps';
import { shownRelation } from '../../plan/model/quote';
import { literal, relation } from '../ident';
import type { Session } from '../session';
import { chunks, ofUser } from './tables';

export interface Sequence extends RelationName {
  /** bigint throughout: values come close to 2^63. With a cache it is the last value that any session was given to hand out. */
  readonly last: bigint;
  /** false: `last` itself is the next one. */
  readonly called: boolean;
  readonly increment: bigint;
  readonly min: bigint;
  readonly max: bigint;
  readonly cycles: boolean;
}

interface Defined extends RelationName, Record<string, unknown> {
  readonly increment: string;
  readonly min: string;
  readonly max: string;
  readonly cycles: boolean;
}

/** Every sequence of the user's, with its position, in a few statements however many there are. Throws PrivilegeMissing. */
export async function readSequences(session: Session): Promise<Sequence[]> {
  const defined = await session.rows<Defined>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name, s.seqincrement::text AS increment, s.seqmin::text AS min, s.seqmax::text AS max,
            s.seqcycle AS cycles
       FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid
       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE ${ofUser('c', 'n')} ORDER BY 1, 2`,
  );
  const all: Sequence[] = [];
  for (const some of chunks(defined)) {
    const positions = new Map(
      (
        await session.rows<{ name: string; last: string; called: boolean }>(
          some
            .map(
              (one) =>
                `SELECT ${literal(relation(one))} AS name, last_value::text AS last, is_called AS called FROM ${relation(one)}`,
            )
            .join(' UNION ALL '),
        )
      ).map((row) => [row.name, row]),
    );
    for (const one of some) {
      const at = positions.get(relation(one));
      if (!at) throw new Problem('NoSuchObject', `${session.name}: sequence ${shownRelation(one)} has gone`);
      all.push({
        schema: one.schema,
        name: one.name,
        last: BigInt(at.last),
        called: at.called,
        increment: BigInt(one.increment),
        min: BigInt(one.min),
        max: BigInt(one.max),
        cycles: one.cycles,
      });
    }
  }
  return all;
}

interface Position {
  readonly last: bigint;
  readonly called: boolean;
}
const nextOf = ({ last, called }: Position, increment: bigint): bigint => (called ? last + increment : last);
const ahead = (increment: bigint, a: bigint, b: bigint): boolean => (increment > 0n ? a > b : a < b);

/**
 * Where the target's sequence goes. `gap` counts steps; it is left out where it would pass the end, and for one that never gave a value. `mine` already
 * being as far or further (an earlier try, a copy) is kept.
 */
export function positionFor(source: Sequence, mine: Sequence, gap: bigint): Position & { readonly gap: bigint } {
  const wanted = source.last + gap * source.increment;
  const fits = source.called && !source.cycles && wanted >= mine.min && wanted <= mine.max;
  const to = { last: fits ? wanted : source.last, called: source.called };
  const kept = !source.cycles && !ahead(mine.increment, nextOf(to, mine.increment), nextOf(mine, mine.increment));
  return { ...(kept ? { last: mine.last, called: mine.called } : to), gap: fits ? gap : 0n };
}

export interface SequencesSet {
  readonly sequences: number;
  readonly changed: number;
  /** Without the gap: it would pass their end, or they cycle. */
  readonly withoutGap: readonly string[];
  /** Only there on the source: nothing to set. */
  readonly missing: readonly string[];
}

/** Throws NoSuchObject for a source position that lies outside of the target's bounds. */
export async function setSequences(source: Session, target: Session, gap: number): Promise<SequencesSet> {
  const theirs = await readSequences(source);
  const mine = new Map((await readSequences(target)).map((one) => [relation(one), one]));
  const changes: { name: string; last: string; called: boolean }[] = [];
  const withoutGap: string[] = [];
  const missing: string[] = [];
  for (const one of theirs) {
    const here = mine.get(relation(one));
    if (!here) {
      missing.push(shownRelation(one));
      continue;
    }
    if (one.last < here.min || one.last > here.max)
      throw new Problem(
        'GuardrailFailed',
        `${target.name}: sequence ${shownRelation(one)} ends before the position of ${source.name}`,
        {
          hint: `widen its bounds on ${target.name}`,
        },
      );
    const to = positionFor(one, here, BigInt(gap));
    if (to.gap === 0n && gap > 0 && one.called) withoutGap.push(shownRelation(one));
    if (to.last !== here.last || to.called !== here.called)
      changes.push({ name: relation(one), last: to.last.toString(), called: to.called });
  }
  for (const some of chunks(changes))
    await target.run(
      `SELECT pg_catalog.setval(s.name::regclass, s.last::bigint, s.called)
         FROM jsonb_to_recordset($1::jsonb) AS s(name text, last text, called boolean)`,
      [JSON.stringify(some)],
    );
  return { sequences: theirs.length, changed: changes.length, withoutGap, missing };
}

/** Sequences of the target that would hand out a value the source has handed out; empty = all is well. Cycling ones are only compared. */
export async function sequencesBehind(source: Session, target: Session): Promise<string[]> {
  const mine = new Map((await readSequences(target)).map((one) => [relation(one), one]));
  return (await readSequences(source))
    .filter((one) => {
      const here = mine.get(relation(one));
      if (!here) return true;
      if (one.cycles) return here.last !== one.last || here.called !== one.called;
      return ahead(one.increment, nextOf(one, one.increment), nextOf(here, one.increment));
    })
    .map(shownRelation);
}
