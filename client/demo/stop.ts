/**
 * Ctrl-C in the middle of the demo: its servers run in sessions of their own and would outlive it, so that they are ended first. Keeps true: whoever is
 * told to stop leaves nothing running.
 */
import { constants } from 'node:os';

/** As shells say an end by a signal: 128 and its number. */
export class Stopped extends Error {
  constructor(readonly code: number) {
    super('told to stop');
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Stop {
  /** What `work` answers, or Stopped as soon as a signal comes; the work itself goes on unheard. */
  or<T>(work: Promise<T>): Promise<T>;
  /** From here on it is no failure: settles when a signal comes. */
  asked(): Promise<void>;
  /** Signals mean again what they mean to any process. */
  forget(): void;
}

/** @param say called once, at the first signal. */
export function listenForStop(say: () => void): Stop {
  let stop: (name: (typeof SIGNALS)[number]) => void = () => undefined;
  const asked = new Promise<(typeof SIGNALS)[number]>((resolve) => (stop = resolve));
  for (const name of SIGNALS) process.on(name, stop);
  const stopped = asked.then((name): never => {
    say();
    throw new Stopped(128 + constants.signals[name]);
  });
  stopped.catch(() => undefined); // heard by whoever waits, which may be nobody
  return {
    or: (work) => Promise.race([work, stopped]),
    asked: async () => void (await asked),
    forget: () => SIGNALS.forEach((name) => void process.off(name, stop)),
  };
}
