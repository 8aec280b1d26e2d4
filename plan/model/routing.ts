/**
 * What a route says, and what follows from it for one client or one key: which side is its home, and whether it has to wait. One row of
 * `pgshift.routes` in each database; the row with the highest epoch is true, and every change takes a higher one. Pure: applications
 * (client/router) and the adapter (traffic/router) read it by the same rules.
 */
import { inShare } from './bucket';

/** LISTEN on this. The payload is `routes` or `feature_flags`. */
export const CHANNEL = 'pgshift_router';

export type RouteKey = string | number | bigint | null | undefined;

/** A canary's part of a route: who has gone over already, and who is on the way. Lies in `details.share`, but for `freshMs`. */
export interface Share {
  /** The side that keys move to; `side` of the route is where the others are. */
  readonly to: string;
  readonly salt: string;
  readonly percent: number;
  /** Keys that are over whatever their bucket. */
  readonly keys: readonly string[];
  readonly moves: 'shadow-reads' | 'reads' | 'keys';
  /** While whole keys move: these wait. The share is where the step ends, `percent` where it began. */
  readonly moving: { readonly percent: number; readonly keys: readonly string[] } | null;
  /** Reads may go over for so long, ms (column `fresh_until`); whoever watches the lag keeps extending it. null = not measured: they stay. */
  readonly freshMs: number | null;
}

export interface Route {
  readonly side: string;
  readonly epoch: number;
  readonly paused: boolean;
  /** How long the pause still lasts by itself, ms, when it was read; null = until it is ended. */
  readonly pauseMs: number | null;
  readonly share: Share | null;
}

export interface Home {
  readonly side: string;
  /** This key waits, since the route is paused or the key is being moved. */
  readonly held: boolean;
}

const over = (share: Share, key: RouteKey, percent: number, keys: readonly string[]): boolean =>
  (key !== null && key !== undefined && keys.includes(String(key))) || inShare(share.salt, key, percent);

/** Where a key's writes live. */
export function homeOf(route: Route, key: RouteKey): Home {
  const { share } = route;
  if (share === null || share.moves !== 'keys') return { side: route.side, held: route.paused };
  const there = over(share, key, share.percent, share.keys);
  const then = share.moving === null ? there : over(share, key, share.moving.percent, share.moving.keys);
  return { side: there ? share.to : route.side, held: route.paused || there !== then };
}

/** Where a read that may be a little old goes. `sinceMs` = how long ago the route was read. */
export function readSideOf(route: Route, key: RouteKey, sinceMs: number): string {
  const { share } = route;
  const home = homeOf(route, key).side;
  if (share === null || share.moves !== 'reads' || share.freshMs === null || sinceMs >= share.freshMs) return home;
  return over(share, key, share.percent, share.keys) ? share.to : home;
}

/** The side that answers a second time, for comparison; null = none. */
export function shadowSideOf(route: Route, key: RouteKey): string | null {
  const { share } = route;
  if (share === null || share.moves !== 'shadow-reads') return null;
  return over(share, key, share.percent, share.keys) ? share.to : null;
}

/** Of two readings the one to believe. Never back to a lower epoch; two writers of one epoch cannot be told apart, so the one that waits wins. */
export function newer(known: Route | null, read: Route): Route {
  if (known === null || read.epoch > known.epoch) return read;
  if (read.epoch < known.epoch) return known;
  return known.side !== read.side && known.paused && !read.paused ? known : read;
}

export interface Flag {
  readonly name: string;
  readonly enabled: boolean;
  /** 0..100. */
  readonly percent: number;
  readonly salt: string;
  readonly allow: ReadonlySet<string>;
  readonly deny: ReadonlySet<string>;
}

/** deny, then allow, then the share; an absent key and a flag that is not enabled are off. */
export function flagIsOn(flag: Flag | undefined, key: RouteKey): boolean {
  if (flag === undefined || !flag.enabled || key === null || key === undefined || key === '') return false;
  if (flag.deny.size > 0 && flag.deny.has(String(key))) return false;
  if (flag.allow.size > 0 && flag.allow.has(String(key))) return true;
  return inShare(flag.salt, key, flag.percent);
}

const isObject = (json: unknown): json is Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json);
const texts = (json: unknown): string[] => (Array.isArray(json) ? json.map(String) : []);
const percentOf = (json: unknown): number => {
  const percent = Number(json);
  return percent >= 0 && percent <= 100 ? percent : 0;
};

/** `details.share` as somebody wrote it, and what is left until `fresh_until`, ms. What cannot be read is no share: everybody stays where the route says. */
export function parseShare(json: unknown, freshMs: number | null = null): Share | null {
  if (!isObject(json) || typeof json.to !== 'string' || typeof json.salt !== 'string') return null;
  const { moves, moving } = json;
  if (moves !== 'shadow-reads' && moves !== 'reads' && moves !== 'keys') return null;
  return {
    to: json.to,
    salt: json.salt,
    percent: percentOf(json.percent),
    keys: texts(json.keys),
    moves,
    moving: isObject(moving) ? { percent: percentOf(moving.percent), keys: texts(moving.keys) } : null,
    freshMs,
  };
}
