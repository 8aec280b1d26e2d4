/** One child that is started again when it dies: after a second, slower when it dies at once again and again. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Child, ProcessMark } from './embedded/process';

export interface Startable {
  readonly mark: ProcessMark;
  readonly ended: Child['ended'];
  readonly stop: () => Promise<void>;
}

export interface Supervised {
  /** The pid of the one that runs now. */
  readonly pid: () => number;
  /** Ends it for good. */
  readonly stop: () => Promise<void>;
}

const AGAIN_MS = 1_000;
const AGAIN_SLOWLY_MS = 5_000;
/** Dying within this time counts as dying at once. */
const SHORT_LIFE_MS = 3_000;

/** The first start's error is the caller's; later ones are logged and tried again. */
export async function supervise<T extends Startable>(
  name: string,
  start: () => Promise<T>,
  log: (line: string) => void,
): Promise<{ readonly first: T; readonly child: Supervised }> {
  let stopping = false;
  let restarting: Promise<void> = Promise.resolve();
  let shortLives = 0;
  const first = await start();
  let current: T = first;

  const watch = (running: T, since: number): void => {
    restarting = running.ended.then(async ({ code, signal }) => {
      if (stopping) return;
      shortLives = Date.now() - since < SHORT_LIFE_MS ? shortLives + 1 : 0;
      log(
        `${name} (pid ${running.mark.pid}) ended by ${signal ?? `exit code ${code}`}; it is started again (see log/${name}.log)`,
      );
      for (;;) {
        await sleep(shortLives >= 3 ? AGAIN_SLOWLY_MS : AGAIN_MS);
        if (stopping) return;
        const at = Date.now();
        try {
          current = await start();
        } catch (error) {
          shortLives += 1;
          log(`${name} does not start: ${error instanceof Error ? error.message : String(error)}`);
          continue;
        }
        watch(current, at);
        return;
      }
    });
  };
  watch(first, Date.now());

  return {
    first,
    child: {
      pid: () => current.mark.pid,
      stop: async () => {
        stopping = true;
        await current.stop();
        // A restart that was under way may have brought another one.
        await restarting;
        await current.stop();
      },
    },
  };
}
