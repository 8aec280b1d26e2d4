/**
 * Runs a scenario on real servers while processes die on purpose, and says how the database ended: rows and catalogue, as text that can be
 * compared with an undisturbed run's. Nothing here knows what the run does inside; it only starts, kills, starts again and looks.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { ident } from '../../postgres/ident';
import type { Report, Status } from '../../plan/model/status';
import { freshDatabase } from './database';
import type { FreshDatabase, ServerVersion } from './database';
import type { OwnServers, Victim } from './ownServers';
import type { Scenario } from './scenarios';
import { resultOf, temporalAddress } from './temporal';
import { startWorkerProcess } from './workerProcess';
import type { WorkerProcess } from './workerProcess';

/** Where a worker dies: `name[@step][:n]`, as PGSHIFT_CRASH_AT takes it. */
export type Kill = string;

/** Who dies while the worker stands there. A server is started again on its own files before the worker goes on. */
export interface Death {
  readonly at: Kill;
  readonly victim: 'worker' | Victim;
}

export interface EndState {
  /** JSON of every row of every compared table, in key order. */
  readonly rows: readonly string[];
  readonly catalog: readonly string[];
}

export interface ScenarioRun {
  readonly database: FreshDatabase;
  readonly handle: WorkflowHandle;
  readonly taskQueue: string;
  /** Starts a worker for this run; `kill` makes it die there, once. */
  worker(kill?: Kill, env?: Readonly<Record<string, string>>): WorkerProcess;
  /** Keeps one worker alive with these kills in their order until `until` settles; throws when a kill never happened. */
  supervise<T>(kills: readonly (Kill | Death)[], until: Promise<T>): Promise<T>;
  /** As handle.result(), also while Temporal is away: only the run's own failure ends it. */
  result(): Promise<unknown>;
  status(): Promise<Status>;
  report(): Promise<Report>;
  /** Waits until the predicate holds over status; throws with the last status after `timeoutMs`. */
  until(what: string, holds: (status: Status) => boolean, timeoutMs?: number): Promise<Status>;
  end(tables: readonly string[], without?: readonly string[]): Promise<EndState>;
  close(): Promise<void>;
}

export const FAST_WORKER: Readonly<Record<string, string>> = { PGSHIFT_HEARTBEAT_MS: '3000' };

/** Rows by key order with columns by name, so that the order of columns, which a swap may change, does not count. */
export async function rowsOf(
  database: FreshDatabase,
  table: string,
  without: readonly string[] = [],
): Promise<string[]> {
  const rows = await database.query<{ row: string }>(
    `SELECT (to_jsonb(t) - $1::text[])::text AS row FROM ${table.split('.').map(ident).join('.')} AS t ORDER BY 1`,
    [without],
  );
  return rows.map(({ row }) => `${table} ${row}`);
}

export async function endState(
  database: FreshDatabase,
  tables: readonly string[],
  without: readonly string[] = [],
): Promise<EndState> {
  const client = await database.client();
  const catalog = await fingerprintCatalog(client);
  await client.end();
  const rows: string[] = [];
  for (const table of tables) rows.push(...(await rowsOf(database, table, without)));
  return { rows, catalog };
}

export interface StartOptions {
  readonly version?: ServerVersion;
  readonly plan?: Readonly<Record<string, unknown>>;
  readonly temporalAddress?: string;
  /** Reuse a database that is set up already. */
  readonly database?: FreshDatabase;
  /** Of the test's own, for deaths of Temporal and Postgres. */
  readonly servers?: OwnServers;
}

const STANDS_MS = 120_000;

/** Waits until a worker stands frozen at a point. Throws when it never will: `why` says so, or it is not there after two minutes. */
async function frozen(mark: string, why: () => string | null): Promise<void> {
  for (const until = Date.now() + STANDS_MS; !existsSync(mark); await sleep(20)) {
    const reason = why() ?? (Date.now() > until ? `not there after ${STANDS_MS} ms` : null);
    if (reason !== null) throw new Error(reason);
  }
}

