/**
 * Runs of `blueGreen` and `canary` with worker processes that die at crash points, or stand there while a server dies or the network between the two is
 * cut, under writers: which must end as if nobody had died.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import { Pool } from 'pg';
import type { Report, Status } from '../../plan/model/status';
import type { Ledger, PairWorld } from './blueGreen';
import { missing, pairWorld, startWriters } from './blueGreen';
import type { ServerVersion } from './database';
import { startOwnPostgres, startOwnTemporal } from './ownServers';
import type { OwnPostgres, OwnTemporal } from './ownServers';
import { startPgbouncer } from './pgbouncer';
import { resultOf, temporalAddress } from './temporal';
import { wireTo } from './wire';
import type { WorkerProcess } from './workerProcess';
import { startWorkerProcess } from './workerProcess';
import { serverHome } from './serverHome';

/** Where a worker may die on the way there, in the order of the road. `@switch`, `@drill` and `@back` say in which switch. */
export const THERE = [
  ...['claim.before', 'claim.after:2', 'epoch.after', 'item.after-commit@schema.1', 'sync.slot', 'epoch.after:2'],
  ...[
    'range.before-commit',
    'range.after-commit',
    'item.after-commit@build.1',
    'verify.range',
    'wayback.published',
    'wayback.slot',
  ],
] as const;
/** Inside the switch. */
export const INSIDE = [
  ...[
    'switch.armed',
    'pause.done@switch',
    'fence.revoked',
    'fence.walled',
    'catchup.reached@switch',
    'sequences.set@switch',
  ],
  ...['wayback.ready', 'lift.before', 'lift.after', 'flip.before@switch', 'flip.after@switch', 'resume.after@switch'],
  ...['unfence.granted', 'direction.unsubscribed'],
] as const;
/** Inside the switch back, and in what comes after it. */
export const BACK = [
  ...[
    'pause.done@back',
    'catchup.reached@back',
    'sequences.set@back',
    'flip.before@back',
    'flip.after@back',
    'resume.after@back',
  ],
] as const;

/** Where people are sent over, and home: at each stage of CANARY's plan, and when the writes are over (or the run is taken back). */
export const STAGES = ['internal', 'alpha', 'home'].flatMap((stage) => [
  `share.before@${stage}`,
  `share.after@${stage}`,
]);
/** A plan of kind `canary` with short stages, for `runPair`. */
export const CANARY = {
  kind: 'canary',
  routing: { moves: 'reads' },
  analyses: {
    orders: { source: 'sql', query: 'SELECT count(*) FROM orders', failWhen: 'green < blue', interval: '200ms' },
  },
  stages: [
    { name: 'internal', percent: 0, duration: '200ms', keys: ['1'], analysis: ['orders'] },
    { name: 'alpha', percent: 20, duration: '200ms', analysis: ['orders'] },
    { name: 'production', percent: 100, duration: '200ms', analysis: ['orders'] },
  ],
  monitor: { duration: '0s' },
} as const;

/** Who dies while the worker stands frozen at a point, and is up again before it goes on; of the network: for three seconds more. */
export type Victim = 'worker' | 'temporal' | 'blue' | 'green' | 'pgbouncer' | 'network';
export interface Death {
  readonly at: string;
  readonly victim: Victim;
}

/** Servers of the caller's own, for deaths of Temporal, blue and green. */
export interface PairServers {
  readonly temporal?: OwnTemporal;
  readonly blue?: OwnPostgres;
  readonly green?: OwnPostgres;
}

/** Those that these victims need. */
export async function startPairServers(victims: readonly Victim[]): Promise<PairServers & { stop(): Promise<void> }> {
  const homes: string[] = [];
  const home = (): string => {
    const made = serverHome('pair');
    homes.push(made);
    return made;
  };
  const postgres = (): Promise<OwnPostgres> =>
    startOwnPostgres(home(), { settings: { wal_retrieve_retry_interval: '200ms' } });
  const servers = {
    ...(victims.includes('temporal') ? { temporal: await startOwnTemporal(home()) } : {}),
    ...(victims.includes('blue') ? { blue: await postgres() } : {}),
    ...(victims.includes('green') ? { green: await postgres() } : {}),
  };
  return {
    ...servers,
    stop: async () => {
      await Promise.all(Object.values(servers).map((one) => one.stop()));
      for (const one of homes) rmSync(one, { recursive: true, force: true });
    },
  };
}

