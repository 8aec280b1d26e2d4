/**
 * The connections of one activity: pairs of one on the source and one on the target, opened when they are first needed and used again for the
 * next table. Keeps true: a connection that broke is never used again; nothing is left open.
 */
import type { Session } from '../session';
import type { CopyContext } from './context';
import { openCopySession } from './context';

export interface Pair {
  source: Session;
  target: Session;
}

/** One connection on either side; `openTarget` where the target's is of another kind. The caller closes both. */
export async function openPair(
  context: CopyContext,
  purpose: string,
  openTarget: () => Promise<Session> = () => openCopySession(context, context.target, purpose),
): Promise<Pair> {
  const target = await openTarget();
  try {
    return { source: await openCopySession(context, context.source, purpose), target };
  } catch (error) {
    await target.close();
    throw error;
  }
}

/** Works with a pair of its own, closed whatever happens. */
export async function withPair<T>(opened: Promise<Pair>, work: (pair: Pair) => Promise<T>): Promise<T> {
  const pair = await opened;
  try {
    return await work(pair);
  } finally {
    await pair.source.close();
    await pair.target.close();
  }
}

export class Pairs {
  readonly #idle: Pair[] = [];
  readonly #all = new Set<Pair>();

  constructor(private readonly context: CopyContext) {}

  /** Gives a pair for as long as `work` takes. */
  async use<T>(work: (pair: Pair) => Promise<T>): Promise<T> {
    const pair = await this.#take();
    try {
      return await work(pair);
    } finally {
      this.#idle.push(pair);
    }
  }

  async #take(): Promise<Pair> {
    const pair = this.#idle.pop();
    if (pair === undefined) {
      const [source, target] = await this.#open();
      const made = { source, target };
      this.#all.add(made);
      return made;
    }
    if (pair.source.lost || pair.target.lost) {
      await Promise.all([pair.source.close(), pair.target.close()]);
      this.#all.delete(pair);
      return this.#take();
    }
    return pair;
  }

  async #open(): Promise<[Session, Session]> {
    const source = await openCopySession(this.context, this.context.source, 'copy-out');
    try {
      return [source, await openCopySession(this.context, this.context.target, 'copy-in')];
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].flatMap(({ source, target }) => [source.close(), target.close()]));
    this.#all.clear();
  }
}

/** At most `n` at once. The first error stops what has not begun; what runs is waited for, then it is thrown. */
export async function atOnce<T>(n: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const errors: unknown[] = [];
  const worker = async (): Promise<void> => {
    while (errors.length === 0) {
      const at = next;
      next += 1;
      if (at >= items.length) return;
      await work(items[at] as T).catch((error: unknown) => errors.push(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(n, items.length) }, worker));
  if (errors.length > 0) throw errors[0];
}
