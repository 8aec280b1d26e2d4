/** Small phrases that several pages share: versions, times, ranges, percentages. */
import { formatBytes, formatDuration } from '../../plan/model/values';
import type { Colors } from '../terminal';
import type { Risk } from '../../plan/model/steps';

/** 180006 -> "PostgreSQL 18.6" */
export const serverName = (version: number): string => `PostgreSQL ${Math.floor(version / 10_000)}.${version % 10_000}`;

/** `2026-11-21 07:00:00 UTC` */
export const utc = (iso: string | null | undefined): string =>
  iso ? `${new Date(iso).toISOString().slice(0, 19).replace('T', ' ')} UTC` : '-';

/** `12 s`, `3 min` between two times; to now when the second is open. */
export const between = (from: string, to: string | null): string =>
  formatDuration(Math.max(0, Date.parse(to ?? new Date().toISOString()) - Date.parse(from)));

/** "40-70 s", "< 1 s", "3-5 min", "2-3 h" */
export function secondsRange([low, high]: readonly [number, number]): string {
  if (high < 1) return '< 1 s';
  const [unit, size] = high < 120 ? ['s', 1] : high < 7_200 ? ['min', 60] : ['h', 3_600];
  const from = Math.floor(low / Number(size));
  const to = Math.max(1, Math.ceil(high / Number(size)));
  if (from === 0) return `< ${to} ${unit}`;
  return from >= to ? `${to} ${unit}` : `${from}-${to} ${unit}`;
}

/** "180 MB" of the upper bound; empty when nothing is written. */
export const bytesUpTo = ([, high]: readonly [number, number]): string => (high > 0 ? formatBytes(high) : '');

export function risk(level: Risk, colors: Colors): string {
  if (level === 'high') return colors.red(level);
  return level === 'medium' ? colors.yellow(level) : colors.green(level);
}

export function statusWord(status: string, colors: Colors): string {
  if (status === 'completed') return colors.green(status);
  if (status === 'failed' || status === 'rolled_back' || status === 'cancelled') return colors.red(status);
  return status === 'waiting' || status === 'paused' || status === 'rolling_back'
    ? colors.yellow(status)
    : colors.cyan(status);
}

/** `public.payment` -> `payment`: the schema is shown only where it is not the usual one. */
export const shortRelation = (relation: string): string => relation.replace(/^public\./, '');

/** The same inside a sentence. */
export const shortTitle = (title: string): string => title.replace(/(^|[\s(])public\.(?=[\w"])/g, '$1');
