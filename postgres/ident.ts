/**
 * The one place where text becomes part of SQL. Identifiers and literals go through here and nowhere else; a lint rule looks for
 * quotes built by hand. Pure: escaping is node-postgres' own.
 */
import { escapeIdentifier, escapeLiteral } from 'pg';
import type { RelationName } from '../plan/model/steps';

export const ident = (name: string): string => escapeIdentifier(name);
export const literal = (value: string): string => escapeLiteral(value);
export const relation = ({ schema, name }: RelationName): string => `${ident(schema)}.${ident(name)}`;
export const identList = (names: readonly string[]): string => names.map(ident).join(', ');
