/**
 * One direct connection to one of the route's databases: it listens, asks again every so often in case a notification got lost, and writes
 * this router's acknowledgement there. Keeps true: a connection that does not answer in time is thrown away, never waited for; nothing that
 * happens here reaches the application as an error.
 */
import { Socket } from 'node:net';
import { Client } from 'pg';
import type { Flag, Route } from '../../plan/model/routing';
import type { Counters } from '../../plan/model/counters';
import { CHANNEL, parseShare } from '../../plan/model/routing';

/** What a router says of itself. */
export interface Hello {
  readonly epoch: number;
  readonly drained: boolean;
  readonly inUse: number;
  readonly counters: Counters;
}

export interface WatchOptions {
  readonly side: string;
  readonly url: string;
  readonly route: string;
  readonly instance: string;
  readonly pollMs: number;
  readonly answerMs: number;
  /** Null = the database answered and knows no such route. */
  readonly onRoute: (read: Route | null) => void;
  readonly onFlags: (flags: readonly Flag[]) => void;
  readonly hello: () => Hello;
  readonly onTrouble: (error: unknown) => void;
}

/** How often a router that has nothing new to say shows that it lives. */
const HELLO_MS = 2_000;
const RETRY_MS = [50, 100, 250, 500, 1_000] as const;
/** No schema, no table, no column: an older pgshift, or none yet. */
const NOT_THERE = new Set(['42P01', '3F000', '42703']);

const ROUTE = `SELECT side, epoch, paused, details->'share' AS share,
    (extract(epoch FROM pause_until - clock_timestamp()) * 1000)::float8 AS pause,
    (extract(epoch FROM fresh_until - clock_timestamp()) * 1000)::float8 AS fresh FROM pgshift.routes WHERE route = $1`;
const FLAGS = `SELECT name, enabled, rollout_percentage::float8 AS percent, coalesce(salt, name) AS salt, allow, deny
    FROM pgshift.feature_flags`;
/** A schema of before the counters has no such column: then the sign of life goes without them. */
const hello = (more: readonly string[], values: readonly string[]): string =>
  `INSERT INTO pgshift.routers AS r (${['route', 'instance', 'epoch', 'drained', 'in_use', 'backend_pid', ...more].join(', ')})
  VALUES (${['$1', '$2', '$3', '$4', '$5', 'pg_catalog.pg_backend_pid()', ...values].join(', ')})
  ON CONFLICT (route, instance) DO UPDATE SET epoch = excluded.epoch, drained = excluded.drained, in_use = excluded.in_use,
    ${more.map((column) => `${column} = excluded.${column}, `).join('')}backend_pid = excluded.backend_pid,
    seen_at = pg_catalog.clock_timestamp()`;
const HELLO = hello(['counters'], ['$6::jsonb']);
const HELLO_WITHOUT = hello([], []);
const NO_COLUMN = '42703';
interface RouteColumns {
  readonly side: string;
  readonly epoch: string;
  readonly paused: boolean;
  readonly share: unknown;
  readonly pause: number | null;
  readonly fresh: number | null;
}

interface FlagColumns {
  readonly name: string;
  readonly enabled: boolean;
  readonly percent: number;
  readonly salt: string;
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

const BYE = `DELETE FROM pgshift.routers WHERE route = $1 AND instance = $2`;

const codeOf = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? '');
/** sslmode means what it means to libpq, as everywhere in pgshift. */
export const asLibpq = (url: string): string =>
  /[?&]sslmode=/.test(url) && !/[?&]uselibpqcompat=/.test(url) ? `${url}&uselibpqcompat=true` : url;

/** One connection. What is sent on it goes one after the other, also when notice and acknowledgement cross. */
class Line {
  #last: Promise<unknown> = Promise.resolve();
  constructor(
    readonly client: Client,
    readonly socket: Socket,
  ) {}

  rows<R extends object>(text: string, values: readonly unknown[] = []): Promise<R[]> {
    const answer = this.#last.then(async () => (await this.client.query<R>(text, [...values])).rows);
    this.#last = answer.catch(() => undefined);
    return answer;
  }
}

export class Watch {
  /** It answered at the last time of asking. */
  reachable = false;
  #line: Line | null = null;
  #closed = false;
  #failures = 0;
  #timer: NodeJS.Timeout | null = null;
  #asking: Promise<boolean> | null = null;
  #again = false;
  #saidAt = -Infinity;
  #said = '';
  #counts = true;

