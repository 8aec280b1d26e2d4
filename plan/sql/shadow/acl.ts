/**
 * Privileges as GRANT statements. Keeps true: what is granted again is what stood in the aclitems, grant options included, in the same
 * order; nothing is inferred.
 */
import { ident, relation } from '../../model/quote';
import type { RelationName } from '../../model/steps';

const PRIVILEGES: Readonly<Record<string, string>> = {
  r: 'SELECT',
  a: 'INSERT',
  w: 'UPDATE',
  d: 'DELETE',
  D: 'TRUNCATE',
  x: 'REFERENCES',
  t: 'TRIGGER',
  m: 'MAINTAIN',
  U: 'USAGE',
};

interface AclItem {
  /** Empty = PUBLIC. */
  readonly grantee: string;
  readonly privileges: readonly { readonly name: string; readonly grantable: boolean }[];
}

/** `grantee=privs/grantor`; role names are quoted inside where they need it. */
export function parseAcl(item: string): AclItem {
  const quoted = /^"((?:[^"]|"")*)"=/.exec(item);
  const at = quoted ? quoted[0].length - 1 : item.indexOf('=');
  const grantee = quoted ? (quoted[1] ?? '').replaceAll('""', '"') : item.slice(0, at);
  const letters = /^[A-Za-z*]*/.exec(item.slice(at + 1))?.[0] ?? '';
  const privileges = [...letters.matchAll(/([A-Za-z])(\*?)/g)].flatMap(([, letter = '', star]) => {
    const name = PRIVILEGES[letter];
    return name === undefined ? [] : [{ name, grantable: star === '*' }];
  });
  return { grantee, privileges };
}

const to = (grantee: string): string => (grantee === '' ? 'PUBLIC' : ident(grantee));

function grants(items: readonly string[], object: string, columns: string): string[] {
  return items.map(parseAcl).flatMap(({ grantee, privileges }) =>
    [false, true].flatMap((grantable) => {
      const names = privileges.filter((p) => p.grantable === grantable).map((p) => `${p.name}${columns}`);
      if (names.length === 0) return [];
      return [`GRANT ${names.join(', ')} ON ${object} TO ${to(grantee)}${grantable ? ' WITH GRANT OPTION' : ''}`];
    }),
  );
}

/** For an object that was just made, so that only its owner holds anything on it. */
export function objectGrants(
  acl: readonly string[] | null,
  keyword: 'TABLE' | 'SEQUENCE',
  name: RelationName,
  owner: string,
): string[] {
  if (acl === null) return [];
  const object = `${keyword} ${relation(name)}`;
  return [`REVOKE ALL ON ${object} FROM ${ident(owner)}`, ...grants(acl, object, '')];
}

export const columnGrants = (acl: readonly string[] | null, table: RelationName, column: string): string[] =>
  grants(acl ?? [], `TABLE ${relation(table)}`, ` (${ident(column)})`);
