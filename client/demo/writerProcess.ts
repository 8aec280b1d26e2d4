/**
 * The application-like writer, a process of its own: reads, updates, inserts and deletes at a fixed rate over a few connections. It
 * keeps true: an operation's latency runs from the moment at which it was due (a stall counts for everything that waits behind it), and
 * a write enters the ledger only when Postgres has acknowledged it. It knows nothing of pgshift; it is told only which period it is in.
 */
import { Client } from 'pg';
import type { ClientBase } from 'pg';
import { createRouter } from '../router';
import { Ledger } from './ledger';
import { Period } from './latency';
import type { PeriodReport } from './latency';
import type { Workload } from './workload';
import type { FromWriter, ToWriter } from './writer';

type Kind = keyof Workload['statements'];
interface Operation {
  readonly kind: Kind;
  readonly due: number;
}

const url = process.env.DEMO_WRITER_URL ?? '';
const { DEMO_WRITER_ROUTE: route, DEMO_WRITER_GREEN_URL: green = '' } = process.env;
/** Of an application that follows a switch; null = it keeps its connections to the one database. */
const router = route
  ? createRouter({
      route,
      connections: { blue: url, green },
      pool: { max: 8, application_name: 'shop' },
    })
  : null;
/** Of a connection that breaks: the statement on it says so. */
const ignored = (): void => undefined;
const say = (message: FromWriter): void => void process.send?.(message);
/** Of 20 operations: 10 reads, 6 updates, 3 inserts, 1 delete, in an order that mixes them. */
const MIX: readonly Kind[] =
  'read update read insert read update read read update read update read insert read update read remove read update insert'.split(
    ' ',
  ) as Kind[];
const CACHED_PLAN = 'cached plan must not change result type';

/** One connection with its queue. It owns the keys whose place in the list falls to it, and the rows it inserted. */
class Session {
  readonly #queue: Operation[] = [];
  readonly #mine: string[] = [];
  readonly #keys: readonly string[];
  readonly #generation = new Map<Kind, number>();
  #client: Client | null = null;
  #count = 0;
  #inserts = 0;
  #busy = false;

  constructor(
    readonly number: number,
    readonly of: number,
    readonly workload: Workload,
  ) {
    this.#keys = workload.keys.filter((_, i) => i % of === number);
  }

  get idle(): boolean {
    return !this.#busy && this.#queue.length === 0;
  }

  add(operation: Operation): void {
    this.#queue.push(operation);
    if (!this.#busy) void this.#drain();
  }

  async connect(): Promise<ClientBase> {
    const client = new Client({ connectionString: url, application_name: `shop ${this.number}` });
    client.on('error', () => (this.#client = null));
    await client.connect();
    this.#client = client;
    this.#generation.clear();
    return client;
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => undefined);
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      await this.#run(next);
      period.done(performance.now() - next.due);
    }
    this.#busy = false;
  }

  /** What is sent: a removal needs a row of its own to remove, until then it is a read. */
  #parameters(wanted: Kind): { kind: Kind; key: string; values: readonly unknown[]; image: string | null } {
    const w = this.workload;
    this.#count += 1;
    const value = w.values[(this.#count * 7) % w.values.length] ?? null;
    if (wanted === 'insert') {
      const n = this.#inserts++ * this.of + this.number;
      const key = (BigInt(w.firstKey) + BigInt(n)).toString();
      const copy = w.firstCopy + Math.floor(n / w.templates.length);
      return { kind: 'insert', key, values: [key, copy, value, w.templates[n % w.templates.length]], image: value };
    }
    const own = wanted === 'remove' ? this.#mine.shift() : undefined;
    if (own !== undefined) return { kind: 'remove', key: own, values: [own], image: null };
    const key = this.#keys[(this.#count * 31) % this.#keys.length] ?? '0';
    if (wanted === 'update') return { kind: 'update', key, values: [key, value], image: value };
    return { kind: 'read', key, values: [key], image: null };
  }

  async #run(operation: Operation): Promise<void> {
    const { kind, key, values, image } = this.#parameters(operation.kind);
    try {
      const done = await this.#send(kind, values);
      if (kind === 'read') return;
      if (done !== 1) return period.failed('no row');
      ledger.acknowledged(key, image);
      if (kind === 'insert') this.#mine.push(key);
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const sqlstate = typeof code === 'string' ? code : 'connection';
      period.failed(sqlstate);
      const lost = !/^[0-9A-Z]{5}$/.test(sqlstate) || /^(08|57P)/.test(sqlstate);
      if (lost && kind !== 'read') ledger.unknown(key, image);
      if (lost) await this.#reconnect();
    }
  }

  /** Prepared by name, as applications do; a changed result type is answered as drivers do: prepare again, once. */
  async #send(kind: Kind, values: readonly unknown[]): Promise<number> {
    if (router === null) return this.#sendBy(this.#client ?? (await this.connect()), kind, values);
    const client = await router.pool().connect();
    let broken = true;
    client.on('error', ignored);
    try {
      const done = await this.#sendBy(client, kind, values);
      broken = false;
      return done;
    } finally {
      client.off('error', ignored);
      client.release(broken);
    }
  }

