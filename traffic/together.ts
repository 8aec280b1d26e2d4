/**
 * Several adapters as one. Keeps true: all are paused or none is (one that fails makes the others go on); nobody goes on before everybody
 * leads to the same side; what is taken back is taken back everywhere, also when one of them cannot be reached.
 */
import type { Side } from '../plan/model/traffic';
import { failed } from './deadline';
import type { ShareAsked, ShareHeard, TrafficAdapter, TrafficCall, TrafficState } from './types';

export interface TogetherState extends TrafficState {
  /** By adapter's name; null = it could not be asked. */
  readonly each: Readonly<Record<string, TrafficState | null>>;
}

export interface Together extends Omit<
  TrafficAdapter,
  'type' | 'status' | 'pause' | 'point' | 'resume' | 'undo' | 'share' | 'keepFresh'
> {
  status(call: TrafficCall): Promise<TogetherState>;
  pause(call: TrafficCall): Promise<TogetherState>;
  point(side: Side, call: TrafficCall): Promise<TogetherState>;
  resume(call: TrafficCall): Promise<TogetherState>;
  undo(side: Side, call: TrafficCall): Promise<TogetherState>;
  share(asked: ShareAsked, call: TrafficCall): Promise<ShareHeard>;
  keepFresh(ms: number, call: TrafficCall): Promise<void>;
}

export function together(adapters: readonly TrafficAdapter[]): Together {
  const name = adapters.map((one) => one.name).join(', ');
  /** Each adapter's own idempotency key: two of one type must not be taken for each other. */
  const own = (call: TrafficCall, index: number): TrafficCall => ({
    ...call,
    idempotencyKey: `${call.idempotencyKey}/${index}`,
  });
  const tried = async (work: (one: TrafficAdapter, call: TrafficCall) => Promise<TrafficState>, call: TrafficCall) =>
    Promise.allSettled(adapters.map(async (one, index) => work(one, own(call, index))));
  const whole = (states: readonly (TrafficState | null)[]): TogetherState => {
    const [first] = states;
    const target = states.every((one) => one !== null && one.target === first?.target) ? (first?.target ?? null) : null;
    const said = adapters.flatMap((one, i) => {
      const state = states[i];
      const because = state ? state.because : 'it could not be asked';
      return because ? [`${one.name}: ${because}`] : [];
    });
    return {
      target,
      paused: states.every((one) => one?.paused === true),
      drained: states.every((one) => one?.drained === true),
      because: said.length > 0 ? said.join('; ') : null,
      each: Object.fromEntries(adapters.map((one, i) => [one.name, states[i] ?? null])),
    };
  };
  const must = (done: readonly PromiseSettledResult<TrafficState>[]): TogetherState => {
    const bad = done.find((one) => one.status === 'rejected');
    if (bad) throw bad.reason;
    return whole(done.map((one) => (one.status === 'fulfilled' ? one.value : null)));
  };

  return {
    name,
    check: async (call) => (await Promise.all(adapters.map((one, index) => one.check(own(call, index))))).flat(),
    async status(call) {
      const done = await tried((one, mine) => one.status(mine), call);
      return whole(done.map((one) => (one.status === 'fulfilled' ? one.value : null)));
    },
    async pause(call) {
      const before = await tried((one, mine) => one.status(mine), call);
      const done = await tried((one, mine) => one.pause(mine), call);
      const bad = done.find((one) => one.status === 'rejected');
      if (!bad) return must(done);
      // The one that failed has taken its own pause back.
      const goOn = { ...call, signal: new AbortController().signal, deadlineMs: Math.max(call.deadlineMs, 5_000) };
      await tried(async (one, mine) => {
        const index = adapters.indexOf(one);
        const was = before[index];
        const target = was?.status === 'fulfilled' ? was.value.target : null;
        if (done[index]?.status === 'rejected') throw failed(one.name, 'failed before');
        return target === null ? one.resume(mine) : one.undo(target, mine);
      }, goOn);
      throw bad.reason;
    },
    async point(side, call) {
      const state = must(await tried((one, mine) => one.point(side, mine), call));
      if (state.target !== side) throw failed(name, state.because ?? `not everybody leads to ${side}`);
      return state;
    },
    async resume(call) {
      const before = must(await tried((one, mine) => one.status(mine), call));
      if (before.target === null) throw failed(name, before.because ?? 'not everybody leads to the same side');
      return must(await tried((one, mine) => one.resume(mine), call));
    },
    undo: async (side, call) => must(await tried((one, mine) => one.undo(side, mine), call)),
    async share(asked, call) {
      const heard: ShareHeard[] = [];
      for (const [index, one] of adapters.entries())
        if (one.share) heard.push(await one.share(asked, own(call, index)));
      if (heard.length === 0)
        throw failed(name, 'none of them can tell people apart', 'add {type: router, route: NAME}');
      const sum = (of: (one: ShareHeard) => number): number => heard.reduce((all, one) => all + of(one), 0);
      return { alive: sum((one) => one.alive), heard: sum((one) => one.heard) };
    },
    async keepFresh(ms, call) {
      for (const [index, one] of adapters.entries()) await one.keepFresh?.(ms, own(call, index));
    },
    close: async () => void (await Promise.allSettled(adapters.map((one) => one.close()))),
  };
}
