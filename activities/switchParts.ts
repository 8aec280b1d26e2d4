/** The parts of one switch with their times, and the budget that they share. Keeps true: before the lift nothing begins when the budget is spent. */
import { Problem } from '../plan/model/errors';
import type { PartDone } from '../plan/model/pairState';
import type { BlueGreenPhase } from '../plan/model/steps';

export class Parts {
  readonly done: PartDone[] = [];
  readonly #began = performance.now();
  #lifted = false;

  constructor(
    private readonly prefix: string,
    private readonly budgetMs: number,
    private readonly attempt: number,
  ) {}

  /** From here on there is no way but forward: the budget is only told of, never kept by turning back. */
  lifted(): void {
    this.#lifted = true;
  }

  get spentMs(): number {
    return performance.now() - this.#began;
  }

  /** What is left to one part, ms. Throws SwitchOverran. */
  left(part: string): number {
    const left = this.budgetMs - this.spentMs;
    if (this.#lifted) return Math.max(left, 10_000);
    if (left <= 0)
      throw new Problem('SwitchOverran', `the budget of ${this.budgetMs} ms was spent before ${part}`, {
        hint: 'it was undone; raise switch.maxPause, or switch in a quieter hour',
        details: { part, spentMs: Math.round(this.spentMs) },
      });
    return left;
  }

  async run<T>(
    part: BlueGreenPhase,
    work: (leftMs: number) => Promise<T>,
    evidence: (result: T) => Readonly<Record<string, unknown>> = () => ({}),
  ): Promise<T> {
    const startedAt = new Date().toISOString();
    const note = (status: PartDone['status'], seen: Readonly<Record<string, unknown>>): void =>
      void this.done.push({
        ...{ id: `${this.prefix}${part}`, phase: part, status, startedAt, endedAt: new Date().toISOString() },
        ...{ attempts: this.attempt, evidence: seen },
      });
    try {
      const result = await work(this.left(part));
      note('done', evidence(result));
      return result;
    } catch (error) {
      note('failed', { error: error instanceof Problem ? `${error.code}: ${error.message}` : 'failed' });
      throw error;
    }
  }
}
