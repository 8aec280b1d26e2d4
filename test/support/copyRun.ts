/** One data migration with workers as processes of their own, for tests that kill, freeze and cut what it needs. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import type { Report } from '../../plan/model/status';
import { contents, eventually, needPostgresTools } from './copy';
import type { FreshDatabase } from './database';
import { resultOf, temporalAddress } from './temporal';
import { startWorkerProcess } from './workerProcess';
import type { WorkerProcess } from './workerProcess';

export const COPY_SETUP = `
CREATE TABLE big (id bigserial PRIMARY KEY, k int, t text); INSERT INTO big (k, t) SELECT g % 100, repeat(md5(g::text), 4) FROM generate_series(1, 120000) g;
CREATE TABLE heap (t text); INSERT INTO heap SELECT md5((g % 5000)::text) FROM generate_series(1, 60000) g; CREATE INDEX ON big (k);
CREATE TABLE small (id int PRIMARY KEY, big bigint REFERENCES big); INSERT INTO small SELECT g, g FROM generate_series(1, 500) g;
CREATE VIEW v AS SELECT count(*) FROM big; ANALYZE;`;

export interface CopyRun {
  readonly source: FreshDatabase;
  readonly target: FreshDatabase;
  readonly handle: WorkflowHandle;
  worker(kill?: string): WorkerProcess;
  /** Ends well: same rows, proven, no session of ours left on the source. */
  expectWhole(): Promise<Report>;
  /** Ranges that are committed. */
  chunks(): Promise<number>;
  /** Stops the workers; the databases are the caller's. */
  close(): Promise<void>;
}

export interface CopyRunOptions {
  readonly source: FreshDatabase;
  readonly target: FreshDatabase;
  readonly plan?: Readonly<Record<string, unknown>>;
  readonly temporalAddress?: string;
  /** What the worker uses instead of the databases' own URLs. */
  readonly urls?: { readonly old: string; readonly app: string };
  readonly env?: Readonly<Record<string, string>>;
}

export async function startCopyRun(of: CopyRunOptions): Promise<CopyRun> {
  await needPostgresTools();
  const address = of.temporalAddress ?? temporalAddress();
  const connection = await Connection.connect({ address });
  const id = randomBytes(4).toString('hex');
  const taskQueue = `copy-${id}`;
  const { source, target } = of;
  const handle = await new Client({ connection }).workflow.start('dataMigration', {
    taskQueue,
    workflowId: `migration/app/copy-${id}`,
    args: [{ name: `copy-${id}`, source: 'old', target: 'app', parallel: { rangeSize: '2MB' }, ...of.plan }],
  });
  const workers = new Set<WorkerProcess>();
  return {
    source,
    target,
    handle,
    worker(kill) {
      const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
      const worker = startWorkerProcess({
        taskQueue,
        temporalAddress: address,
        databases: { ...(of.urls ?? { app: target.url, old: source.url }) },
        env: {
          PGSHIFT_HEARTBEAT_MS: '3000',
          ...of.env,
          ...(kill ? { PGSHIFT_CRASH_AT: kill, PGSHIFT_CRASH_MARK: mark } : {}),
        },
      });
      workers.add(worker);
      return worker;
    },
    async expectWhole() {
      const ended = await resultOf(handle).catch((error: unknown) => error);
      if (ended instanceof Error) throw new Error(`it did not complete: ${reasonOf(ended)}`);
      expect((await contents(target)).rows).toEqual((await contents(source)).rows);
      const report = await handle.query<Report>('report');
      expect(report.proof.every(({ equal }) => equal)).toBe(true);
      await eventually(
        async () =>
          (
            await source.query(
              `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgshift/%'`,
            )
          ).length === 0,
      );
      return report;
    },
    chunks: async () =>
      (
        await target
          .query<{ n: number }>(`SELECT count(*)::int AS n FROM pgshift.chunks WHERE rows > 0`)
          .catch(() => [])
      )[0]?.n ?? 0,
    async close() {
      for (const worker of workers) await worker.stop();
      await connection.close();
    },
  };
}

const reasonOf = (error: Error): string =>
  error.cause instanceof Error ? `${error.message}: ${reasonOf(error.cause)}` : error.message;

/** Waits until the copy has committed at least `count` ranges. */
export async function untilChunks(run: CopyRun, count: number, ms = 60_000): Promise<void> {
  for (const end = Date.now() + ms; (await run.chunks()) < count; await sleep(50))
    if (Date.now() > end) throw new Error(`the copy has not committed ${count} ranges in ${ms} ms`);
}
