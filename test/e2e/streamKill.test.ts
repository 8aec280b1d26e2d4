/** The worker dies with -9 at every crash point of a stream, and freezes once, while clients write: every change is there once. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { contents, eventually, needPostgresTools } from '../support/copy';
import { freshDatabase } from '../support/database';
import { forgetSlots, leftOn } from '../support/stream';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

const SETUP = `CREATE TABLE account (id int PRIMARY KEY, v int NOT NULL, t text); INSERT INTO account SELECT g, 0, repeat('x', 150) FROM generate_series(1, 3000) g;
CREATE TABLE entry (id bigserial PRIMARY KEY, account int, v int); ANALYZE;`;

/** In the order in which a run passes them. */
const BEFORE = ['stream.published', 'stream.slot', 'epoch.after'];
const DURING = ['stream.before-commit:3', 'stream.after-commit:2', 'stream.piece'];
const AFTER = ['stream.unslotted'];

test('kill -9 at every crash point of a stream', async () => {
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
      await client.query(`BEGIN; UPDATE account SET v = v + 1 WHERE id = ${1 + (n % 3000)}; INSERT INTO entry (account, v) VALUES (${n % 3000}, 1); COMMIT`);
      // Larger than the buffer.
      if (n % 400 === 0) await client.query(`UPDATE account SET v = v + 1`);
      await sleep(2);
    }
  })();
  try {
    for (const point of [...BEFORE, ...DURING]) await dies(point);
    const frozen = worker();
    await eventually(
      async () => (await target.query(`SELECT 1 FROM pgshift.streams WHERE source_time > now() - interval '1 second'`)).length === 1,
      30_000,
    );
    frozen.signal('SIGSTOP');
    const next = worker();
    const [before] = await target.query<{ n: string }>(`SELECT changes::text AS n FROM pgshift.streams`);
    await eventually(
      async () => (await target.query(`SELECT 1 FROM pgshift.streams WHERE changes > $1::bigint + 100`, [before?.n])).length === 1,
      60_000,
    );
    frozen.signal('SIGCONT');
    await sleep(300);
    writing = false;
    await writer;
    await Promise.all([frozen.stop(), next.stop()]);
    await handle.signal('approve', { by: 'test', gate: 'finish' });
    for (const point of AFTER) await dies(point);
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
}, 300_000);