export interface PairCase {
  /** In the order of the road; a point alone is a death of the worker there. */
  readonly kills: readonly (string | Death)[];
  /** Ends in the hold and then completes, or goes back from there. */
  readonly end: 'complete' | 'roll back';
  readonly versions?: readonly [ServerVersion, ServerVersion];
  readonly plan?: Readonly<Record<string, unknown>>;
  readonly servers?: PairServers;
}

export interface PairEnd {
  readonly report: Report;
  readonly missing: readonly string[];
  readonly errors: readonly string[];
  readonly acknowledged: number;
  readonly left: readonly string[];
}

const STEP_MS = 120_000;
const CUT_MS = 3_000;

async function seen(handle: WorkflowHandle): Promise<Status | null> {
  return handle.query<Status>('status').catch(() => null); // no worker just now: that is what these tests are about
}

interface Mortal {
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** What clients go through, what the worker knows of it, and who of all that may die. */
interface Scene {
  readonly writers: Parameters<typeof startWriters>[0];
  readonly databases: Readonly<Record<string, string>>;
  readonly plan: Readonly<Record<string, unknown>>;
  readonly mortals: { readonly [victim in Victim]?: Mortal };
  close(): Promise<void>;
}

async function sceneOf(world: PairWorld, victims: readonly Victim[], servers: PairServers): Promise<Scene> {
  const open: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const one of open.reverse()) await one();
  };
  const portOf = (url: string): number => Number(new URL(url).port);
  const mortals: { [victim in Victim]?: Mortal } = { ...servers };
  let databases = world.databases;
  if (victims.includes('network')) {
    const wires = { blue: await wireTo(portOf(world.blue.url)), green: await wireTo(portOf(world.green.url)) };
    open.push(() => Promise.all([wires.blue.close(), wires.green.close()]));
    databases = {
      ...databases,
      blue_from_peer: wires.blue.through(world.blue.url),
      green_from_peer: wires.green.through(world.green.url),
    };
    const mend = (): void => {
      wires.blue.mend();
      wires.green.mend();
    };
    mortals.network = {
      kill: async () => {
        wires.blue.cut();
        wires.green.cut();
      },
      start: async () => void setTimeout(mend, CUT_MS),
    };
  }
  if (!victims.includes('pgbouncer')) {
    const router = world.router();
    await router.ready();
    return { writers: router, databases, plan: {}, mortals, close };
  }
  const { hostname, port, username } = new URL(world.blue.url);
  const pooler = await startPgbouncer({
    databases: `app = host=${hostname} port=${port} dbname=${world.blue.name}`,
    user: username,
    users: [world.role],
  });
  open.push(() => pooler.stop());
  const pool = new Pool({ connectionString: pooler.url('app', world.role), max: 6 });
  pool.on('error', () => undefined);
  open.push(() => pool.end());
  mortals.pgbouncer = pooler;
  const traffic = [{ type: 'pgbouncer', admin: ['pool'], database: 'app', databasesFile: pooler.databasesFile }];
  return {
    writers: pool,
    databases: { ...databases, pool: pooler.url('pgbouncer') },
    plan: { traffic },
    mortals,
    close,
  };
}

