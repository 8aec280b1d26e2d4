/** A blue-green as a person drives it: plan, start, approve, watch, fence status, rollback, report. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Road } from '../../plan/model/road';
import type { Report, Status } from '../../plan/model/status';
import type { FenceStatus } from '../../postgres/switch/release';
import { pairWorld } from '../support/blueGreen';
import { runCli } from '../support/cli';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';

test('plan, start, approve, watch, fence status, rollback and report', async () => {
  const world = await pairWorld();
  const taskQueue = `cli-${randomUUID()}`;
  const env = {
    TEMPORAL_ADDRESS: temporalAddress(),
    PGSHIFT_TASK_QUEUE: taskQueue,
    PGSHIFT_DATABASE_BLUE: world.blue.url,
    PGSHIFT_DATABASE_GREEN: world.green.url,
    PGSHIFT_USER: 'ann',
  };
  const cli = (...args: string[]) => runCli(args, { env, timeoutMs: 90_000 });
  const worker = startWorkerProcess({ taskQueue, temporalAddress: temporalAddress(), databases: world.databases });
  try {
    const folder = mkdtempSync(join(tmpdir(), 'pgshift-plan-'));
    const name = `move_${taskQueue.slice(4, 12)}`;
    const file = join(folder, 'move.json');
    writeFileSync(join(folder, 'change.sql'), `ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new';`);
    const plan = world.plan({ name, change: { sqlFile: 'change.sql' }, gates: { decommission: 'none' } });
    writeFileSync(file, JSON.stringify(plan));

    const road = await cli('plan', file, '--json');
    expect(road.code).toBe(0);
    expect(road.json<Road>().steps.map(({ id }) => id)).toContain('apply_change');
    const shown = (await cli('plan', file)).stdout;
    expect(shown).toMatch(/gate .*\n.*waits for a person/);
    expect(shown.match(/waits for a person/g)).toHaveLength(1);

    const started = await cli('start', file, '--json');
    expect(started.code).toBe(0);
    const id = `migration/blue/${name}`;
    expect(started.json<{ id: string; database: string }>()).toMatchObject({ id, database: 'blue', name });
    expect((await cli('approve', name, '--gate', 'switch_traffic', '--json')).code).toBe(0);
    const watched = await cli('watch', id, '--until', 'hold', '--json');
    expect(watched.code).toBe(0);
    expect((await cli('status', id, '--json')).json<Status>()).toMatchObject({
      status: 'holding',
      writableSide: 'green',
    });
    expect((await cli('status', id)).stdout).toMatch(/writes go to\s+green/);
    const fence = (await cli('fence', 'status', '--blue', 'blue', '--json')).json<FenceStatus>();
    expect(fence).toMatchObject({ writable: 'green', guard: name });

    expect((await cli('rollback', id, '--reason', 'only a test', '--json')).code).toBe(0);
    expect((await cli('watch', id, '--until', 'end')).code).toBe(1);
    const report = (await cli('report', id, '--json')).json<Report>();
    expect(report).toMatchObject({ status: 'rolled_back', writableSide: 'blue', switch: { purpose: 'back' } });
    expect((await cli('report', id)).stdout).toMatch(/Switches[\s\S]*to green[\s\S]*to blue/);
    expect(await world.left()).toEqual([]);
  } finally {
    await worker.stop();
    await world.drop();
  }
}, 200_000);
