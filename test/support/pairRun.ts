/** Runs of `blueGreen` with worker processes that die at crash points, under writers: which must end as if nobody had died. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import type { WorkflowHandle } from '@temporalio/client';
import type { Report, Status } from '../../plan/model/status';
import type { PairWorld } from './blueGreen';
import { missing, pairWorld, startWriters } from './blueGreen';
import type { ServerVersion } from './database';
import { temporalAddress } from './temporal';
import type { WorkerProcess } from './workerProcess';
import { startWorkerProcess } from './workerProcess';

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

export interface PairCase {
  readonly kills: readonly string[];
  /** Ends in the hold and then completes, or goes back from there. */
  readonly end: 'complete' | 'roll back';
  readonly versions?: readonly [ServerVersion, ServerVersion];
  readonly plan?: Readonly<Record<string, unknown>>;
}

export interface PairEnd {
  readonly report: Report;
  readonly missing: readonly string[];
  readonly errors: readonly string[];
  readonly acknowledged: number;
  readonly left: readonly string[];
}

const STEP_MS = 120_000;

async function seen(handle: WorkflowHandle): Promise<Status | null> {
  return handle.query<Status>('status').catch(() => null); // no worker just now: that is what these tests are about
}

/** One run from its start to its end; each kill is one worker that dies there, and the next one goes on. Throws when a kill never happens. */
export async function runPair({ kills, end, versions = [18, 18], plan = {} }: PairCase): Promise<PairEnd> {
  const world: PairWorld = await pairWorld(undefined, versions);
  const connection = await Connection.connect({ address: temporalAddress() });
  const taskQueue = `pair-${randomBytes(4).toString('hex')}`;
  const workers = new Set<WorkerProcess>();
  const start = (kill: string | undefined): WorkerProcess => {
    const mark = join(mkdtempSync(join(tmpdir(), 'pgshift-kill-')), 'mark');
    const worker = startWorkerProcess({
      taskQueue,
      temporalAddress: temporalAddress(),
      databases: world.databases,
      env: { PGSHIFT_HEARTBEAT_MS: '3000', ...(kill ? { PGSHIFT_CRASH_AT: kill, PGSHIFT_CRASH_MARK: mark } : {}) },
    });
    workers.add(worker);
    return worker;
  };
  try {
    const router = world.router();
    await router.ready();
    const ledger = startWriters(router, 4, 20);
    const handle = await new Client({ connection }).workflow.start('blueGreen', {
      workflowId: `migration/blue/${taskQueue}`,
      taskQueue,
      args: [world.plan({ name: taskQueue, sync: { parallel: { rangeSize: '1MB' } }, ...plan })],
    });
    let over: string | null = null;
    const ended = handle.result().then(
      () => (over = 'completed'),
      (error: unknown) => (over = String((error as { cause?: { type?: string } }).cause?.type ?? error)),
    );
    const waiting = [...kills];
    let worker = start(waiting[0]);
    let asked = false;
    for (const until = Date.now() + STEP_MS * (kills.length + 1); over === null;) {
      if (Date.now() > until)
        throw new Error(`it did not end; last: ${JSON.stringify(await seen(handle))}\n${worker.log().slice(-2_000)}`);
      const gone = await Promise.race([worker.exited, ended.then(() => null), sleep(150).then(() => undefined)]);
      if (gone) {
        if (gone.signal !== 'SIGKILL') throw new Error(`the worker ended by itself:\n${worker.log().slice(-3_000)}`);
        waiting.shift();
        worker = start(waiting[0]);
      }
      // A query waits for a worker: the one that died is replaced first.
      const status = await Promise.race([seen(handle), worker.exited.then(() => null)]);
      if (status?.status !== 'holding' || status.phase !== 'hold' || asked) continue;
      // Kills of the way back come after this.
      if (waiting.length > 0 && end === 'complete')
        throw new Error(`held before the worker could die at ${waiting.join(', ')}`);
      if (end === 'complete') await handle.signal('approve', { by: 'ann', gate: 'cleanup' });
      else await handle.signal('rollback', { by: 'ann' });
      asked = true;
    }
    if (waiting.length > 0) throw new Error(`ended (${over}) before the worker could die at ${waiting.join(', ')}`);
    await sleep(200);
    await ledger.stop();
    if (over !== (end === 'complete' ? 'completed' : 'RolledBack'))
      throw new Error(`ended as ${over}\n${worker.log().slice(-3_000)}`);
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
    for (const worker of workers) await worker.stop();
    await connection.close();
    await world.drop();
  }
}
