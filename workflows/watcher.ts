/**
 * Health beside the phases: one heartbeat activity reads every condition that holds in the present phase and returns on a verdict or hourly. It runs
 * also while a gate or a pause waits. What failed for good takes the change back or pauses it; what is not known holds it back.
 */
import { CancellationScope, condition, isCancellation } from '@temporalio/workflow';
import type { PairPlaces, WatchResult } from '../activities/types';
import { judgedNow } from '../plan/model/canary';
import type { ErrorCode } from '../plan/model/errors';
import type { ConditionState, Watched } from '../plan/model/health';
import { PERFORMANCE, exhausted, holdsBack, watchedIn } from '../plan/model/health';
import type { MetricGate } from '../plan/model/plan';
import { settle } from '../plan/model/messages';
import { Back, causeOf, failed } from './failure';
import { interruptible } from './interruptible';
import type { WaitingFor } from '../plan/model/status';
import type { Run } from './run';
import { nowIso } from './run';
import { inStage, noteTripped } from './stageReport';

const EVENTS_MAX = 100;
/** Below this the baseline would cost more than the change. */
const PERFORMANCE_MIN_SECONDS = 30;

/** Of a pair: where `blue` and `green` of a condition are read. */
export function sidesOf({ state: { pair } }: Run): PairPlaces {
  if (!pair) return {};
  const { blue, green, traffic } = pair.control;
  const routes = traffic.flatMap((one) => (one.type === 'router' ? [{ route: one.route, sides: one.sides }] : []));
  return { sides: { blue, green }, routes };
}

/** What a run may have to judge at any time. */
export function everyCondition(run: Run): readonly Watched[] {
  const own = conditionsOf(run);
  const of = (run.state.canary?.control.stages ?? []).flatMap(({ analysis }) => analysis);
  const later = of.filter((c, i) => of.findIndex(({ name }) => name === c.name) === i);
  return [...own, ...later.filter(({ name }) => !own.some((c) => c.name === name))];
}

/** The plan's conditions, those of the stage that is judged, and the built-in one, unless the plan has its own of that name or the change is quick. */
export function conditionsOf(run: Run): readonly Watched[] {
  const { control, facts } = run.state;
  const own: readonly Watched[] = [...(control?.health ?? []), ...judgedNow(run.state.canary)];
  const heavy = (facts?.estimate.seconds[1] ?? 0) >= PERFORMANCE_MIN_SECONDS;
  return heavy && !own.some((c) => c.name === PERFORMANCE.name) ? [...own, PERFORMANCE] : own;
}

/** The throughput of others says something about us only while we work. */
const idle = (run: Run): boolean => run.state.status === 'waiting' || run.state.status === 'paused';

const watchedNow = (run: Run): readonly Watched[] =>
  conditionsOf(run).filter(
    (c) =>
      watchedIn(c, run.state.phase) &&
      !exhausted(c, run.state.conditions[c.name]) &&
      !(c.source === 'throughput' && idle(run)),
  );

const keyOf = (conditions: readonly Watched[]): string => conditions.map((c) => c.name).join('\n');
const over = (run: Run): boolean => run.settled || run.draining;

function take(run: Run, result: WatchResult): void {
  const s = run.state;
  s.conditions = { ...s.conditions, ...result.states };
  s.health = [...s.health, ...result.events].slice(-EVENTS_MAX);
}

function act(run: Run, condition: Watched, state: ConditionState | undefined): void {
  const value = state?.value ?? null;
  const shown = value === null ? '' : ` (value ${Number(value.toPrecision(6))})`;
  const rule = `${condition.failWhen ?? `not ${condition.successWhen ?? ''}`}${shown}`;
  const said = `${inStage(run.state)}${condition.name}: ${state?.last === 'error' ? `could not be read ${state.errorsInARow} times in a row` : rule}`;
  noteTripped(run, condition, state);
  // Judged anew after a person looked at it.
  delete run.state.conditions[condition.name];
  if (condition.onFail === 'pause') run.state.unwell = said;
  else run.tripped = causeOf('HealthFailed', said);
}

/** Runs until the run is settled. */
export async function watchHealth(run: Run): Promise<void> {
  for (;;) {
    await condition(() => over(run) || (run.state.unwell === null && watchedNow(run).length > 0));
    if (over(run)) return;
    await watchOnce(run, watchedNow(run));
    run.show();
  }
}

