/**
 * How clients are moved, as a plan writes it: one adapter for each way, any number at once. Values here are names and places on the worker,
 * never secrets: `admin` of pgbouncer names connections, a header's value is `env:NAME`. Pure.
 */
import { z } from 'zod';
import { connectionName, duration } from './plan';
import { parseDuration } from './values';

export const SIDES = ['blue', 'green'] as const;
export type Side = (typeof SIDES)[number];
export const otherSide = (side: Side): Side => (side === 'blue' ? 'green' : 'blue');

const pair = <T extends z.ZodType>(one: T) => z.strictObject({ blue: one, green: one });
const plainName = z.string().min(1).max(200);
/** `host:port/dbname`: how the pooler reaches a side when it is not how the worker does. No user, no password. */
const serverAddress = z.string().refine((text) => parseServer(text) !== null, {
  error: 'write a server as host:port or host:port/dbname, without user and password (the value is not shown)',
});
const positiveDuration = duration.refine((text) => parseDuration(text) !== 0, { error: 'longer than 0s' });

export const routerAdapter = z.strictObject({
  type: z.literal('router'),
  route: plainName,
  /** What applications call the two sides in `connections`, where it is not blue and green. */
  sides: pair(plainName).default({ blue: 'blue', green: 'green' }),
});

export const pgbouncerAdapter = z.strictObject({
  type: z.literal('pgbouncer'),
  /** Connections to the admin consoles (database `pgbouncer`), one for each process. */
  admin: z.array(connectionName).min(1),
  /** As clients name it. */
  database: plainName,
  databasesFile: plainName,
  servers: pair(serverAddress).optional(),
});

/** Goes into HAProxy's own configuration as bytes and as text. */
const asciiName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/, {
  error: 'letters, digits, _ . and - alone: it is written into the configuration of HAProxy',
});

/** A backend for reads that may be a little old: both servers in service, green by a weight. */
export const haproxyReads = z
  .strictObject({
    backend: asciiName,
    servers: pair(asciiName),
    /** How HAProxy asks green by itself whether reads may go there: a role that is let in without a password, and how often. */
    check: z.strictObject({
      user: asciiName,
      database: asciiName,
      every: duration
        .refine((text) => (parseDuration(text) ?? 0) >= 50 && (parseDuration(text) ?? 0) <= 1_000, {
          error: '50ms to 1s',
        })
        .default('200ms'),
    }),
  })
  .refine(({ servers }) => servers.blue !== servers.green, {
    error: 'reads go to two servers at once: give them two',
    path: ['servers'],
  });

export const haproxyAdapter = z.strictObject({
  type: z.literal('haproxy'),
  admin: z
    .array(
      z.string().refine((text) => text.startsWith('/') || parseHostPort(text) !== null, {
        error: 'a runtime API is host:port or the absolute path of a socket',
      }),
    )
    .min(1),
  backend: plainName,
  /** Two servers of the backend; or one and the same, whose address is then set. */
  servers: pair(plainName),
  /** The frontend (or `listen`) in front: during a pause its new clients wait. Without it they are turned away. */
  frontend: plainName.optional(),
  /** With one server for both sides: where each side is. */
  addresses: pair(serverAddress).optional(),
  /** How long open sessions may end by themselves before they are shut down; never more than half of the pause. */
  drain: duration.default('500ms'),
  /** Of a canary: where reads go over by weights, for clients without the router library. */
  reads: haproxyReads.optional(),
});

const envHeader = z.string().regex(/^env:[A-Za-z_][A-Za-z0-9_]*$/, {
  error: 'a header comes from the worker: env:NAME (the value is not shown)',
});
export const commandAdapter = z
  .strictObject({
    type: z.literal('command'),
    run: z.array(z.string()).min(1).optional(),
    url: z
      .string()
      .refine((text) => /^https?:\/\/[^@\s]+$/.test(text), {
        error: 'an http(s) URL without user and password (the value is not shown)',
      })
      .optional(),
    headers: z.record(z.string().regex(/^[A-Za-z0-9-]+$/), envHeader).default({}),
    timeout: positiveDuration.default('10s'),
  })
  .refine((a) => (a.run === undefined) !== (a.url === undefined), { error: 'a command has either run or url' })
  .refine((a) => a.run === undefined || Object.keys(a.headers).length === 0, { error: 'headers belong to url' });

export const adapterSchema = z.union([routerAdapter, pgbouncerAdapter, haproxyAdapter, commandAdapter]);
/** The key `traffic` of blue-green and canary. */
export const trafficSchema = z.array(adapterSchema).min(1);

export type RouterAdapterPlan = z.output<typeof routerAdapter>;
export type PgbouncerAdapterPlan = z.output<typeof pgbouncerAdapter>;
export type HaproxyAdapterPlan = z.output<typeof haproxyAdapter>;
export type HaproxyReadsPlan = z.output<typeof haproxyReads>;
export type CommandAdapterPlan = z.output<typeof commandAdapter>;
export type AdapterPlan = z.output<typeof adapterSchema>;

export interface HostPort {
  readonly host: string;
  readonly port: number;
}
export interface ServerAddress extends HostPort {
  /** null = as it is. */
  readonly database: string | null;
}

/** `host:port`, `[::1]:port`; null when it is neither. */
export function parseHostPort(text: string): HostPort | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  return host !== undefined && port > 0 && port < 65_536 ? { host, port } : null;
}

/** `host:port` or `host:port/dbname`; null when it is neither. */
export function parseServer(text: string): ServerAddress | null {
  const slash = text.indexOf('/');
  const place = parseHostPort(slash < 0 ? text : text.slice(0, slash));
  if (place === null || slash === text.length - 1) return null;
  const database = slash < 0 ? null : text.slice(slash + 1);
  return database !== null && /[\s@/]/.test(database) ? null : { ...place, database };
}
