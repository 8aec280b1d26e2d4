/**
 * A side dies by -9 while people of a stage read on green, and while a person is asked: the share stays what the last finished step set, reads of a side that is
 * away are answered by the other one, the stage passes only when everything is known again, and no acknowledged write is lost.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Router } from '../../client/router';
import type { Side } from '../../plan/model/traffic';
import { missing, pairWorld, startWriters } from '../support/blueGreen';
import type { PairWorld } from '../support/blueGreen';
import { startPairServers } from '../support/pairRun';
import { drawn } from '../support/whole';
import { harness, reportOf, send, statusOf, until } from '../workflows/harness';

const KEYS = Array.from({ length: 40 }, (_, n) => n + 1);

interface Readers {
  readonly errors: string[];
  /** Which database answered each key last. */
  readonly last: Map<number, string>;
  stop(): Promise<void>;
}

function startReaders(router: Router): Readers {
  const errors: string[] = [];
  const last = new Map<number, string>();
  let over = false;
  const run = async (): Promise<void> => {
    for (let n = 0; !over; n += 1) {
      const key = KEYS[n % KEYS.length] ?? 1;
      try {
        const { rows } = await router.for(key).read<{ db: string }>('SELECT current_database() AS db');
        last.set(key, rows[0]?.db ?? '');
      } catch (error) {
        errors.push(error instanceof Error ? error.message : String(error));
      }
      await sleep(5);
    }
  };
  const running = run();
  return { errors, last, stop: () => ((over = true), running) };
}

async function soon(what: () => boolean | Promise<boolean>, said: string, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await what())) {
    if (performance.now() > end) throw new Error(`never: ${said}`);
    await sleep(50);
  }
}

const percents = (world: PairWorld): Promise<unknown[]> =>
  Promise.all(
    [world.blue, world.green].map(
      async (one) =>
        (await one.query(`SELECT details->'share'->'percent' AS percent FROM pgshift.routes`))[0]?.['percent'],
    ),
  );

const STAGES = [
  { name: 'alpha', percent: 50, duration: '0s', analysis: ['orders'], gate: 'manual' },
  { name: 'production', percent: 100, duration: '0s', analysis: ['orders'] },
];

test.each(drawn<Side>(['green', 'blue']))(
  '%s dies while people are over',
  async (victim) => {
    const servers = await startPairServers([victim]);
    const own = servers[victim];
    if (!own) throw new Error('no server of its own');
    const world = await pairWorld(undefined, [18, 18], { own: { [victim]: (sql: string) => own.database(sql) } });
    const h = await harness(undefined, {}, world.databases);
    const orders = { source: 'sql', query: 'SELECT count(*) FROM orders', failWhen: 'green < blue', interval: '300ms' };
    const router = world.router();
    await router.ready();
    const ledger = startWriters(router, 4, 20);
    const readers = startReaders(router);
    const onGreen = (): number => [...readers.last.values()].filter((db) => db === world.green.name).length;
    try {
      const plan = {
        kind: 'canary',
        routing: { moves: 'reads' },
        analyses: { orders: { ...orders, consecutiveErrorLimit: 1_000 } },
        stages: STAGES,
        monitor: { duration: '0s' },
      };
      const handle = await h.client.workflow.start('canary', {
        workflowId: `test/${h.database.name}`,
        taskQueue: h.taskQueue,
        args: [world.plan(plan)],
      });
      await until(handle, ({ waitingFor }) => waitingFor?.gate === 'alpha', 90_000);
      await soon(() => onGreen() > 5, 'reads are over');
      const over = onGreen();

      await own.kill();
      readers.last.clear();
      await sleep(2_500);
      // Nobody is told anything: whoever can be asked answers.
      if (victim === 'green') {
        expect(onGreen()).toBe(0);
        expect(readers.last.size).toBe(KEYS.length);
        expect(readers.errors).toEqual([]);
      }
      await own.start();
      await soon(async () => (await percents(world)).every((percent) => percent === 50), 'the share as it was');
      await soon(() => onGreen() >= over, 'reads are over again');
      expect(await statusOf(handle)).toMatchObject({
        phase: 'alpha',
        writableSide: 'blue',
        waitingFor: { gate: 'alpha' },
      });
      if (victim === 'green') expect(ledger.errors).toEqual([]);

      await send(handle, 'approve', { by: 'ann', gate: 'alpha' });
      await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 90_000);
      const { stages, writableSide } = await reportOf(handle);
      expect(writableSide).toBe('green');
      expect(stages?.map(({ name, verdict }) => [name, verdict])).toEqual([
        ['alpha', 'passed'],
        ['production', 'passed'],
      ]);
      await send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
      await expect(handle.result()).resolves.toMatchObject({ status: 'completed' });
      await Promise.all([ledger.stop(), readers.stop()]);
      expect(await missing(ledger, world.green)).toEqual([]);
    } finally {
      void ledger.stop();
      void readers.stop();
      await h.close();
      await world.drop();
      await servers.stop();
    }
  },
  240_000,
);
