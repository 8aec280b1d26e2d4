/** `pgshift verify` and workflow `validation` on a real Temporal, with workers that are killed on the way. The built program: npm run build first. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';
import type { VerifyResult } from '../../plan/model/validation';
import { runCli } from '../support/cli';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';
import { FAST_WORKER } from '../support/killRun';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

const SECRET = 'row-value-71c9e';
const ROWS = 1_200_000;
const SETUP = `CREATE TABLE big (id int PRIMARY KEY, note text); INSERT INTO big SELECT i, 'n' || i FROM generate_series(1, ${ROWS}) AS i;
  CREATE TABLE names (name text PRIMARY KEY, note text); INSERT INTO names SELECT 'x' || i, '${SECRET}' FROM generate_series(1, 2000) AS i; ANALYZE`;

const tag = randomBytes(3).toString('hex');
const [BLUE, GREEN] = [`blue_${tag}`, `green_${tag}`];
const taskQueue = `verify-${tag}`;
let folder: string;
let blue: FreshDatabase;
let green: FreshDatabase;
let connection: Connection;
let client: Client;
const workers: WorkerProcess[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-verify-'));
  blue = await freshDatabase(18, SETUP);
  green = await freshDatabase(18, SETUP);
  await green.query(
    `UPDATE big SET note = '${SECRET}-changed' WHERE id = 654321; DELETE FROM names WHERE name = 'x77'`,
  );
  connection = await Connection.connect({ address: temporalAddress() });
  client = new Client({ connection });
});

afterAll(async () => {
  for (const worker of workers) await worker.stop();
  await connection.close();
  await Promise.all([blue.drop(), green.drop()]);
  rmSync(folder, { recursive: true, force: true });
});

const plan = (name: string, more: Readonly<Record<string, unknown>> = {}) => ({
  kind: 'validation',
  name,
  source: BLUE,
  target: GREEN,
  live: 'static',
  ...more,
});

const databases = (): Record<string, string> => ({ [BLUE]: blue.url, [GREEN]: green.url });

function worker(crashAt?: string): WorkerProcess {
  const started = startWorkerProcess({
    taskQueue,
    temporalAddress: temporalAddress(),
    databases: databases(),
    env: { ...FAST_WORKER, ...(crashAt === undefined ? {} : { PGSHIFT_CRASH_AT: crashAt }) },
  });
  workers.push(started);
  return started;
}

function command(args: readonly string[]) {
  const urls = Object.fromEntries(
    Object.entries(databases()).map(([name, url]) => [`PGSHIFT_DATABASE_${name.toUpperCase()}`, url]),
  );
  const env = {
    TEMPORAL_ADDRESS: temporalAddress(),
    PGSHIFT_TASK_QUEUE: taskQueue,
    PGSHIFT_HOME: join(folder, 'home'),
    ...urls,
  };
  return runCli(args, { env, timeoutMs: 90_000 });
}

function pgshift(args: readonly string[], of: Readonly<Record<string, unknown>>) {
  const file = join(folder, `${String(of.name)}.json`);
  writeFileSync(file, JSON.stringify(of));
  return command(['verify', file, ...args]);
}

const start = (of: ReturnType<typeof plan>) =>
  client.workflow.start('validation', { taskQueue, workflowId: `validation/${GREEN}/${of.name}`, args: [of] });

test('a worker that is killed in the middle costs a range: the next one goes on and finds the same rows', async () => {
  const handle = await start(plan('killed'));
  const first = worker('verify.range:4');
  expect(await first.exited).toMatchObject({ signal: 'SIGKILL' });
  const [done] = await green.query<{ ranges: string; rows: string }>(
    `SELECT sum(batches)::text AS ranges, sum(rows)::text AS rows FROM pgshift.lanes WHERE migration_name = 'killed'`,
  );
  expect(Number(done!.ranges)).toBeGreaterThanOrEqual(3);
  const second = worker('verify.range:3');
  expect(await second.exited).toMatchObject({ signal: 'SIGKILL' });
  const last = worker();
  const result = (await handle.result()) as VerifyResult & { status: string; reportRef: string };
  expect(result).toMatchObject({ status: 'completed', passed: false, reportRef: `${GREEN}/killed` });
  expect(
    result.tables.map(({ table, sourceRows, targetRows, differing }) => [table, sourceRows, targetRows, differing]),
  ).toEqual([
    ['public.big', ROWS, ROWS, 1],
    ['public.names', 2_000, 1_999, 1],
  ]);
  // No range was counted twice, and none was left out.
  const [after] = await green.query<{ rows: string }>(
    `SELECT sum(rows)::text AS rows FROM pgshift.lanes WHERE migration_name = 'killed'`,
  );
  expect(Number(after!.rows)).toBe(ROWS + 2_000);
  const history = JSON.stringify(JSON.parse(historyToJSON(await handle.fetchHistory())));
  expect(history).not.toContain(SECRET);
  expect(last.log()).not.toContain(SECRET);
  const rows = await green.query<{ status: string }>(`SELECT status FROM pgshift.migrations WHERE name = 'killed'`);
  expect(rows).toEqual([{ status: 'failed' }]);
});

test('pgshift verify: exit 1 and the rows, masked; with values when asked; 0 when equal; the same name may run again', async () => {
  const masked = await pgshift(['--json'], plan('compared'));
  expect(masked.stderr).not.toContain(SECRET);
  expect(masked.stdout).not.toContain(SECRET);
  expect(masked.code).toBe(1);
  expect(masked.json<VerifyResult>().tables[0]?.samples).toEqual([
    { key: { id: '***' }, kind: 'changed', columns: [{ name: 'note', source: '***', target: '***' }] },
  ]);
  const shown = await pgshift(['--show-values'], plan('compared'));
  expect(shown.code).toBe(1);
  expect(shown.stdout).toMatch(new RegExp(`big +id=654321 +changed +note +n654321 +${SECRET}-changed`));
  const equal = await pgshift(
    ['--json'],
    plan('compared', { tables: { include: ['nam*'] }, map: { names: { where: `name <> 'x77'` } } }),
  );
  expect(equal.code).toBe(0);
  expect(equal.json<VerifyResult>()).toMatchObject({
    passed: true,
    errors: [],
    tables: [{ table: 'public.names', equal: true, sourceRows: 1_999 }],
  });
});

test('status, watch and report know a validation; its exit code is the verdict', async () => {
  const status = await command(['status', `validation/${GREEN}/killed`, '--json']);
  expect(status.json()).toMatchObject({ kind: 'validation', status: 'completed', phase: 'finish', database: GREEN });
  const watched = await command(['watch', 'killed']);
  expect(watched.code).toBe(1);
  expect(watched.stdout).toMatch(/DIFFERENT/);
  const report = await command(['report', 'killed', '--show-values']);
  expect(report.code).toBe(0);
  expect(report.stdout).toMatch(/id=654321/);
  const json = (await command(['report', 'killed', '--json'])).json<VerifyResult & { status: string }>();
  expect(json).toMatchObject({ status: 'completed', passed: false, statistics: { rows: ROWS + 2_000 } });
  for (const format of ['markdown', 'html'])
    expect((await command(['report', 'killed', '--format', format])).stdout).toMatch(/public\.big/);
  expect(
    (await command(['list', '--kind', 'validation', '--database', GREEN, '--json'])).json<{ items: unknown[] }>().items
      .length,
  ).toBeGreaterThan(0);
});

test('pgshift start takes the same file, under the id of a validation; its end is the verdict', async () => {
  const of = plan('started', { tables: { include: ['names'] } });
  const file = join(folder, 'started.json');
  writeFileSync(file, JSON.stringify(of));
  const started = await command(['start', file, '--json']);
  expect(started.code).toBe(0);
  expect(started.json()).toMatchObject({ id: `validation/${GREEN}/started`, database: GREEN, name: 'started' });
  expect((await command(['watch', 'started'])).code).toBe(1);
  const watched = await command(['start', file, '--watch']);
  expect([watched.code, watched.stdout]).toEqual([1, expect.stringMatching(/started: .* DIFFERENT/)]);
});

test('without Temporal: the same answer; what is not built is refused', async () => {
  const local = await pgshift(['--local', '--json'], plan('local'));
  expect(local.code).toBe(1);
  expect(local.json<VerifyResult>()).toMatchObject({ passed: false, statistics: { rows: ROWS + 2_000 } });
  const bad = await pgshift(['--local', '--json'], plan('local', { map: { names: { sample: '10%' } } }));
  expect(bad.code).toBe(2);
  expect(bad.error().code).toBe('NotYet');
});

test('pause stops it behind its range, resume goes on, a rollback is refused; cancel ends it Cancelled and frees the name', async () => {
  const handle = await start(plan('paused', { parallel: 1 }));
  await handle.signal('pause', { by: 'ann', reason: 'lunch' });
  const until = async (status: string): Promise<void> => {
    for (let i = 0; ; i += 1) {
      const seen = await handle.query<{ status: string; messages: unknown[] }>('status').catch(() => null);
      if (seen?.status === status) return;
      if (i > 300) throw new Error(`never ${status}: ${JSON.stringify(seen)}`);
      await sleep(100);
    }
  };
  await until('paused');
  await expect(handle.executeUpdate('rollback', { args: [{ by: 'ann' }] })).rejects.toThrow();
  await handle.executeUpdate('resume', { args: [{ by: 'ann' }] });
  expect(await handle.result()).toMatchObject({ passed: false });
  const cancelled = await start(plan('cancelled', { parallel: 1 }));
  await cancelled.signal('pause', { by: 'ann' });
  await sleep(300);
  await cancelled.cancel();
  await expect(cancelled.result()).rejects.toMatchObject({ cause: { name: 'CancelledFailure' } });
  const rows = await green.query<{ status: string }>(
    `SELECT status FROM pgshift.migrations WHERE name = 'cancelled' AND status = 'running'`,
  );
  expect(rows).toEqual([]);
});
