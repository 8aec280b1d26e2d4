/**
 * Names and text as SQL, for the pure layers (plan/sql), which may not import the driver. The result is, character for character, that
 * of node-postgres' escapeIdentifier and escapeLiteral, which postgres/ident.ts uses: a test compares the two.
 */
import type { RelationName } from './steps';

export const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export function literal(value: string): string {
  const quoted = `'${value.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return value.includes('\\') ? ` E${quoted}` : quoted;
}

export const relation = ({ schema, name }: RelationName): string => `${ident(schema)}.${ident(name)}`;
export const identList = (names: readonly string[]): string => names.map(ident).join(', ');

/** For people and messages only: quotes where a name needs them. Never part of SQL that is sent (keywords are not looked at). */
export const shown = (name: string): string => (/^[a-z_][a-z0-9_$]*$/.test(name) ? name : ident(name));
export const shownRelation = ({ schema, name }: RelationName): string => `${shown(schema)}.${shown(name)}`;