async function watchOnce(run: Run, conditions: readonly Watched[]): Promise<void> {
  const s = run.state;
  const key = keyOf(conditions);
  const scope = new CancellationScope();
  run.watching = true;
  const { looks } = run;
  const ended = condition(
    () => !run.watching || over(run) || run.looks !== looks || keyOf(watchedNow(run)) !== key,
  ).then(() => scope.cancel());
  try {
    const result = await scope.run(() =>
      run.ask(
        'watch',
        {
          database: s.database,
          migration: s.name,
          purpose: 'health',
          conditions,
          states: s.conditions,
          baselines: s.baselines,
          maxMs: s.settings.watchMs,
          ...sidesOf(run),
        },
        `watch ${conditions.map((c) => c.name).join(', ')}`,
      ),
    );
    take(run, result);
    const failing = result.verdict === 'tripped' ? conditions.find((c) => c.name === result.name) : undefined;
    if (failing && !over(run)) act(run, failing, result.states[failing.name]);
  } catch (error) {
    if (!isCancellation(error)) {
      // The watch itself cannot run: unknown is never a pass.
      const problem = failed(error);
      if (!over(run))
        run.tripped = causeOf('HealthFailed', `health cannot be watched: ${problem.code}: ${problem.message}`);
    }
  } finally {
    run.watching = false;
    run.looked = run.looks;
    await ended;
  }
}

/** Until the watch has told what it has seen so far. */
export async function lookNow(run: Run): Promise<void> {
  if (!run.watching) return;
  run.looks += 1;
  const mine = run.looks;
  await condition(() => run.looked >= mine || over(run) || run.wantsBack() !== null);
  await run.clear();
}

/** Before what cannot be taken back easily: every condition that holds back must be known to be well. @throws Back. */
export async function untilSure(run: Run): Promise<void> {
  const unsure = (): readonly string[] =>
    watchedNow(run)
      .filter((c) => holdsBack(c, run.state.conditions[c.name]))
      .map((c) => c.name);
  if (unsure().length === 0) return;
  const reason = `not known to be well: ${unsure().join(', ')}`;
  await waitForHealth(run, { reason, evidence: {}, commands: [] }, () => unsure().length === 0);
}

/** Until what was not known is known, or a person answered. */
export async function waitForHealth(
  run: Run,
  shown: Pick<WaitingFor, 'reason' | 'evidence' | 'commands'>,
  until: () => boolean,
): Promise<void> {
  await run.wait({
    status: 'waiting',
    waiting: { type: 'health', gate: null, since: nowIso(), until: null, ...shown },
    until,
  });
  run.show('running');
}

/** Waits until every metric gate opens by itself. @throws Back when one fails for good. */
export async function metricGate(run: Run, name: string, gates: readonly MetricGate[]): Promise<void> {
  const s = run.state;
  const conditions: Watched[] = gates.map(({ type: _, ...condition }) => condition);
  s.waiting = {
    type: 'gate',
    gate: name,
    since: s.opened[name] ?? nowIso(),
    until: null,
    reason: `${name} waits for ${conditions.map((c) => c.name).join(', ')}`,
    evidence: {},
    commands: [],
  };
  s.opened[name] = s.waiting.since;
  run.show('waiting');
  try {
    for (;;) {
      const result = await interruptible(
        run,
        () =>
          run.ask(
            'watch',
            {
              database: s.database,
              migration: s.name,
              purpose: 'gate',
              conditions,
              states: s.conditions,
              baselines: s.baselines,
              maxMs: s.settings.watchMs,
              ...sidesOf(run),
            },
            `gate ${name}: ${conditions.map((c) => c.name).join(', ')}`,
          ),
        null,
        false,
      );
      if (result === 'closed') continue;
      take(run, result);
      if (result.verdict === 'opened') break;
      if (result.verdict === 'tripped') {
        const code: ErrorCode = 'HealthFailed';
        const failing = conditions.find((c) => c.name === result.name);
        if (failing?.onFail === 'rollback') throw new Back(causeOf(code, `gate ${name}: ${result.name ?? ''} failed`));
        if (failing) act(run, failing, result.states[failing.name]);
      }
      if (run.mustContinue()) await run.renew();
    }
    s.inbox = settle(s.inbox, name, 'opened', nowIso(), 'its conditions hold');
  } finally {
    s.waiting = null;
  }
}
