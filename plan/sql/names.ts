/**
 * Names of pgshift's own objects: prefix `_pgshift_`, at most 63 bytes, the same for the same migration and parts (a retried plan finds
 * its own leavings), different for different migrations.
 */
import { createHash } from 'node:crypto';

export const PREFIX = '_pgshift_';
const MAX_BYTES = 63;

const digest = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');

/** At most `bytes` bytes of UTF-8, never half a character. */
export function clip(text: string, bytes: number): string {
  let out = '';
  for (const char of text) {
    if (Buffer.byteLength(out + char, 'utf8') > bytes) break;
    out += char;
  }
  return out;
}

export interface Names {
  /** `_pgshift_<kind>_<readable>_<hash>`; `parts` decide the hash, so name every part that must tell two objects apart. */
  make(kind: string, ...parts: readonly string[]): string;
}

export function makeNames(migration: string): Names {
  return {
    make(kind, ...parts) {
      const hash = digest([migration, kind, ...parts].join('\0')).slice(0, 8);
      const head = `${PREFIX}${kind}_`;
      const readable = clip(parts.at(-1) ?? '', MAX_BYTES - Buffer.byteLength(head, 'utf8') - hash.length - 1);
      return `${head}${readable}_${hash}`;
    },
  };
}

/**
 * The name that Postgres would choose (makeObjectName, ChooseRelationName): `name1_name2_label`, the longer of the first two shortened
 * until the whole fits in 63 bytes, then a number appended to the label until it is free.
 */
export function postgresName(
  name1: string,
  name2: string | null,
  label: string,
  taken: (name: string) => boolean,
): string {
  for (let pass = 0; ; pass += 1) {
    const name = objectName(name1, name2, pass === 0 ? label : `${label}${pass}`);
    if (!taken(name)) return name;
  }
}

function objectName(name1: string, name2: string | null, label: string): string {
  const overhead = (name2 === null ? 0 : 1) + (label === '' ? 0 : Buffer.byteLength(label, 'utf8') + 1);
  const room = MAX_BYTES - overhead;
  let length1 = Buffer.byteLength(name1, 'utf8');
  let length2 = name2 === null ? 0 : Buffer.byteLength(name2, 'utf8');
  while (length1 + length2 > room) {
    if (length1 > length2) length1 -= 1;
    else length2 -= 1;
  }
  const parts = [clip(name1, length1)];
  if (name2 !== null) parts.push(clip(name2, length2));
  if (label !== '') parts.push(label);
  return parts.join('_');
}
