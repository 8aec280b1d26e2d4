/**
 * The demo's own look at the catalogue, apart from the run's: the whole snapshot as lines `path = value`, compared before and after.
 * Left out are sizes, statistics and a column's number (a column that was added and dropped leaves a hole in the numbering).
 */
import type { ClientBase } from 'pg';
import { readCatalog } from '../../postgres/catalog/read';

const NOT_COMPARED = new Set(
  'rows heapBytes totalBytes bytes number nullFraction averageWidth statements user superuser settings'.split(' '),
);

/** Every fact of the catalogue as one line. Lists of named things are keyed by their names, so that order does not count. */
export async function catalogueLines(client: ClientBase): Promise<ReadonlySet<string>> {
  const lines = new Set<string>();
  walk('', await readCatalog(client), lines);
  return lines;
}

function walk(path: string, value: unknown, lines: Set<string>): void {
  if (Array.isArray(value)) {
    for (const item of value) {
      const { schema, name } = (item ?? {}) as { schema?: unknown; name?: unknown };
      const key =
        typeof name === 'string' ? `${typeof schema === 'string' ? `${schema}.` : ''}${name}` : JSON.stringify(item);
      if (typeof name === 'string') walk(`${path}[${key}]`, item, lines);
      else lines.add(`${path} has ${key}`);
    }
  } else if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value))
      if (!NOT_COMPARED.has(key)) walk(path ? `${path}.${key}` : key, inner, lines);
  } else lines.add(`${path} = ${JSON.stringify(value)}`);
}

/** What one has and the other has not, `-` before and `+` after. */
export function differences(before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  return [
    ...[...before].filter((line) => !after.has(line)).map((line) => `- ${line}`),
    ...[...after].filter((line) => !before.has(line)).map((line) => `+ ${line}`),
  ];
}
