/**
 * Beside the watch of a direction: rows that change are compared as they come, so that little is left for the pause. Keeps true: it reads the slot only
 * while nobody else does, and whoever takes it over is not disturbed; nothing here ends the watch.
 */
import { isProblem } from '../plan/model/errors';
import type { Side } from '../plan/model/traffic';
import { otherSide } from '../plan/model/traffic';
import type { ChangedRows } from '../postgres/switch/changedRows';
import { openChanged } from '../postgres/switch/changedSlot';
import { publisherOf } from '../postgres/switch/names';
import type { Both, Pair } from '../postgres/switch/pair';
import { withBoth } from '../postgres/switch/pair';
import type { OpenPairs } from '../postgres/switch/quickVerify';
import { openPairs } from '../postgres/switch/quickVerify';
import { namesOf } from '../postgres/switch/replicate';
import { slotState } from '../postgres/switch/slot';
import { resolveTarget } from '../worker/config';
import { proofPlan } from './blueGreenVerify';
import type { Tools } from './context';
import type { WatchPairArgs } from './types';

/** After it was taken from us, or broke. */
const AGAIN_MS = 30_000;
/** While there is nothing to read. */
const NONE_MS = 5_000;

interface Open {
  readonly prepared: OpenPairs;
  readonly rows: ChangedRows;
}

export class ChangedWatch {
  readonly #from: Side;
  readonly #pair: Pair;
  #open: Open | null = null;
  #busy: Promise<void> | null = null;
  #notBefore = 0;
  #problems: readonly string[] = [];

  constructor(
    readonly args: WatchPairArgs,
    readonly tools: Tools,
  ) {
    const { config } = tools.deps;
    this.#from = publisherOf(args.direction);
    this.#pair = {
      migration: args.migration,
      blue: resolveTarget(config, args.pair.blue),
      green: resolveTarget(config, args.pair.green),
    };
  }

  /** What the last turn found; empty = nothing. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Begins a turn unless one is under way. */
  look(): void {
    if (this.#busy !== null || performance.now() < this.#notBefore) return;
    this.#busy = this.#turn()
      .catch(async (error: unknown) => {
        this.#notBefore = performance.now() + AGAIN_MS;
        await this.#shut();
        if (this.tools.signal.aborted) return;
        const fields = isProblem(error) ? { code: error.code } : { err: error };
        this.tools.log.warn(fields, 'rows that change are not compared just now');
      })
      .finally(() => (this.#busy = null));
  }

  async #turn(): Promise<void> {
    this.#open ??= await withBoth(this.#pair, 'switch', (both) => this.#begin(both));
    if (this.#open === null) {
      this.#notBefore = performance.now() + NONE_MS;
      return;
    }
    const { different } = await this.#open.rows.turn(true, this.tools.signal);
    const to = otherSide(this.#from);
    this.#problems = different.slice(0, 3).map((label) => `${label}: rows that changed differ on ${to}`);
  }

  async #begin(both: Both): Promise<Open | null> {
    const state = await slotState(both[this.#from], namesOf(this.#pair, this.args.direction).checkSlot);
    if (state === null || state.active) return null;
    const plan = await proofPlan({ ...this.args, from: this.#from, what: 'verify' }, this.tools);
    const prepared = await openPairs(this.#pair[this.#from], this.#pair[otherSide(this.#from)], plan, 'changed');
    try {
      const rows = await openChanged(both, this.#pair, this.#from, prepared, 'if free');
      if (rows !== null) return { prepared, rows };
      await prepared.close();
      return null;
    } catch (error) {
      await prepared.close();
      throw error;
    }
  }

  async #shut(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    await open?.rows.close().catch(() => undefined);
    await open?.prepared.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    await this.#busy;
    await this.#shut();
  }
}
