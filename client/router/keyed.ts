/**
 * One key's way to its home: writes and reads that must be exact go where the key lives, reads that may be a little old go where the share
 * sends them. Light enough to be made for every request.
 */
import { createHash } from 'node:crypto';
import type { PoolClient, QueryConfig, QueryResult, QueryResultRow } from 'pg';
import type { Counting } from '../../plan/model/counters';
import type { Route, RouteKey } from '../../plan/model/routing';
import { homeOf, readSideOf, shadowSideOf } from '../../plan/model/routing';
import type { Checkouts } from './checkouts';
import type { Follower } from './follower';

/** What a shadow read found; never shown to the user. */
export interface Shadow {
  readonly equal: boolean | null;
  /** ms of either side; null = it failed. */
  readonly homeMs: number;
  readonly shadowMs: number | null;
}

export interface KeyedClient {
  /** Where this key's writes go now. */
  readonly side: string;
  connect(): Promise<PoolClient>;
  query<R extends QueryResultRow = QueryResultRow>(
    text: string | QueryConfig,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>>;
  /** One statement that only reads and may see data that is a little old. */
  read<R extends QueryResultRow = QueryResultRow>(
    text: string | QueryConfig,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>>;
}

/** Rows in any order: what has no ORDER BY may come in another one. */
function fingerprint(rows: readonly unknown[]): string {
  const hash = createHash('sha256');
  for (const row of rows.map((one) => JSON.stringify(one)).sort()) hash.update(row).update('\n');
  return hash.digest('hex');
}

/** What all keys of one router share. */
export interface KeyedParts {
  readonly checkouts: Checkouts;
  readonly follower: Follower;
  readonly counting: Counting;
}

export function keyedClient(
  key: RouteKey,
  { checkouts, follower, counting }: KeyedParts,
  onShadow: (seen: Shadow) => void,
): KeyedClient {
  const run = async <R extends QueryResultRow>(
    choose: (route: Route) => { side: string; held: boolean },
    text: string | QueryConfig,
    values: readonly unknown[] | undefined,
  ): Promise<QueryResult<R>> => {
    let side = '';
    const client = await checkouts.take(key, (route) => {
      const home = choose(route);
      side = home.side;
      return home;
    });
    const from = performance.now();
    try {
      const result = await client.query<R>(text, values === undefined ? undefined : [...values]);
      counting.query(side, performance.now() - from, false);
      client.release();
      return result;
    } catch (error) {
      counting.query(side, performance.now() - from, true);
      client.release(error as Error);
      throw error;
    }
  };
  const home = (route: Route) => homeOf(route, key);
  return {
    get side() {
      return homeOf(follower.route, key).side;
    },
    connect: () => checkouts.take(key),
    query: (text, values) => run(home, text, values),
    async read(text, values) {
      const shadow = shadowSideOf(follower.route, key);
      const from = performance.now();
      let went = '';
      const where = (route: Route) => {
        went = readSideOf(route, key, follower.ageMs);
        return { side: went, held: homeOf(route, key).held };
      };
      // A side that is only tried must not be a reason for an error: the read is asked again where the key lives. It counts as one all the same.
      const answer = run<never>(where, text, values).catch((error: unknown) => {
        if (went === '' || went === homeOf(follower.route, key).side) throw error;
        return run<never>(home, text, values);
      });
      if (shadow === null) return answer;
      const other = run<never>((route) => ({ side: shadow, held: route.paused }), text, values).then(
        ({ rows }) => ({ found: fingerprint(rows), ms: performance.now() - from }),
        () => null,
      );
      const result = await answer;
      const homeMs = performance.now() - from;
      // The user does not wait for the other side.
      void other.then((seen) => {
        const equal = seen === null ? null : seen.found === fingerprint(result.rows);
        counting.shadow(equal);
        onShadow({ equal, homeMs, shadowMs: seen?.ms ?? null });
      });
      return result;
    },
  };
}
