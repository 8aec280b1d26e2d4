/**
 * The small written values of plans: durations, sizes, rates, ratios, names. Parsing is exact and refuses what is not written as the
 * contract says; formatting is for people. Pure.
 */

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const UNIT_BYTES: Readonly<Record<string, number>> = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 };

/** `1h30m`, `200ms`, `0s` -> milliseconds; null when it is not a duration. */
export function parseDuration(text: string): number | null {
  if (!/^(\d+(ms|s|m|h|d))+$/.test(text)) return null;
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|s|m|h|d)/g))
    total += Number(digits) * (UNIT_MS[unit ?? ''] ?? NaN);
  return Number.isSafeInteger(total) ? total : null;
}

/** `16kB`, `50MB` -> bytes (1 kB = 1,024 B); null when it is not a size. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(B|kB|MB|GB|TB)$/.exec(text);
  return match ? Math.round(Number(match[1]) * (UNIT_BYTES[match[2] ?? ''] ?? NaN)) : null;
}

/** `50MB/s` -> bytes per second. */
export const parseRate = (text: string): number | null => (text.endsWith('/s') ? parseSize(text.slice(0, -2)) : null);

/** `1.5x` -> 1.5 */
export function parseRatio(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)x$/.exec(text);
  return match ? Number(match[1]) : null;
}

export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const minutes = Math.round(ms / 60_000);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

export function formatBytes(bytes: number): string {
  for (const [unit, size] of [
    ['GB', 1024 ** 3],
    ['MB', 1024 ** 2],
    ['kB', 1024],
  ] as const)
    if (bytes >= size) return `${(bytes / size).toFixed(bytes / size < 10 ? 1 : 0)} ${unit}`;
  return `${Math.round(bytes)} B`;
}

export const formatCount = (n: number): string =>
  Math.round(n)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');

export const CONNECTION_NAME = /^[a-z][a-z0-9_]*$/;
export const MIGRATION_NAME = /^[a-z0-9][a-z0-9_.-]{0,99}$/;
