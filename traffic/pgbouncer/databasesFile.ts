/**
 * PgBouncer's `[databases]` file. Keeps true: only the line of one database changes, and in it only where it leads; every other byte, the
 * file's owner and its mode stay; a reader sees the old file or the new one, never half of one.
 */
import { randomBytes } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import type { ServerAddress } from '../../plan/model/traffic';

/** One database's line: where its value lies in the text, and its settings in their order. */
export interface DatabaseLine {
  readonly from: number;
  readonly to: number;
  readonly settings: readonly (readonly [string, string])[];
}

export type Found = DatabaseLine | 'no such line' | 'more than one line' | 'cannot be read';

/** `"odd ""name"""` or `plain_name` before the equals sign; null when the line is none. */
function nameOf(line: string): { name: string; value: number } | null {
  const match = /^\s*(?:"((?:[^"]|"")*)"|([^\s="]+))\s*=\s*/.exec(line);
  return match ? { name: match[1]?.replaceAll('""', '"') ?? match[2] ?? '', value: match[0].length } : null;
}

/** `host=a port=1 dbname='it''s'`; null when it is not written like that. */
export function parseSettings(value: string): [string, string][] | null {
  const settings: [string, string][] = [];
  let at = 0;
  const next = /\s*([a-z_]+)\s*=\s*(?:'((?:[^']|'')*)'|([^\s']*))/y;
  while (value.slice(at).trim() !== '') {
    next.lastIndex = at;
    const match = next.exec(value);
    if (!match) return null;
    settings.push([match[1] ?? '', match[2]?.replaceAll("''", "'") ?? match[3] ?? '']);
    at = next.lastIndex;
  }
  return settings;
}

/** The line of `database` in section [databases]. */
export function findDatabase(text: string, database: string): Found {
  let inside = false;
  let found: DatabaseLine | null = null;
  let at = 0;
  for (const piece of text.split(/(?<=\n)/)) {
    const line = piece.replace(/\r?\n$/, '');
    const section = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line);
    if (section) inside = section[1]?.toLowerCase() === 'databases';
    else if (inside && !/^\s*[;#]/.test(line)) {
      const entry = nameOf(line);
      if (entry?.name === database) {
        const settings = parseSettings(line.slice(entry.value));
        if (settings === null) return 'cannot be read';
        if (found) return 'more than one line';
        found = { from: at + entry.value, to: at + line.length, settings };
      }
    }
    at += piece.length;
  }
  return found ?? 'no such line';
}

/** Where a line leads, with PgBouncer's own defaults filled in. */
export function leadsTo(line: DatabaseLine, database: string): { host: string; port: number; database: string } {
  const get = (key: string): string | undefined => line.settings.findLast(([name]) => name === key)?.[1];
  return { host: get('host') ?? '', port: Number(get('port') ?? 5432), database: get('dbname') ?? database };
}

const quoted = (value: string): string => (/^[^\s'=]+$/.test(value) ? value : `'${value.replaceAll("'", "''")}'`);

/** The text with the line leading elsewhere. What leads there already is not touched. */
export function pointLine(text: string, line: DatabaseLine, database: string, to: ServerAddress): string {
  const now = leadsTo(line, database);
  const changes = new Map<string, string>();
  if (now.host !== to.host) changes.set('host', to.host);
  if (now.port !== to.port) changes.set('port', String(to.port));
  if (to.database !== null && now.database !== to.database) changes.set('dbname', to.database);
  let value = text.slice(line.from, line.to);
  for (const [key, wanted] of changes) {
    const setting = new RegExp(`((?:^|\\s)${key}\\s*=\\s*)(?:'(?:[^']|'')*'|[^\\s']*)`, 'g');
    // A quoted value may hold what looks like a setting: then the line is written anew.
    const plain = [...value.matchAll(setting)].length === line.settings.filter(([name]) => name === key).length;
    if (!plain) return text.slice(0, line.from) + rewritten(line, changes) + text.slice(line.to);
    value = setting.test(value)
      ? value.replace(setting, (_, before: string) => before + quoted(wanted))
      : `${value.trimEnd()} ${key}=${quoted(wanted)}`.trimStart();
  }
  return text.slice(0, line.from) + value + text.slice(line.to);
}

function rewritten(line: DatabaseLine, changes: ReadonlyMap<string, string>): string {
  const kept = line.settings.map(([key, value]) => [key, changes.get(key) ?? value] as const);
  const added = [...changes].filter(([key]) => !line.settings.some(([name]) => name === key));
  return [...kept, ...added].map(([key, value]) => `${key}=${quoted(value)}`).join(' ');
}

export const readDatabases = (path: string): Promise<string> => readFile(path, 'utf8');

/** Replaces the file's content. Throws the system's error (its message holds the path). */
export async function replaceFile(path: string, text: string): Promise<void> {
  const real = await realpath(path); // a link stays a link
  const before = await stat(real);
  const beside = `${real}.pgshift-${randomBytes(4).toString('hex')}`;
  let file: FileHandle | null = null;
  try {
    file = await open(beside, 'wx', 0o600);
    await file.writeFile(text);
    await file.chown(before.uid, before.gid);
    await file.chmod(before.mode & 0o7777);
    await file.sync();
    await file.close();
    file = null;
    await rename(beside, real);
  } catch (error) {
    await file?.close();
    await rm(beside, { force: true });
    const code = (error as NodeJS.ErrnoException).code ?? '';
    // The folder is not ours to write, the owner not ours to give, or the file alone is mounted: then its content is replaced where it is.
    if (!['EACCES', 'EPERM', 'EBUSY', 'EROFS', 'EXDEV'].includes(code)) throw error;
    await replaceInPlace(real, text);
  }
}

async function replaceInPlace(path: string, text: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const bytes = Buffer.from(text);
    await file.write(bytes, 0, bytes.length, 0);
    await file.truncate(bytes.length);
    await file.sync();
  } finally {
    await file.close();
  }
}
