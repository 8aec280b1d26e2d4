/**
 * Sequences and defaults of the column. Keeps true: no number is given out twice and none is lost that a rollback of a transaction would
 * not lose; names, options, grants and comments of the sequence stay. An identity's sequence belongs to its column and cannot be moved, so
 * a new one takes over name and position while the table is locked.
 */
import { ident, literal, relation } from '../../model/quote';
import { objectGrants } from './acl';
import { comment, quotedTable } from './change';
import type { Sequence } from '../../model/catalog';
import type { Change } from './change';
import type { TypeRef } from './types';

const LIMITS: Readonly<Record<string, readonly [string, string]>> = {
  smallint: ['-32768', '32767'],
  integer: ['-2147483648', '2147483647'],
  bigint: ['-9223372036854775808', '9223372036854775807'],
};

/** Options that ALTER TABLE would leave: a bound that was the old type's own becomes the new type's own. */
function options(sequence: Sequence, type: TypeRef): string {
  const own = LIMITS[sequence.type] ?? ['', ''];
  const parts = [
    `SEQUENCE NAME ${relation(sequence)}`,
    `START WITH ${sequence.start}`,
    `INCREMENT BY ${sequence.increment}`,
    sequence.min === own[0] && LIMITS[type.base] ? `MINVALUE ${LIMITS[type.base]?.[0]}` : `MINVALUE ${sequence.min}`,
    sequence.max === own[1] && LIMITS[type.base] ? `MAXVALUE ${LIMITS[type.base]?.[1]}` : `MAXVALUE ${sequence.max}`,
    `CACHE ${sequence.cache}`,
    sequence.cycle ? 'CYCLE' : 'NO CYCLE',
  ];
  return `(${parts.join(' ')})`;
}

/** `from` loses the identity, `to` (NOT NULL by then) gets it with the position carried on. */
function moveIdentity(change: Change, from: string, to: string, type: TypeRef): string[] {
  const { column, ctx, sequence } = change;
  if (!sequence || column.identity === null) return [];
  const table = quotedTable(change);
  const aside = ctx.names.make('oldseq', sequence.schema, sequence.name);
  const name = relation(sequence);
  const asideName = relation({ schema: sequence.schema, name: aside });
  return [
    // ACCESS EXCLUSIVE on the sequence: nobody draws a number between reading the position and the commit.
    `ALTER SEQUENCE ${name} RENAME TO ${ident(aside)}`,
    `ALTER TABLE ${table} ALTER COLUMN ${ident(to)} ADD GENERATED ${column.identity.toUpperCase()} AS IDENTITY ${options(sequence, type)}`,
    `SELECT pg_catalog.setval(${literal(name).trimStart()}, s.last_value, s.is_called) FROM ${asideName} AS s`,
    `ALTER TABLE ${table} ALTER COLUMN ${ident(from)} DROP IDENTITY`,
    ...objectGrants(sequence.acl, 'SEQUENCE', sequence, sequence.owner),
    ...comment(`SEQUENCE ${name}`, sequence.comment),
  ];
}

/** `from` gives up its default, and `to` gets its own; an owned sequence moves over. Names are those after the columns were renamed. */
export function moveNumbers(change: Change, from: string, to: string, type: TypeRef): string[] {
  const { column, defaults, old, sequence } = change;
  const table = quotedTable(change);
  if (column.identity !== null) return moveIdentity(change, from, to, type);
  const [lost, given] = from === old ? [defaults.before, defaults.after] : [defaults.after, defaults.before];
  return [
    ...(given === null ? [] : [`ALTER TABLE ${table} ALTER COLUMN ${ident(to)} SET DEFAULT ${given}`]),
    ...(lost === null ? [] : [`ALTER TABLE ${table} ALTER COLUMN ${ident(from)} DROP DEFAULT`]),
    ...(sequence ? [`ALTER SEQUENCE ${relation(sequence)} OWNED BY ${table}.${ident(to)}`] : []),
  ];
}
