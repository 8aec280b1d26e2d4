/** For tests of workflow `blueGreen`: two databases, an application's role that follows a route, and writers that remember what was acknowledged. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { createRouter } from '../../client/router';
import type { Router } from '../../client/router';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { withSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { grantRouting } from '../../postgres/state/routes';
import { withBoth } from '../../postgres/switch/pair';
import { fenceStatus } from '../../postgres/switch/release';
import type { FenceStatus } from '../../postgres/switch/release';
import { leavings } from '../../postgres/switch/replicate';
import { target } from '../../postgres/types';
import { needPostgresTools } from './copy';
import type { Side } from '../../plan/model/traffic';
import type { FreshDatabase, ServerVersion } from './database';
import { freshDatabase } from './database';
import { forget } from './pair';

export const SHOP = `
CREATE TABLE customer (id serial PRIMARY KEY, name text UNIQUE); INSERT INTO customer (name) SELECT 'c' || g FROM generate_series(1, 2000) g;
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customer, note text); CREATE INDEX ON orders (customer);
INSERT INTO orders (customer, note) SELECT 1 + g % 2000, repeat(md5(g::text), 3) FROM generate_series(1, 20000) g;
CREATE TABLE keyless (a int, b text); INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
CREATE VIEW busy AS SELECT customer, count(*) AS n FROM orders GROUP BY 1;
CREATE TABLE writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, client int NOT NULL, n int NOT NULL); ANALYZE;`;

export interface PairWorld {
  readonly blue: FreshDatabase;
  readonly green: FreshDatabase;
  readonly role: string;
  /** How the application's role reaches a side by itself. */
  readonly urls: { readonly blue: string; readonly green: string };
  readonly databases: Readonly<Record<string, string>>;
  /** A plan with short times; its route is the role's name. */
  plan(more?: Readonly<Record<string, unknown>>): Record<string, unknown>;
  router(): Router;
  /** Publications, subscriptions, slots, walls, guards. */
  left(): Promise<string[]>;
  /** What `pgshift fence status` answers. */
  fence(): Promise<FenceStatus>;
  catalog(side: 'blue' | 'green'): Promise<readonly string[]>;
  drop(): Promise<void>;
}

let counter = 0;

export interface WorldOptions {
  /** Green's database has the name of blue's: of another server. */
  readonly sameName?: boolean;
  /** Servers of the test's own, where it has some: makes one database, after `setup`. */
  readonly own?: { readonly [side in Side]?: (setup: string) => Promise<FreshDatabase> };
}

export async function pairWorld(
  setup = SHOP,
  versions: readonly [ServerVersion, ServerVersion] = [18, 18],
  { sameName = false, own = {} }: WorldOptions = {},
): Promise<PairWorld> {
  await needPostgresTools();
  const role = `app_${randomBytes(4).toString('hex')}`;
  const make = (side: Side, sql: string, name?: string): Promise<FreshDatabase> =>
    own[side]?.(sql) ?? freshDatabase(versions[side === 'blue' ? 0 : 1], sql, undefined, name);
  const blue = await make(
    'blue',
    `CREATE ROLE ${role} LOGIN; ${setup}; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role};
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${role}`,
  );
  const oneServer = versions[0] === versions[1] && !own.blue && !own.green;
  const green = await make('green', oneServer ? '' : `CREATE ROLE ${role} LOGIN`, sameName ? blue.name : undefined);
  for (const one of [blue, green])
    await withSession(target('app', one.url), { purpose: 'test' }, async (session) => {
      await install(session);
      await grantRouting(session, [role]);
    });
  const as = (db: FreshDatabase): string => db.url.replace('postgres@', `${role}@`);
  const urls = { blue: as(blue), green: as(green) };
  const routers: Router[] = [];
  const sides = { blue: target('blue', blue.url), green: target('green', green.url) };
  return {
    blue,
    green,
    role,
    urls,
    databases: { blue: blue.url, green: green.url },
    plan(more = {}) {
      counter += 1;
      return {
        kind: 'blue-green',
        name: `move_${counter}`,
        blue: 'blue',
        green: 'green',
        traffic: [{ type: 'router', route: role }],
        switch: { maxPause: '5s', maxTransactionAge: '10m', retryAfter: '1s' },
        monitor: { duration: '1s' },
        hold: '1h',
        throttle: 'none',
        gates: { switch_traffic: 'none', decommission: 'none' },
        ...more,
      };
    },
    router() {
      const made = createRouter({ route: role, connections: urls, pool: { max: 6 } });
      routers.push(made);
      return made;
    },
    left: () =>
      withBoth({ migration: 'test', ...sides }, 'test', async (both) =>
        (await leavings(both)).map(({ side, what, name }) => `${side} ${what} ${name}`),
      ),
    fence: () =>
      withBoth({ migration: 'test', ...sides }, 'test', (both) => fenceStatus(both, { blue: 'blue', green: 'green' })),
    async catalog(side) {
      const client = await (side === 'blue' ? blue : green).client();
      try {
        return await fingerprintCatalog(client);
      } finally {
        await client.end();
      }
    },
    async drop() {
      await Promise.all(routers.map((one) => one.close()));
      for (const one of [blue, green]) await forget(one).catch(() => undefined);
      await Promise.all([blue.drop(), green.drop()]);
      for (const version of new Set(versions)) {
        const admin = await freshDatabase(version);
        await admin.query(`DROP ROLE IF EXISTS ${role}`).catch(() => undefined);
        await admin.drop();
      }
    },
  };
}

