/** For tests of postgres/: a database with schema pgshift and a claimed migration, and steps made of one run. */
import type { Step, StepRun } from '../../plan/model/steps';
import { runStep, undoStep } from '../../postgres/engine';
import { withSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { claimName } from '../../postgres/state/migrations';
import type { StepContext, StepOptions, StepOutcome, StepProgress, ThrottleLimits } from '../../postgres/types';
import { target } from '../../postgres/types';
import type { FreshDatabase, ServerVersion } from './database';
import { freshDatabase } from './database';

export const MIGRATION = 'm1';

/** Every brake off, batches as by default. */
export const NO_BRAKES: ThrottleLimits = {
  maxReplicationLagMs: null,
  maxReplicationLagBytes: null,
  maxLockWaitMs: null,
  maxWalBytesPerSecond: null,
  maxArchiveBacklog: null,
  waitForAutovacuum: false,
  appP95: null,
  batchTargetMs: 500,
  batchMin: 100,
  batchMax: 100_000,
  parallel: 1,
  everyMs: 1_000,
};

export const OPTIONS: StepOptions = {
  lockTimeoutMs: 200,
  lockBudgetMs: 60_000,
  throttle: null,
  searchPath: ['public'],
};

export async function engineDatabase(version: ServerVersion, setup: string): Promise<FreshDatabase> {
  const database = await freshDatabase(version, setup);
  await withSession(target('app', database.url), { purpose: 'test' }, async (session) => {
    await install(session);
    await claimName(session, {
      name: MIGRATION,
      kind: 'schema-migration',
      checksum: 'x',
      dependencies: [],
      workflowId: 'w1',
      runId: 'r1',
      appliedBy: null,
    });
  });
  return database;
}

/** A step of one run. */
export const stepOf = (run: StepRun, undo: readonly StepRun[] = [], id = 'expand.1'): Step => ({
  id,
  phase: 'expand',
  action: 'test',
  title: 'a step of a test',
  statement: '',
  from: null,
  transactional: true,
  locks: [],
  work: 'metadata',
  estimate: { seconds: [0, 0], bytes: [0, 0], rows: null },
  risk: { dataLoss: 'low', downtime: 'low', performance: 'low', rollback: 'low' },
  wayBack: null,
  because: null,
  run,
  undo,
});

export interface Running {
  readonly context: StepContext;
  readonly progress: StepProgress[];
  readonly abort: () => void;
}

export function running(
  database: FreshDatabase,
  step: Step,
  options: Partial<StepOptions> = {},
  url?: string,
): Running {
  const abort = new AbortController();
  const progress: StepProgress[] = [];
  const context: StepContext = {
    target: target('app', url ?? database.url),
    migration: MIGRATION,
    workflowId: 'w1',
    step,
    options: { ...OPTIONS, ...options },
    signal: abort.signal,
    progress: (one) => void progress.push(one),
    log: () => undefined,
  };
  return { context, progress, abort: () => abort.abort() };
}

export const doStep = (database: FreshDatabase, step: Step, options: Partial<StepOptions> = {}): Promise<StepOutcome> =>
  runStep(running(database, step, options).context);

export const takeBack = (
  database: FreshDatabase,
  step: Step,
  options: Partial<StepOptions> = {},
): Promise<StepOutcome> => undoStep(running(database, step, options).context);

/** The code of the Problem that a promise ends with, or 'none'. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    const { code, name } = error as { code?: unknown; name?: string };
    return typeof code === 'string' ? code : (name ?? 'unknown');
  }
}

export const until = async (condition: () => Promise<boolean>, ms = 10_000): Promise<void> => {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error('it did not come true in time');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
