/** Runs a stream while its worker dies with -9 where it is told to, and freezes once if asked, under clients that write: every change is there once. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { contents, eventually, needPostgresTools } from './copy';
import { freshDatabase } from './database';
import { forgetSlots, leftOn } from './stream';
import { temporalAddress } from './temporal';
import { startWorkerProcess } from './workerProcess';
import type { WorkerProcess } from './workerProcess';

const SETUP = `CREATE TABLE account (id int PRIMARY KEY, v int NOT NULL, t text); INSERT INTO account SELECT g, 0, repeat('x', 150) FROM generate_series(1, 3000) g;
CREATE TABLE entry (id bigserial PRIMARY KEY, account int, v int); ANALYZE;`;

export interface Deaths {
  /** Crash points in the order in which a run passes them: before rows are copied, while changes are followed, after the gate. */
  readonly before: readonly string[];
  readonly during: readonly string[];
  readonly after: readonly string[];
  /** A worker stands still while another one takes over, and wakes up. */
  readonly freeze: boolean;
}

export async function killStream({ before, during, after, freeze }: Deaths): Promise<void> {
  await needPostgresTools();
  const source = await freshDatabase(18, SETUP);
  const target = await freshDatabase(18);
  const connection = await Connection.connect({ address: temporalAddress() });
  const id = randomBytes(4).toString('hex');
  const taskQueue = `stream-${id}`;
  const workers = new Set<WorkerProcess>();
  const worker = (kill?: string): WorkerProcess => {
    const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
    const made = startWorkerProcess({
      taskQueue,
      temporalAddress: temporalAddress(),
      databases: { app: target.url, old: source.url },
      env: { PGSHIFT_HEARTBEAT_MS: '3000', ...(kill ? { PGSHIFT_CRASH_AT: kill, PGSHIFT_CRASH_MARK: mark } : {}) },
    });
    workers.add(made);
    return made;
  };
  const handle = await new Client({ connection }).workflow.start('dataMigration', {
    taskQueue,
    workflowId: `migration/app/stream-${id}`,
    args: [
      {
        name: `stream-${id}`,
        source: 'old',
        target: 'app',
        transfer: 'streaming',
        streaming: { flush: '20ms', buffer: '1MB' },
      },
    ],
  });
  const over = handle.result().then(
    () => ({ signal: 'the run ended before' }),
    () => ({ signal: 'the run failed before' }),
  );
  const dies = async (point: string): Promise<void> => {
    const { signal } = await Promise.race([worker(point).exited, over]);
    expect([point, signal]).toEqual([point, 'SIGKILL']);
  };
  const client = await source.client();
  let writing = true;
  const writer = (async () => {
    for (let n = 1; writing; n += 1) {
      await client.query(
        `BEGIN; UPDATE account SET v = v + 1 WHERE id = ${1 + (n % 3000)}; INSERT INTO entry (account, v) VALUES (${n % 3000}, 1); COMMIT`,
      );
      // Larger than the buffer.
      if (n % 400 === 0) await client.query(`UPDATE account SET v = v + 1`);
      await sleep(2);
    }
  })();
  const moves = async (by: number): Promise<void> => {
    const changes = async (): Promise<number> =>
      (await target.query<{ n: number }>(`SELECT changes::int AS n FROM pgshift.streams`))[0]?.n ?? 0;
    const from = await changes();
    await eventually(async () => (await changes()) > from + by, 60_000);
  };
  const takeOver = async (standing: WorkerProcess): Promise<WorkerProcess> => {
    await moves(100);
    standing.signal('SIGSTOP');
    const next = worker();
    await moves(100);
    standing.signal('SIGCONT');
    await sleep(300);
    return next;
  };
  try {
    for (const point of [...before, ...during]) await dies(point);
    const standing = worker();
    const stopped = [standing];
    if (freeze) stopped.push(await takeOver(standing));
    else await moves(100);
    writing = false;
    await writer;
    await Promise.all(stopped.map((one) => one.stop()));
    await handle.signal('approve', { by: 'test', gate: 'finish' });
    for (const point of after) await dies(point);
    worker();
    await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
    expect((await contents(target)).rows).toEqual((await contents(source)).rows);
    expect(await leftOn(source)).toEqual([]);
  } finally {
    writing = false;
    await writer;
    for (const one of workers) await one.stop();
    await connection.close();
    await forgetSlots(source);
    await Promise.all([source.drop(), target.drop()]);
  }
}
