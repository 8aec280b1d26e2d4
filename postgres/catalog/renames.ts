/**
 * A rename is no loss: the lines of the catalogue as it was are read as if the things had their new names, so that only what else differs
 * is left. `~ rename public.city -> public.town`, `~ rename public.city.name -> public.city.title`, `~ rename old on public.t -> new on public.t`.
 */
import { container } from './changes';

export interface Rename {
  readonly from: string;
  readonly to: string;
}

const LINE = /^~ rename (.+) -> (.+)$/;

export function renamesIn(asked: readonly string[]): Rename[] {
  return asked.flatMap((line): Rename[] => {
    const [, from, to] = LINE.exec(line) ?? [];
    if (from === undefined || to === undefined) return [];
    const own = { from, to };
    const [old, fresh] = [/^(.+) on (.+)$/.exec(from), /^(.+) on (.+)$/.exec(to)];
    if (!old || !fresh) return [own];
    // The index of a key goes by the constraint's name.
    const schema = container(`${old[2]}.x`) === null ? '' : `${old[2]?.split('.')[0]}.`;
    return [own, { from: `${schema}${old[1]}`, to: `${schema}${fresh[1]}` }];
  });
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** `before` with the new names. */
export function renamed(before: readonly string[], renames: readonly Rename[]): readonly string[] {
  return renames.reduce((lines, { from, to }) => {
    const name = new RegExp(`(?<![\\w$.])${escaped(from)}(?![\\w$])`, 'g');
    const last = (identity: string) =>
      identity.slice((container(identity) ?? identity.replace(/\..*$/, '')).length + 1);
    const own = new RegExp(`"(relname|typname|conname)":"(_?)${escaped(last(from))}"`, 'g');
    return lines.map((line) => {
      const text = line.replace(name, to);
      if (text === line) return line;
      const [head = ''] = text.split(' {', 1);
      const isOwn = head.endsWith(` ${to}`) || head.endsWith(` ${to}[]`);
      return isOwn
        ? text.replace(own, (_all, field: string, array: string) => `"${field}":"${array}${last(to)}"`)
        : text;
    });
  }, before);
}