/** What clients were told is written, and what they were told is not. */
export interface Ledger {
  readonly acknowledged: ReadonlySet<string>;
  readonly errors: readonly string[];
  /** Ends the writers and waits for them. */
  stop(): Promise<void>;
}

/** Of a connection that breaks while nothing is asked of it: the next statement says so. */
const ignored = (): void => undefined;

/** Of what writers need of a pool. */
export type Writable = Pick<Pool, 'query' | 'connect'>;

/**
 * Writers through a router or a pool of any kind, a third of them in transactions, each with a short rest between writes. An error is noted, and the
 * write tried no more. `first` tells the clients of one ledger from those of another.
 */
export function startWriters(of: Router | Writable, clients = 4, restMs = 5, first = 0): Ledger {
  const acknowledged = new Set<string>();
  const errors: string[] = [];
  let over = false;
  const pool: Writable = 'pool' in of ? of.pool() : of;
  const insert = 'INSERT INTO writes (client, n) VALUES ($1, $2)';
  const one = async (client: number, n: number): Promise<void> => {
    if (client % 3 !== 0) return void (await pool.query(insert, [client, n]));
    const held = await pool.connect();
    let broken = true;
    held.on('error', ignored);
    try {
      await held.query('BEGIN');
      await held.query(insert, [client, n]);
      await held.query('COMMIT');
      broken = false;
    } finally {
      held.off('error', ignored);
      held.release(broken); // nobody else finds a transaction that is half done
    }
  };
  const run = async (client: number): Promise<void> => {
    for (let n = 0; !over; n += 1) {
      try {
        await one(client, n);
        acknowledged.add(`${client}/${n}`);
      } catch (error) {
        errors.push(error instanceof Error ? error.message : String(error));
      }
      await sleep(restMs);
    }
  };
  const all = Array.from({ length: clients }, (_, client) => run(first + client));
  return {
    acknowledged,
    errors,
    async stop() {
      over = true;
      await Promise.all(all);
    },
  };
}

/** Every acknowledged write is there, and nothing is there twice. Answers what is missing. */
export async function missing(ledger: Ledger, database: FreshDatabase): Promise<string[]> {
  const rows = await database.query<{ key: string; n: number }>(
    `SELECT client || '/' || n AS key, count(*)::int AS n FROM writes GROUP BY 1`,
  );
  const there = new Map(rows.map(({ key, n }) => [key, n]));
  return [
    ...[...ledger.acknowledged].filter((key) => !there.has(key)),
    ...rows.filter(({ n }) => n > 1).map(({ key, n }) => `${key} is there ${n} times`),
  ];
}
