/**
 * How HAProxy itself asks green whether reads may go there: the lines of its read backend, as bytes of Postgres' protocol. Keeps true: whoever stops saying that
 * green is near (a worker that died, a lag, a server that is away) need do nothing for reads to come home; HAProxy's own look finds it. Pure.
 */
import type { HaproxyReadsPlan } from './traffic';
import { parseDuration } from './values';

/** The row of `pgshift.routes` in which the share of a read backend lies. */
export const readsRoute = (backend: string): string => `haproxy/${backend}`;

/** What HAProxy calls the servers stands for the sides in that row: it means the same in the next change, whose blue is this one's green. */
export const readsSides = ({ servers }: Pick<HaproxyReadsPlan, 'servers'>): HaproxyReadsPlan['servers'] => servers;

export const everyMs = ({ check }: Pick<HaproxyReadsPlan, 'check'>): number => parseDuration(check.every) ?? 200;
/** A green that hangs is down after so many looks. */
const PATIENCE = 5;
/** What HAProxy saw last holds for so long at most: a look is due, it connects, and then it waits. */
export const noticesMs = (plan: Pick<HaproxyReadsPlan, 'check'>): number => (PATIENCE + 2) * everyMs(plan);
/** So often it must look within `maxReadLag`, or nothing is left of it. */
export const LOOKS = 20;

/** Of one length: HAProxy knows by the number of bytes that the answer is there, and then waits for no other. */
export const NEAR = 'pgshift_near';
const AWAY = 'pgshift_away';
const COLUMN = 'reads';
/** RowDescription of one column, and the DataRow up to its end. */
const ANSWER_BYTES = 1 + 4 + 2 + (COLUMN.length + 1 + 18) + (1 + 4 + 2 + 4 + NEAR.length);

/** Green takes the writes, or a share is told and green is proven to be near for some time yet. */
const question = ({ backend, servers }: HaproxyReadsPlan): string =>
  `SELECT CASE WHEN EXISTS (SELECT FROM pgshift.routes WHERE route = '${readsRoute(backend).replaceAll("'", "''")}' ` +
  `AND (side = '${readsSides({ servers }).green}' OR (details ? 'share' AND fresh_until > clock_timestamp()))) THEN '${NEAR}' ELSE '${AWAY}' END AS ${COLUMN}`;

const hex = (bytes: readonly number[]): string => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
/** Names here are ASCII: the plan's schema says so. */
const text = (value: string): number[] => [...value].map((char) => char.charCodeAt(0));
const int32 = (value: number): number[] => [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff);

/** StartupMessage of protocol 3.0. */
function startup(user: string, database: string): string {
  const pairs = ['user', user, 'database', database, 'application_name', 'pgshift-haproxy'];
  const body = [...int32(0x0003_0000), ...pairs.flatMap((one) => [...text(one), 0]), 0];
  return hex([...int32(body.length + 4), ...body]);
}

function simpleQuery(sql: string): string {
  const body = [...text(sql), 0];
  return hex([...text('Q'), ...int32(body.length + 4), ...body]);
}

/** ReadyForQuery, idle: the role was let in without a password. */
const READY = '5a0000000549';

/** What the backend needs beside its own lines. */
export function readsLines(plan: HaproxyReadsPlan): readonly string[] {
  const { backend, servers, check } = plan;
  const every = everyMs(plan);
  return [
    `backend ${backend}`,
    '  option tcp-check',
    `  timeout check ${PATIENCE * every}ms`,
    '  tcp-check connect',
    `  tcp-check send-binary ${startup(check.user, check.database)}`,
    `  tcp-check expect binary ${READY}`,
    `  tcp-check send-binary ${simpleQuery(question(plan))}`,
    `  tcp-check expect min-recv ${ANSWER_BYTES} string ${NEAR}`,
    `  server ${servers.blue} BLUE:PORT weight 100`,
    `  server ${servers.green} GREEN:PORT weight 0 check inter ${every}ms fall 1 rise 1 on-marked-down shutdown-sessions`,
  ];
}

export interface Weights {
  readonly blue: number;
  readonly green: number;
}

/** What HAProxy's weights (0..256, whole) can say least. */
export const LEAST_PERCENT = 0.4;

/** Whole weights whose share comes nearest to `percent`; 0 and 100 are exact. null = too small to be said. */
export function weightsFor(percent: number): Weights | null {
  if (percent <= 0) return { blue: 100, green: 0 };
  if (percent >= 100) return { blue: 0, green: 100 };
  if (percent < LEAST_PERCENT || percent > 100 - LEAST_PERCENT) return null;
  // The usual ones as a person would write them.
  if (Number.isInteger(percent)) return { blue: 100 - percent, green: percent };
  let best = { blue: 256, green: 1, off: Infinity };
  for (let green = 1; green <= 256; green += 1) {
    const blue = Math.round((green * (100 - percent)) / percent);
    const off = Math.abs((100 * green) / (green + blue) - percent);
    if (blue >= 1 && blue <= 256 && off < best.off) best = { blue, green, off };
  }
  return { blue: best.blue, green: best.green };
}