  async #sendBy(client: ClientBase, kind: Kind, values: readonly unknown[]): Promise<number> {
    const send = async (): Promise<number> => {
      const name = `${kind}_${this.#generation.get(kind) ?? 0}`;
      return (await client.query({ name, text: this.workload.statements[kind], values: [...values] })).rowCount ?? 0;
    };
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof Error) || !error.message.includes(CACHED_PLAN)) throw error;
      period.cachedPlan(`${kind} of ${this.number}`);
      this.#generation.set(kind, (this.#generation.get(kind) ?? 0) + 1);
      return send();
    }
  }

  async #reconnect(): Promise<void> {
    await this.#client?.end().catch(() => undefined);
    this.#client = null;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const ledger = new Ledger();
const reports: PeriodReport[] = [];
let period = new Period('before');
let sessions: Session[] = [];
let stopping = false;
let paused = false;

function begin(name: string): void {
  reports.push(period.report());
  period = new Period(name);
}

/** Dispatches what is due, every millisecond; after a check the schedule starts afresh, so that the check's own wait counts for nobody. */
function pace(rate: number): void {
  let due = performance.now();
  let last = due;
  let n = 0;
  const tick = (): void => {
    const now = performance.now();
    period.ownPauseMs = Math.max(period.ownPauseMs, now - last - 1);
    last = now;
    if (paused) due = now;
    for (; due <= now && !paused; due += 1000 / rate, n += 1)
      sessions[n % sessions.length]?.add({ kind: MIX[Math.floor(n / sessions.length) % MIX.length] ?? 'read', due });
    if (!stopping) setTimeout(tick, 1);
  };
  tick();
}

async function quiet(): Promise<void> {
  paused = true;
  while (!sessions.every((session) => session.idle)) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function check(workload: Workload): Promise<void> {
  await quiet();
  if (router === null) {
    const client = new Client({ connectionString: url, application_name: 'shop ledger' });
    await client.connect();
    say({ type: 'checked', check: await ledger.check(client, workload) });
    await client.end();
  } else {
    // Where the writes go now, and by the same way.
    const client = await router.pool().connect();
    say({ type: 'checked', check: await ledger.check(client, workload) });
    client.release();
  }
  paused = false;
}

async function start(workload: Workload, rate: number, connections: number): Promise<void> {
  sessions = Array.from({ length: connections }, (_, i) => new Session(i, connections, workload));
  if (router) await router.ready();
  else for (const session of sessions) await session.connect();
  pace(rate);
  say({ type: 'ready' });
  setInterval(() => say({ type: 'tick', report: period.report() }), 1_000).unref();
}

async function stop(): Promise<void> {
  await quiet();
  stopping = true;
  begin('end');
  for (const session of sessions) await session.close();
  await router?.close();
  say({ type: 'report', periods: reports });
  process.disconnect();
}

let workload: Workload | null = null;
const handle = async (message: ToWriter): Promise<void> => {
  if (message.type === 'start') {
    workload = message.workload;
    await start(message.workload, message.rate, message.connections);
  } else if (message.type === 'period') begin(message.name);
  else if (message.type === 'check' && workload) await check(workload);
  else if (message.type === 'stop') await stop();
};

process.on('message', (message: ToWriter) => {
  handle(message).catch((error: unknown) => {
    say({ type: 'failed', code: (error as { code?: string }).code ?? 'unknown' });
    process.exit(1);
  });
});
// Without its parent it has nobody to write for.
process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => undefined);
