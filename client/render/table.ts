/** Tables for people: columns two blanks apart, text left, numbers right, no frames. Nothing is cut off; long cells wrap inside their column. */

const COLOUR = /\u001b\[[0-9;]*m/g;

/** Columns that a text takes on a terminal, colours aside. */
export const widthOf = (text: string): number => [...text.replace(COLOUR, '')].length;

export const pad = (text: string, width: number, align: 'left' | 'right' = 'left'): string => {
  const blanks = ' '.repeat(Math.max(0, width - widthOf(text)));
  return align === 'left' ? text + blanks : blanks + text;
};

/** Breaks at blanks; a word longer than the width stays whole. Lines after "12 " are indented to its text. */
export function wrap(text: string, width: number): string[] {
  const indent = ' '.repeat(/^\d+ /.exec(text)?.[0].length ?? 0);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line);
      line = indent + word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

export interface ColumnSpec {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** Wider cells wrap. */
  readonly max?: number;
}

export interface TableOptions {
  readonly indent?: string;
  readonly heading?: (text: string) => string;
}

export function table(
  columns: readonly ColumnSpec[],
  rows: readonly (readonly string[])[],
  { indent = ' ', heading = (text) => text }: TableOptions = {},
): string {
  const cells = rows.map((row) =>
    columns.map(({ max }, i) => (max === undefined ? [row[i] ?? ''] : wrap(row[i] ?? '', max))),
  );
  const widths = columns.map(({ title }, i) =>
    Math.max(widthOf(title), ...cells.map((row) => Math.max(...(row[i] ?? ['']).map(widthOf)))),
  );
  const line = (texts: readonly string[]): string =>
    indent +
    texts
      .map((text, i) => pad(text, widths[i] ?? 0, columns[i]?.align))
      .join('  ')
      .trimEnd();
  const body = cells.flatMap((row) => {
    const height = Math.max(...row.map((cell) => cell.length));
    return Array.from({ length: height }, (_, n) => line(row.map((cell) => cell[n] ?? '')));
  });
  return [heading(line(columns.map(({ title }) => title))), ...body].join('\n');
}

/** `key   value` lines, keys padded to one width; empty values are left out. */
export function pairs(
  entries: readonly (readonly [string, string | null | undefined])[],
  label = (text: string) => text,
): string {
  const shown = entries.filter(
    (entry): entry is readonly [string, string] => entry[1] !== null && entry[1] !== undefined && entry[1] !== '',
  );
  const width = Math.max(...shown.map(([key]) => key.length)) + 2;
  return shown
    .map(([key, value]) => `${label(key.padEnd(width))}${value.replace(/\n/g, `\n${' '.repeat(width)}`)}`)
    .join('\n');
}
