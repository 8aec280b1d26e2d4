/**
 * Phase compare: every table by ranges, several at once, the largest first. Keeps true: what is done stays done over any crash; a table that cannot
 * be compared (a privilege, a cast of the plan that fails) is an error of that table and stops no other.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Problem } from '../../plan/model/errors';
import { isProblem } from '../../plan/model/errors';
import type { Attempt } from '../fence';
import { fenceBroken, finishAttempt } from '../fence';
import type { Session } from '../session';
import { checkSignal } from '../work';
import { bucketLane, walkBuckets } from './buckets';
import type { VerifyContext } from './context';
import type { VerifyLane } from './lanes';
import { commitLane, insertLanes, readLanes } from './lanes';
import type { Pair } from './pairs';
import type { Phase } from './prepared';
import { withPhase } from './prepared';
import type { SessionPair } from './session';
import { closePair, openPair } from './session';
import { walkLane, walkLanes } from './walk';

/** A table's lanes: made when its turn comes. */
interface Job {
  readonly pair: Pair;
  readonly lane: VerifyLane | null;
}

interface Comparing {
  readonly context: VerifyContext;
  readonly state: Session;
  readonly attempt: Attempt;
  readonly jobs: Job[];
  readonly counted: Map<string, { rows: number }>;
  readonly meter: Meter;
  /** Workers that are making a table's lanes just now. */
  dividing: number;
}

const DIVIDING_MS = 5;

/** Rows so far, for people. Rates are of this attempt. */
class Meter {
  tablesDone = 0;
  rows = 0;
  candidates = 0;
  private readonly began = performance.now();
  private here = 0;

  constructor(
    private readonly context: VerifyContext,
    private readonly tables: number,
    private readonly rowsTotal: number,
  ) {}

  add(table: string, rows: number): void {
    this.rows += rows;
    this.here += rows;
    const seconds = Math.max(0.001, (performance.now() - this.began) / 1_000);
    const rate = Math.round(this.here / seconds);
    const left = Math.max(0, this.rowsTotal - this.rows);
    this.context.progress({
      phase: 'compare',
      table,
      tablesDone: this.tablesDone,
      tables: this.tables,
      rowsDone: this.rows,
      rowsTotal: Math.max(this.rowsTotal, this.rows),
      rowsPerSecond: rate,
      etaSeconds: rate > 0 ? Math.ceil(left / rate) : null,
      candidates: this.candidates,
    });
  }
}

/** Compares every table; done before = nothing is done. @throws Problem FenceBroken, Unreachable, SameDatabase, NoSuchObject. */
export async function compareTables(context: VerifyContext): Promise<void> {
  await withPhase(context, 'compare', (phase) => comparePhase(context, phase));
}

async function comparePhase(context: VerifyContext, phase: Phase): Promise<void> {
  const { pairs, state, attempt, findings } = phase;
  const lanes = await readLanes(state, attempt);
  const largestFirst = [...pairs].sort((a, b) => b.source.bytes - a.source.bytes);
  const wanted = context.plan.checks.includes('rows') ? largestFirst : [];
  const total = wanted.reduce((sum, pair) => sum + Math.max(0, pair.source.rows), 0);
  const comparing: Comparing = {
    context,
    state,
    attempt,
    jobs: wanted.flatMap((pair): Job[] => {
      const found = lanes.get(pair.targetLabel);
      return found ? found.filter((lane) => !lane.done).map((lane) => ({ pair, lane })) : [{ pair, lane: null }];
    }),
    counted: new Map(),
    meter: new Meter(context, wanted.length, total),
    dividing: 0,
  };
  for (const [scope, list] of lanes) {
    const rows = list.reduce((sum, lane) => sum + lane.candidates, 0);
    comparing.counted.set(scope, { rows });
    comparing.meter.rows += list.reduce((sum, lane) => sum + lane.sourceRows, 0);
    comparing.meter.candidates += rows;
  }
  comparing.meter.tablesDone = wanted.length - new Set(comparing.jobs.map(({ pair }) => pair.targetLabel)).size;
  await allWorkers(comparing, phase.sessions);
  const done = { findings, tables: pairs.length };
  if (!(await finishAttempt(state, attempt, { status: 'done', rows: comparing.meter.rows, result: done })))
    throw fenceBroken(attempt);
}