/** One run from its start to its end; each worker that dies has a successor. Throws when a death never happens. */
export async function runPair(of: PairCase): Promise<PairEnd> {
  const { end, versions = [18, 18], plan = {}, servers = {} } = of;
  const waiting = of.kills.map((kill): Death => (typeof kill === 'string' ? { at: kill, victim: 'worker' } : kill));
  const still = (): string => waiting.map(({ at, victim }) => `${victim} at ${at}`).join(', ');
  const { blue, green } = servers;
  const world: PairWorld = await pairWorld(undefined, versions, {
    own: {
      ...(blue ? { blue: (sql: string) => blue.database(sql) } : {}),
      ...(green ? { green: (sql: string) => green.database(sql) } : {}),
    },
  });
  const victims = waiting.map(({ victim }) => victim);
  const scene = await sceneOf(world, victims, servers);
  const address = servers.temporal?.address ?? temporalAddress();
  const connection = await Connection.connect({ address });
  const taskQueue = `pair-${randomBytes(4).toString('hex')}`;
  const workers = new Set<WorkerProcess>();
  let broken: Error | null = null;
  let ledger: Ledger | null = null;

  /** Servers die while the worker stands where it was told to. */
  const execute = async (worker: WorkerProcess, deaths: readonly Death[], mark: string): Promise<void> => {
    let gone = false;
    void worker.exited.then(() => (gone = true));
    for (const [index, { victim }] of deaths.entries()) {
      const mortal = scene.mortals[victim];
      if (!mortal) return; // the worker itself
      while (!existsSync(index === 0 ? mark : `${mark}.${index}`)) {
        if (gone) return;
        await sleep(20);
      }
      await worker.stopped();
      await mortal.kill();
      await mortal.start();
      waiting.shift();
      worker.signal('SIGCONT');
    }
  };
  /** It lives through the deaths of others, up to its own. */
  const start = (): WorkerProcess => {
    const own = waiting.findIndex(({ victim }) => victim === 'worker');
    const deaths = waiting.slice(0, own === -1 ? waiting.length : own + 1);
    const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
    const at = deaths.map((one) => (one.victim === 'worker' ? one.at : `${one.at}!stop`)).join(',');
    const worker = startWorkerProcess({
      taskQueue,
      temporalAddress: address,
      databases: scene.databases,
      env: { PGSHIFT_HEARTBEAT_MS: '3000', ...(at ? { PGSHIFT_CRASH_AT: at, PGSHIFT_CRASH_MARK: mark } : {}) },
    });
    workers.add(worker);
    execute(worker, deaths, mark).catch((error: unknown) => (broken = error as Error));
    return worker;
  };
  try {
    ledger = startWriters(scene.writers, 4, 20);
    const type = plan['kind'] === 'canary' ? 'canary' : 'blueGreen';
    const handle = await new Client({ connection }).workflow.start(type, {
      workflowId: `migration/blue/${taskQueue}`,
      taskQueue,
      args: [world.plan({ name: taskQueue, sync: { parallel: { rangeSize: '1MB' } }, ...scene.plan, ...plan })],
    });
    let over: string | null = null;
    let why = '';
    const ended = resultOf(handle).then(
      () => (over = 'completed'),
      (error: unknown) => {
        const { cause } = error as { cause?: { type?: string; message?: string; details?: unknown } };
        why = `: ${cause?.message ?? ''} ${JSON.stringify(cause?.details ?? null)}`;
        over = cause?.type ?? String(error);
      },
    );
    let worker = start();
    let asked = false;
    for (const until = Date.now() + STEP_MS * (of.kills.length + 1); over === null;) {
      if (broken) throw broken as Error;
      if (Date.now() > until)
        throw new Error(
          `it did not end; still waiting: ${still()}; last: ${JSON.stringify(await seen(handle))}\n${worker.log().slice(-2_000)}`,
        );
      const gone = await Promise.race([worker.exited, ended.then(() => null), sleep(150).then(() => undefined)]);
      if (gone) {
        // Whoever finds no Temporal when it starts ends with 4, for its supervisor to start another.
        if (gone.signal === 'SIGKILL') waiting.shift();
        else if (gone.code !== 4) throw new Error(`the worker ended by itself:\n${worker.log().slice(-3_000)}`);
        worker = start();
      }
      // A query waits for a worker: the one that died is replaced first.
      const status = await Promise.race([seen(handle), worker.exited.then(() => null), ended.then(() => null)]);
      if (status?.status !== 'holding' || status.phase !== 'hold' || asked) continue;
      // Deaths of the way back come after this.
      if (waiting.length > 0 && end === 'complete') throw new Error(`held before the death of ${still()}`);
      const said =
        end === 'complete'
          ? handle.signal('approve', { by: 'ann', gate: 'cleanup' })
          : handle.signal('rollback', { by: 'ann' });
      asked = await said.then(
        () => true,
        () => false,
      );
    }
    if (waiting.length > 0) throw new Error(`ended (${over}) before the death of ${still()}${why}`);
    await sleep(200);
    await ledger.stop();
    if (over !== (end === 'complete' ? 'completed' : 'RolledBack'))
      throw new Error(`ended as ${over}${why}\n${worker.log().slice(-3_000)}`);
    const report = await handle.query<Report>('report');
    const where = end === 'complete' ? world.green : world.blue;
    return {
      report,
      missing: await missing(ledger, where),
      errors: ledger.errors,
      acknowledged: ledger.acknowledged.size,
      left: (await world.left()).filter((one) => end === 'roll back' || !/^blue (wall|guard)/.test(one)),
    };
  } finally {
    void ledger?.stop(); // of a run that failed: nobody waits for its writers
    for (const worker of workers) await worker.stop();
    await connection.close();
    await scene.close();
    await world.drop();
  }
}