  constructor(private readonly options: WatchOptions) {}

  get side(): string {
    return this.options.side;
  }

  /** Asks now (connecting first if need be); true when the database answered. Never throws. Calls at the same time share one question. */
  ask(): Promise<boolean> {
    if (this.#asking) {
      // The question under way may have been read before what the caller was told of.
      this.#again = true;
      return this.#asking;
    }
    this.#asking = this.#askAll().finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #askAll(): Promise<boolean> {
    let answered: boolean;
    do {
      this.#again = false;
      answered = await this.#askOnce();
    } while (this.#again && answered && !this.#closed);
    if (!this.#closed) this.#schedule(answered ? this.options.pollMs : this.#retryMs());
    return answered;
  }

  #retryMs(): number {
    return Math.min(this.options.pollMs, RETRY_MS[Math.min(this.#failures, RETRY_MS.length) - 1] ?? 50);
  }

  #schedule(ms: number): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.ask(), ms);
  }

  async #askOnce(): Promise<boolean> {
    if (this.#closed) return false;
    try {
      await this.#read(this.#line ?? (await this.#connect()));
      this.reachable = true;
      this.#failures = 0;
    } catch (error) {
      this.#drop();
      this.reachable = false;
      this.#failures++;
      this.options.onTrouble(error);
      return false;
    }
    await this.say();
    return true;
  }

  async #connect(): Promise<Line> {
    const socket = new Socket();
    const client = new Client({
      connectionString: asLibpq(this.options.url),
      application_name: `pgshift-router/${this.options.route}`.slice(0, 63),
      connectionTimeoutMillis: this.options.answerMs,
      query_timeout: this.options.answerMs,
      keepAlive: true,
      stream: () => socket,
    });
    const line = new Line(client, socket);
    const lost = (): void => {
      if (this.#line !== line) return;
      this.#line = null;
      this.reachable = false;
      if (!this.#closed) this.#schedule(0);
    };
    client.on('error', lost);
    client.on('end', lost);
    client.on('notification', () => void this.ask());
    try {
      await client.connect();
      // The acknowledgement is a sign of life, not data: it need not wait for the disk.
      await client.query(`SET synchronous_commit = off; SET search_path = pg_catalog; LISTEN ${CHANNEL}`);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    this.#line = line;
    this.#said = '';
    return line;
  }

  /** A peer that is gone never answers the goodbye: no goodbye. */
  #drop(): void {
    const line = this.#line;
    this.#line = null;
    line?.socket.destroy();
  }

  async #read(line: Line): Promise<void> {
    try {
      const [row] = await line.rows<RouteColumns>(ROUTE, [this.options.route]);
      const flags = await line.rows<FlagColumns>(FLAGS);
      this.options.onFlags(flags.map((flag) => ({ ...flag, allow: new Set(flag.allow), deny: new Set(flag.deny) })));
      this.options.onRoute(
        row
          ? {
              side: row.side,
              epoch: Number(row.epoch),
              paused: row.paused,
              pauseMs: row.pause,
              share: parseShare(row.share, row.fresh),
            }
          : null,
      );
    } catch (error) {
      if (!NOT_THERE.has(codeOf(error))) throw error;
      this.options.onRoute(null);
    }
  }

  /** Writes the acknowledgement when it changed, or when it is time for a sign of life. Never throws. */
  async say(): Promise<void> {
    const line = this.#line;
    if (!line || this.#closed) return;
    const { epoch, drained, inUse, counters } = this.options.hello();
    const saying = `${epoch} ${drained}`;
    if (saying === this.#said && performance.now() - this.#saidAt < HELLO_MS) return;
    this.#said = saying;
    this.#saidAt = performance.now();
    try {
      const said = [this.options.route, this.options.instance, epoch, drained, inUse];
      if (this.#counts) await line.rows(HELLO, [...said, JSON.stringify(counters)]);
      else await line.rows(HELLO_WITHOUT, said);
    } catch (error) {
      this.#said = '';
      if (this.#counts && codeOf(error) === NO_COLUMN) {
        this.#counts = false;
        return this.say();
      }
      if (!NOT_THERE.has(codeOf(error))) this.options.onTrouble(error);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    const line = this.#line;
    if (line) await line.rows(BYE, [this.options.route, this.options.instance]).catch(() => undefined);
    this.#drop();
    await this.#asking;
    this.#drop();
  }
}