/** The first failure stops the others at their next range, and all are waited for. */
async function allWorkers(comparing: Comparing, first: SessionPair): Promise<void> {
  const { context } = comparing;
  let failed = false;
  const guard = (run: Promise<void>): Promise<void> =>
    run.catch((error: unknown) => {
      failed = true;
      throw error;
    });
  const stopped = (): boolean => failed;
  const others = Array.from({ length: context.plan.parallel - 1 }, () => guard(otherWorker(comparing, stopped)));
  const results = await Promise.allSettled([guard(work(comparing, first, stopped)), ...others]);
  const bad = results.find((result) => result.status === 'rejected');
  if (bad) throw bad.reason;
}

async function otherWorker(comparing: Comparing, stopped: () => boolean): Promise<void> {
  if (comparing.jobs.length === 0) return;
  const { source, target, plan } = comparing.context;
  const sessions = await openPair(source, target, plan.name, 'compare');
  try {
    await work(comparing, sessions, stopped);
  } finally {
    await closePair(sessions);
  }
}

async function work(comparing: Comparing, sessions: SessionPair, stopped: () => boolean): Promise<void> {
  for (;;) {
    checkSignal(comparing.context.signal);
    const job = comparing.jobs.shift();
    if (stopped() || (!job && comparing.dividing === 0)) return;
    if (!job) {
      // Another one is dividing a table: some of it will be ours.
      await sleep(DIVIDING_MS);
      continue;
    }
    const lane = job.lane ?? (await makeLanes(comparing, sessions, job.pair));
    await compareLane(comparing, sessions, job.pair, lane);
    if (!comparing.jobs.some(({ pair }) => pair === job.pair)) comparing.meter.tablesDone += 1;
    comparing.meter.add(job.pair.label, 0);
  }
}

/** Makes them, leaves all but the first in the queue for whoever is free. */
async function makeLanes(comparing: Comparing, sessions: SessionPair, pair: Pair): Promise<VerifyLane> {
  const { context, state, attempt } = comparing;
  comparing.dividing += 1;
  try {
    const lanes = pair.key?.walk
      ? await walkLanes(sessions.source, pair, pair.key, context.plan.parallel).catch((error: unknown) => {
          if (!isOfThisTable(error) || sessions.source.lost) throw error;
          // Undivided it will say the same, and there it is told as this table's error.
          return [bucketLane(pair)];
        })
      : [bucketLane(pair)];
    await insertLanes(state, attempt, pair, lanes);
    const [first = bucketLane(pair), ...rest] = lanes;
    comparing.jobs.unshift(...rest.map((lane) => ({ pair, lane })));
    return first;
  } finally {
    comparing.dividing -= 1;
  }
}

async function compareLane(comparing: Comparing, sessions: SessionPair, pair: Pair, lane: VerifyLane): Promise<void> {
  const { context, state, attempt, meter } = comparing;
  const counted = comparing.counted.get(pair.targetLabel) ?? { rows: 0 };
  comparing.counted.set(pair.targetLabel, counted);
  let before = lane.candidates;
  const onRange = (at: VerifyLane, rows: number): void => {
    meter.candidates += at.candidates - before;
    before = at.candidates;
    meter.add(pair.label, rows);
  };
  try {
    const common = { sessions, state, attempt, pair, signal: context.signal, onRange };
    if (pair.key?.walk) await walkLane({ ...common, key: pair.key, counted }, lane);
    else {
      const scope = { migration: context.plan.name, scope: pair.targetLabel };
      // Sums so far are read for the one table whose turn it is.
      const [saved = lane] = (await readLanes(state, scope)).get(pair.targetLabel) ?? [];
      await walkBuckets(common, saved);
    }
  } catch (error) {
    if (!isOfThisTable(error) || sessions.source.lost || sessions.target.lost || state.lost) throw error;
    lane.error = `${error.code}: ${error.message}`;
    lane.done = true;
    context.log('warn', `${pair.label} cannot be compared: ${error.message}`, { code: error.code });
    await commitLane(state, attempt, lane, []);
  }
}

const OF_THE_RUN: readonly string[] = [
  'FenceBroken',
  'Unreachable',
  'ServerRestarting',
  'DiskFull',
  'Bug',
  'LoginFailed',
];

const isOfThisTable = (error: unknown): error is Problem => isProblem(error) && !OF_THE_RUN.includes(error.code);
