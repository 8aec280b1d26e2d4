/** Time that is left to a call, in one place: nothing in traffic/ waits without it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../plan/model/errors';
import type { TrafficCall } from './types';

export class Deadline {
  readonly #at: number;
  readonly signal: AbortSignal;

  constructor(call: Pick<TrafficCall, 'deadlineMs' | 'signal'>) {
    this.#at = performance.now() + call.deadlineMs;
    this.signal = call.signal;
  }

  /** ms, never below 0. */
  get leftMs(): number {
    return Math.max(0, this.#at - performance.now());
  }
  get isOver(): boolean {
    return this.leftMs === 0;
  }

  /** Waits, but not beyond the deadline. Throws when the caller gave up. */
  async wait(ms: number): Promise<void> {
    await sleep(Math.min(ms, this.leftMs), undefined, { signal: this.signal });
  }

  /** Looks until `look` answers something, or the time is over (then null). At least once. */
  async poll<T>(look: () => Promise<T | null>, everyMs = 20): Promise<T | null> {
    for (;;) {
      this.signal.throwIfAborted();
      const found = await look();
      if (found !== null || this.isOver) return found;
      await this.wait(everyMs);
    }
  }

  /** The promise, or `late()` when it is not there in time (it goes on, unheard). */
  async race<T>(promise: Promise<T>, late: () => T | Promise<T>): Promise<T> {
    const done = new AbortController();
    const stop = AbortSignal.any([done.signal, this.signal]);
    const timer = sleep(this.leftMs, 'late' as const, { signal: stop }).catch(() => 'stopped' as const);
    try {
      const first = await Promise.race([promise.then((value) => ({ value })), timer]);
      if (typeof first === 'object') return first.value;
      promise.catch(() => undefined);
      this.signal.throwIfAborted();
      return await late();
    } finally {
      done.abort();
    }
  }
}

/** What is taken back must be taken back also when the caller gave up or the time is over. */
export const grace = (ms: number): Deadline => new Deadline({ deadlineMs: ms, signal: new AbortController().signal });

export const failed = (adapter: string, what: string, hint?: string): Problem =>
  new Problem('TrafficFailed', `${adapter}: ${what}`, { details: { adapter }, ...(hint ? { hint } : {}) });

export const overran = (adapter: string, what: string): Problem =>
  new Problem('SwitchOverran', `${adapter}: the pause was not complete in time and was taken back; ${what}`, {
    details: { adapter },
  });
