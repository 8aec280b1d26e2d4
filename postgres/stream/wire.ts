/**
 * A replication connection to the source. Keeps true: what was confirmed is never more than the caller said is durable on the other side; the
 * server hears of us every few seconds, also while we do not read (a target that is slow must not look like one that is dead); what is not
 * read stays in the socket, so memory does not grow.
 */
import { Client } from 'pg';
import type { ClientConfig } from 'pg';
import { Problem } from '../../plan/model/errors';
import { ident, literal } from '../ident';
import { addressOf, connectionString } from '../session';
import type { Peer } from '../toProblem';
import { toProblem } from '../toProblem';
import type { Target } from '../types';
import type { Message } from './decode';
import { Decoder } from './decode';
import { lsnText } from './lsn';

/** The parts of the driver that speak this protocol; its types do not know them. */
interface Line {
  readonly stream: { pause(): void; resume(): void; destroy(): void };
  sendCopyFromChunk(chunk: Buffer): void;
  on(event: 'copyData', listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
}

export interface WireOptions {
  readonly slot: string;
  readonly publication: string;
  /** Everything before it is there already. */
  readonly from: bigint;
  /** application_name, by which a later attempt knows the connection as ours. */
  readonly name: string;
  /** `bytes` = what the message took on the wire. */
  readonly onMessage: (message: Message, bytes: number) => void;
  /** Nothing before this position is still to come. */
  readonly onIdle: (walEnd: bigint) => void;
}

export interface Identity {
  readonly system: string;
  readonly timeline: number;
}

export interface Wire {
  readonly identity: Identity;
  /** Everything before it is durable on the other side. */
  confirm(lsn: bigint): void;
  /** Asks how far it is: `onIdle` hears it. */
  ask(): void;
  pause(): void;
  resume(): void;
  /** Rejects with a Problem when the connection ends by itself; never resolves. */
  readonly broken: Promise<never>;
  close(): Promise<void>;
}

const CONNECT_MS = 10_000;
/** Far below wal_sender_timeout's default of 60 s. */
const TELL_MS = 3_000;
const CLOSE_MS = 2_000;
/** XLogData: w, three times eight bytes, the message. */
const DATA_AT = 25;
const POSTGRES_EPOCH_MICROS = 946_684_800_000_000n;

/** Text means the same on both sides: as postgres/session.ts and copy/context.ts have it. */
const SETTINGS = [
  `DateStyle = 'ISO, MDY'`,
  `IntervalStyle = 'postgres'`,
  `extra_float_digits = 1`,
  `bytea_output = 'hex'`,
  `TimeZone = 'UTC'`,
  `lc_monetary = 'C'`,
  `xmloption = content`,
  `search_path = pg_catalog`,
  `statement_timeout = 0`,
  `lock_timeout = 0`,
  `idle_in_transaction_session_timeout = 0`,
];

function statusUpdate(lsn: bigint, asked: boolean): Buffer {
  const message = Buffer.alloc(34);
  message.writeUInt8(0x72, 0); // r
  for (const at of [1, 9, 17]) message.writeBigUInt64BE(lsn, at);
  message.writeBigInt64BE(BigInt(Date.now()) * 1_000n - POSTGRES_EPOCH_MICROS, 25);
  message.writeUInt8(asked ? 1 : 0, 33);
  return message;
}

/** Connects and says which server it is; nothing flows before `start`. Throws Unreachable, LoginFailed, TlsFailed, PrivilegeMissing. */
async function connect(target: Target, name: string): Promise<{ client: Client; peer: Peer; identity: Identity }> {
  const peer: Peer = { name: target.name, ...addressOf(target) };
  const config: ClientConfig & { replication: string } = {
    connectionString: connectionString(target),
    application_name: name,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    replication: 'database',
  };
  const client = new Client(config);
  client.on('error', () => undefined);
  try {
    await client.connect();
    for (const setting of SETTINGS) await client.query(`SET ${setting}`);
    const { rows } = await client.query<{ systemid: string; timeline: number }>('IDENTIFY_SYSTEM');
    const [row] = rows;
    if (!row) throw new Problem('Bug', 'the server did not say which one it is');
    return { client, peer, identity: { system: row.systemid, timeline: Number(row.timeline) } };
  } catch (error) {
    client.end().catch(() => undefined);
    throw toProblem(error, peer);
  }
}

/** Throws what a connection throws; `check` sees which server it is before anything flows. */
export async function openWire(
  target: Target,
  options: WireOptions,
  check: (identity: Identity) => void,
): Promise<Wire> {
  const { client, peer, identity } = await connect(target, options.name);
  const line = (client as unknown as { readonly connection: Line }).connection;
  const decoder = new Decoder();
  let confirmed = options.from;
  let closed = false;
  let fail: (error: Error) => void = () => undefined;
  const broken = new Promise<never>((_, reject) => (fail = reject));
  broken.catch(() => undefined);
  const tell = (asked = false): void => {
    if (!closed) line.sendCopyFromChunk(statusUpdate(confirmed, asked));
  };
  const timer = setInterval(tell, TELL_MS);
  const close = async (): Promise<void> => {
    if (closed) return;
    tell();
    closed = true;
    clearInterval(timer);
    line.stream.resume();
    // A server in the middle of a large transaction reads no goodbye.
    const ended = client.end().catch(() => undefined);
    const late = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_MS).unref());
    await Promise.race([ended, late]);
    line.stream.destroy();
  };
  const onCopyData = (chunk: Buffer): void => {
    if (closed) return;
    try {
      const kind = chunk.readUInt8(0);
      if (kind === 0x77) options.onMessage(decoder.decode(chunk, DATA_AT), chunk.length);
      else if (kind === 0x6b) {
        options.onIdle(chunk.readBigUInt64BE(1));
        if (chunk.readUInt8(17) === 1) tell();
      }
    } catch (error) {
      fail(toProblem(error, peer));
    }
  };
  try {
    check(identity);
    line.on('copyData', ({ chunk }) => onCopyData(chunk));
    await new Promise<void>((resolve, reject) => {
      line.once('replicationStart', resolve);
      client.once('end', () => {
        const gone = new Problem('Unreachable', `${peer.name}: ${peer.where} ended the replication connection`);
        fail(gone);
        reject(gone);
      });
      client
        .query(
          `START_REPLICATION SLOT ${ident(options.slot)} LOGICAL ${lsnText(options.from)}
             (proto_version '1', publication_names ${literal(ident(options.publication))})`,
        )
        .then(
          () => fail(new Problem('ServerRestarting', `${peer.name}: the server ended the stream`)),
          (error: unknown) => {
            const problem = slotProblem(toProblem(error, peer), peer, options.slot);
            fail(problem);
            reject(problem);
          },
        );
    });
  } catch (error) {
    await close();
    throw error;
  }
  return {
    identity,
    confirm: (lsn) => {
      if (lsn <= confirmed) return;
      confirmed = lsn;
      tell();
    },
    ask: () => tell(true),
    pause: () => line.stream.pause(),
    resume: () => line.stream.resume(),
    broken,
    close,
  };
}

/** The slot is not there, has lost what it needs, or somebody holds it. */
function slotProblem(error: Error, peer: Peer, slot: string): Error {
  const state = (error as { details?: { sqlstate?: unknown } }).details?.sqlstate;
  if (state === '42704' || (state === '55000' && /can no longer|invalidated|lost/.test(error.message)))
    return new Problem('SlotLost', `${peer.name}: slot ${slot} is gone or has lost WAL that it needs`, {
      hint: 'raise max_slot_wal_keep_size (or the disk) and start again: what was written meanwhile cannot be known',
    });
  if (state === '55006') return new Problem('ServerRestarting', `${peer.name}: slot ${slot} is still in use`);
  return error;
}
