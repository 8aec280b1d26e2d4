/** What a run measured, for people: names with their units (`writerP99Ms`, `walBytes`) become words and sizes. */
import { formatBytes, formatCount, formatDuration } from '../../plan/model/values';

const words = (name: string): string =>
  name
    .replace(/(Ms|Bytes|Seconds)$/, '')
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .toLowerCase();

function value(name: string, given: unknown): string {
  if (typeof given !== 'number') return typeof given === 'string' ? given : JSON.stringify(given);
  if (name.endsWith('Ms')) return formatDuration(given);
  if (name.endsWith('Bytes')) return formatBytes(given);
  if (name.endsWith('Seconds')) return formatDuration(given * 1_000);
  return Number.isInteger(given) ? formatCount(given) : String(Math.round(given * 1_000) / 1_000);
}

/** Nested objects are shown as `outer inner`; two levels are enough. */
export function shown(measured: Readonly<Record<string, unknown>>, prefix = ''): string[][] {
  return Object.entries(measured).flatMap(([name, given]) => {
    if (given === null || given === undefined) return [];
    if (typeof given === 'object' && !Array.isArray(given) && prefix === '')
      return shown(given as Record<string, unknown>, `${words(name)}: `);
    return [[`${prefix}${words(name)}`, value(name, given)]];
  });
}
