/**
 * The source's schema as a list of objects, by pg_dump at the snapshot and pg_restore in sections. Keeps true: the SQL is pg_dump's own word for
 * word; an object is known by its number and the oid it has on the source, never by parsing SQL; nothing of the connection is an argument.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { environment, tool } from '../backup';
import type { CopyContext } from './context';

export type Section = 'pre' | 'post';

export interface DumpItem {
  /** pg_dump's own number. */
  readonly id: number;
  readonly section: Section;
  /** TABLE, INDEX, FK CONSTRAINT, ... */
  readonly kind: string;
  readonly tag: string;
  /** null = in no schema. */
  readonly schema: string | null;
  /** Catalogue and oid on the source; 0 = it has none of its own (a comment, a grant). */
  readonly classId: string;
  readonly oid: string;
  readonly needs: readonly number[];
  readonly sql: string;
}

const HEADER =
  /^--\n-- TOC entry (\d+) \(class (\d+) OID (\d+)\)\n(?:-- Dependencies: ([\d ]+)\n)?-- Name: (.*); Type: ([A-Z][A-Z ]*); Schema: (.*); Owner: (.*)\n(?:-- Data Pos: .*\n)?--\n\n/gm;

/** One script of `pg_restore --verbose`. `known` are the numbers that the list has: text inside a comment that looks like a header is none. */
export function parseScript(script: string, section: Section, known: ReadonlyMap<number, string>): DumpItem[] {
  const heads: { at: number; body: number; item: Omit<DumpItem, 'sql'> }[] = [];
  const seen = new Set<number>();
  for (const match of script.matchAll(HEADER)) {
    const [whole, id = '', classId = '', oid = '', needs, tag = '', kind = '', schema = ''] = match;
    const number = Number(id);
    if (seen.has(number) || known.get(number)?.startsWith(`${classId} ${oid} ${kind} `) !== true) continue;
    seen.add(number);
    heads.push({
      at: match.index,
      body: match.index + whole.length,
      item: {
        id: number,
        section,
        kind,
        tag,
        schema: schema === '-' ? null : schema,
        classId,
        oid,
        needs: (needs ?? '').split(' ').filter(Boolean).map(Number),
      },
    });
  }
  return heads.map(({ body, item }, index) => {
    const end = heads[index + 1]?.at ?? endOfScript(script);
    return { ...item, sql: script.slice(body, end).trim() };
  });
}

const endOfScript = (script: string): number => {
  const end = script.lastIndexOf('\n-- Completed on ');
  const plain = script.lastIndexOf('\n--\n-- PostgreSQL database dump complete');
  return end >= 0 ? end : plain >= 0 ? plain : script.length;
};

/** `215; 1259 16386 TABLE public t owner` -> number, and the rest for comparison. */
export function parseList(list: string): Map<number, string> {
  const known = new Map<number, string>();
  for (const line of list.split('\n')) {
    const match = /^(\d+); (.*)$/.exec(line);
    if (match) known.set(Number(match[1]), match[2] ?? '');
  }
  return known;
}

/** A stream's own, which stands on the source for as long as the run follows it: `name` or `name table`. */
const isOurs = ({ kind, tag }: DumpItem): boolean =>
  (kind.startsWith('PUBLICATION') && /^pgshift_[0-9a-f]{16}_[a-z]{3}( |$)/.test(tag)) ||
  (kind === 'TRIGGER' && / _pgshift_capture_[0-9a-f]{12}(_all)?$/.test(tag));

/** Everything of the source but schema pgshift, our publications and subscriptions. Throws BackupFailed, DiskFull, NoSuchFile. */
export async function dumpSchema(context: CopyContext, snapshot: string): Promise<DumpItem[]> {
  const folder = await mkdtemp(join(tmpdir(), 'pgshift-schema-'));
  const archive = join(folder, 'schema.dump');
  const env = environment(context.source);
  const { signal } = context;
  try {
    const args = [
      '--format=custom',
      '--schema-only',
      '--no-password',
      '--lock-wait-timeout=10000',
      '--no-subscriptions',
    ];
    // A tablespace is a folder of the source's machine.
    const which = ['--no-tablespaces', '--exclude-schema=pgshift', `--snapshot=${snapshot}`, '--file', archive];
    await tool('pg_dump', [...args, ...which], env, signal);
    const list = join(folder, 'list');
    await tool('pg_restore', ['--list', '--file', list, archive], env, signal);
    const known = parseList(await readFile(list, 'utf8'));
    const items: DumpItem[] = [];
    for (const section of ['pre', 'post'] as const) {
      const script = join(folder, `${section}.sql`);
      await tool(
        'pg_restore',
        ['--verbose', '--no-tablespaces', `--section=${section}-data`, '--file', script, archive],
        env,
        signal,
      );
      items.push(...parseScript(await readFile(script, 'utf8'), section, known));
    }
    return items.filter((item) => !isOurs(item));
  } finally {
    await rm(folder, { recursive: true, force: true }).catch(() => undefined);
  }
}
