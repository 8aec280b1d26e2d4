/**
 * The watch of health and of metric gates: ONE activity that reads every condition at its interval and returns on a verdict, when what is unknown
 * changed, or after an hour. Its state goes into the heartbeat, so that a worker that dies forgets no failure.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConditionState, HealthEvent, Watched } from '../plan/model/health';
import { exhausted, freshCondition, holdsBack, intervalMs, judge, median, opened, tripped } from '../plan/model/health';
import { parseDuration } from '../plan/model/values';
import { meaningful } from '../postgres/throughput';
import type { Tools } from './context';
import { memoryOf } from './readingMemory';
import type { ReadingMemory } from './readings';
import { baselineSpacingMs, lifelong, read } from './readings';
import type { PairPlaces, Subject, WatchArgs, WatchResult } from './types';

type States = Record<string, ConditionState>;

interface Beat {
  readonly states: States;
  readonly unwell: readonly string[];
}

const isBeat = (beat: unknown): beat is Beat => typeof beat === 'object' && beat !== null && 'states' in beat;

/** Sleeps until `atMs`; an abort ends it with its error. */
async function until(atMs: number, signal: AbortSignal): Promise<void> {
  const ms = atMs - Date.now();
  if (ms > 0) await sleep(ms, undefined, { signal });
  signal.throwIfAborted();
}

/** It is told, and nothing else is done. */
const onlyTold = (c: Watched): boolean => c.dryRun || c.onFail === 'alert';

/** What the run must hear of when it changes: what is not known, what is to be told, and what has been read often enough. */
const signOf = (conditions: readonly Watched[], states: States): string =>
  conditions
    .flatMap((c) => [
      ...((onlyTold(c) ? states[c.name]?.last === 'failed' : holdsBack(c, states[c.name])) ? [c.name] : []),
      ...(exhausted(c, states[c.name]) ? [`${c.name}: enough`] : []),
    ])
    .join('\n');

export async function watch(args: WatchArgs, tools: Tools): Promise<WatchResult> {
  const { conditions, purpose } = args;
  const states: States = { ...args.states, ...(isBeat(tools.lastBeat) ? tools.lastBeat.states : {}) };
  const memory = new Map<string, ReadingMemory>(conditions.map((c) => [c.name, memoryOf(tools.workflowId, c)]));
  const events: HealthEvent[] = [];
  const began = Date.now();
  const next = new Map(conditions.map((c) => [c.name, began + firstDelay(c, states[c.name])]));
  const before = signOf(conditions, states);
  const answer = (verdict: WatchResult['verdict'], name: string | null = null): WatchResult => {
    const mine = Object.fromEntries(
      conditions.flatMap((c) => (states[c.name] ? [[c.name, states[c.name]]] : [])),
    ) as States;
    return { states: mine, events: events.slice(-20), verdict, name };
  };
  try {
    for (;;) {
      const live = conditions.filter((c) => purpose === 'gate' || !exhausted(c, states[c.name]));
      const due = live.reduce<Watched | null>((a, c) => (a && at(next, a) <= at(next, c) ? a : c), null);
      const stop = began + args.maxMs;
      if (!due || at(next, due) > stop) {
        await until(stop, tools.signal);
        return answer('later');
      }
      await until(at(next, due), tools.signal);
      const old = states[due.name] ?? (args.sides === undefined ? freshCondition : { ...freshCondition, points: [] });
      const reading = await read(due, args, tools.deps, memory.get(due.name) ?? { brakes: {} });
      const state = judge(due, old, reading, args.baselines[due.name] ?? null, new Date().toISOString());
      states[due.name] = state;
      next.set(due.name, Date.now() + intervalMs(due));
      tools.beat({
        states,
        unwell: live.filter((c) => states[c.name]?.last !== 'passed').map((c) => c.name),
      } satisfies Beat);
      if (state.last !== old.last && state.at)
        events.push({ name: due.name, verdict: state.last ?? '', at: state.at, value: state.value });
      if (tripped(due, state) !== null && !onlyTold(due)) return answer('tripped', due.name);
      if (purpose === 'gate' && conditions.every((c) => opened(c, states[c.name] ?? freshCondition)))
        return answer('opened');
      if (purpose === 'health' && signOf(conditions, states) !== before) return answer('changed');
    }
  } catch (error) {
    // Asked to stop (the phase changes, the run continues as new): what was counted is not lost.
    if (
      tools.signal.aborted &&
      !(tools.signal.reason instanceof Error && /WORKER_SHUTDOWN/.test(tools.signal.reason.message))
    )
      return answer('later');
    throw error;
  }
}

const at = (next: ReadonlyMap<string, number>, condition: Watched): number => next.get(condition.name) ?? 0;

/** A condition that was read before waits out its interval; a new one its delay. */
function firstDelay(condition: Watched, state: ConditionState | undefined): number {
  if (!state?.at) return parseDuration(condition.initialDelay) ?? 0;
  return Math.max(0, Date.parse(state.at) + intervalMs(condition) - Date.now());
}

const READINGS = 5;
const isRate = (c: Watched): boolean => ['throughput', 'latency', 'router'].includes(c.source);

/** The median of five readings of each condition before the first step; null where fewer than three could be had. */
export async function baseline(
  args: Subject & { readonly conditions: readonly Watched[]; readonly appP95: boolean } & PairPlaces,
  tools: Tools,
): Promise<Record<string, number | null>> {
  const one = async (condition: Watched): Promise<[string, number | null]> => {
    const whole = await lifelong(condition, args, tools.deps);
    if (whole !== undefined) return [condition.name, whole];
    const memory: ReadingMemory = { brakes: {} };
    const values: (number | null)[] = [];
    // A rate needs one reading more than it gives.
    const rounds = isRate(condition) ? READINGS + 1 : READINGS;
    for (let i = 0; i < rounds; i += 1) {
      if (i > 0) await sleep(baselineSpacingMs(condition), undefined, { signal: tools.signal });
      // Of two sides the baseline is the old one's: nobody is on the new one yet.
      const reading = await read(condition, args, tools.deps, memory);
      const value = reading.blue === undefined ? reading.value : reading.blue;
      values.push(condition.source === 'throughput' ? meaningful(value) : value);
    }
    return [condition.name, median(values)];
  };
  const measured = await Promise.all([...args.conditions, ...(args.appP95 ? [APP_P95] : [])].map(one));
  return Object.fromEntries(measured);
}

/** What the brake appP95 compares with. */
const APP_P95: Watched = {
  name: 'appP95',
  source: 'latency',
  successWhen: 'value >= 0',
  interval: '1s',
  initialDelay: '0s',
  failureLimit: 0,
  consecutiveErrorLimit: 4,
  onFail: 'alert',
  onInconclusive: 'ignore',
  dryRun: false,
};