/** Makes the database and starts the workflow. No worker runs yet. */
export async function startScenario(scenario: Scenario, options: StartOptions = {}): Promise<ScenarioRun> {
  const database = options.database ?? (await freshDatabase(options.version ?? 18, scenario.setup));
  const address = options.temporalAddress ?? options.servers?.temporalAddress ?? temporalAddress();
  const connection = await Connection.connect({ address });
  const client = new Client({ connection });
  const id = randomBytes(4).toString('hex');
  const taskQueue = `kill-${id}`;
  const workers = new Set<WorkerProcess>();
  const handle = await client.workflow.start('schemaMigration', {
    taskQueue,
    workflowId: `migration/app/${scenario.name}-${id}`,
    args: [{ name: `${scenario.name}-${id}`, database: 'app', ...scenario.plan, ...options.plan }],
  });

  const run: ScenarioRun = {
    database,
    handle,
    taskQueue,
    worker(kill, env) {
      const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
      const worker = startWorkerProcess({
        taskQueue,
        temporalAddress: address,
        databases: { app: database.url },
        env: { ...FAST_WORKER, PGSHIFT_CRASH_MARK: mark, ...(kill ? { PGSHIFT_CRASH_AT: kill } : {}), ...env },
      });
      workers.add(worker);
      return worker;
    },
    async supervise(kills, until) {
      let over = false;
      const settled = until.then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      );
      let how = '';
      void settled.then((outcome) => {
        over = true;
        how = JSON.stringify(
          'value' in outcome ? outcome.value : String((outcome.error as Error).cause ?? outcome.error),
        );
      });
      const waiting = kills.map((kill): Death => (typeof kill === 'string' ? { at: kill, victim: 'worker' } : kill));
      for (;;) {
        // One worker lives through the deaths of servers up to its own.
        const own = waiting.findIndex(({ victim }) => victim === 'worker');
        const deaths = waiting.splice(0, own === -1 ? waiting.length : own + 1);
        const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
        const at = deaths.map(({ at: point, victim }) => (victim === 'worker' ? point : `${point}!stop`)).join(',');
        const worker = run.worker(at === '' ? undefined : at, { PGSHIFT_CRASH_MARK: mark });
        let ended: string | null = null;
        void worker.exited.then(({ signal, code }) => (ended = `${signal ?? code}`));
        for (const [index, { at: point, victim }] of deaths.entries()) {
          if (victim === 'worker') continue;
          await frozen(`${mark}${index === 0 ? '' : `.${index}`}`, () =>
            over ? `the run ended (${how})` : ended !== null ? `the worker ended by itself (${ended})` : null,
          ).catch(async (error: unknown) => {
            const status = await run.status().catch(String);
            throw new Error(
              `${victim} could not die at ${point}: ${String(error)}\n${JSON.stringify(status)}\n${worker.log().slice(-4000)}`,
            );
          });
          await worker.stopped();
          await options.servers?.kill(victim);
          await options.servers?.start(victim);
          worker.signal('SIGCONT');
        }
        const last = deaths.at(-1)?.victim === 'worker' ? deaths.at(-1)?.at : undefined;
        const first = await Promise.race([settled.then(() => null), worker.exited]);
        if (first === null || over) {
          await worker.stop();
          if (last !== undefined && first === null)
            throw new Error(
              `the run ended (${how}) before the kill at ${last}; still waiting: ${waiting.map((d) => d.at).join(', ') || 'none'}`,
            );
          break;
        }
        if (first.signal !== 'SIGKILL' || last === undefined)
          throw new Error(`the worker ended by itself (${first.signal ?? first.code}):\n${worker.log().slice(-4000)}`);
      }
      const outcome = await settled;
      if ('error' in outcome) throw outcome.error;
      return outcome.value;
    },
    result: () => resultOf(handle),
    status: () => handle.query<Status>('status'),
    report: () => handle.query<Report>('report'),
    async until(what, holds, timeoutMs = 90_000) {
      const deadline = Date.now() + timeoutMs;
      let last: unknown = null;
      while (Date.now() < deadline) {
        try {
          const status = await run.status();
          last = status;
          if (holds(status)) return status;
        } catch (error) {
          last = String(error); // no worker just now: that is what these tests are about
        }
        await sleep(100);
      }
      throw new Error(`waited ${timeoutMs} ms for: ${what}; last seen: ${JSON.stringify(last)}`);
    },
    end: (tables, without) => endState(database, tables, without),
    async close() {
      for (const worker of workers) await worker.stop();
      await connection.close();
      if (!options.database) await database.drop();
    },
  };
  return run;
}

/** True when the crash of that mark file has happened. */
export const happened = (mark: string): boolean => existsSync(mark);
