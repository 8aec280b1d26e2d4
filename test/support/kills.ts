/** Which crash points each kind of step passes, and a seeded choice among them: the seed is printed, so that a run can be had again. */
import type { Step, StepRun } from '../../plan/model/steps';
import type { FreshDatabase } from './database';
import type { Death, Kill } from './killRun';

const POINTS: Readonly<Record<StepRun['kind'], readonly string[]>> = {
  transaction: ['step.begin.after', 'transaction.before-commit', 'transaction.after-commit'],
  'create-index': ['step.begin.after', 'index.before', 'index.building', 'index.built'],
  'drop-index': ['step.begin.after', 'index.before'],
  autocommit: ['step.begin.after'],
  backfill: ['step.begin.after', 'batch.before-commit', 'batch.after-commit'],
  dml: ['step.begin.after', 'batch.before-commit', 'batch.after-commit'],
  'insert-select': ['step.begin.after', 'batch.before-commit', 'batch.after-commit'],
  proof: ['step.begin.after', 'proof.range'],
  duplicates: ['step.begin.after'],
  archive: ['step.begin.after'],
};

export const killsOf = (step: Step): readonly Kill[] => POINTS[step.run.kind].map((point) => `${point}@${step.id}`);
export const undoKillsOf = (step: Step): readonly Kill[] =>
  step.undo.length === 0 ? [] : [`undo.before@${step.id}`, `undo.after@${step.id}`];

/** The plan as it was stored: the steps in the order in which they run. */
export async function storedSteps(database: FreshDatabase): Promise<readonly Step[]> {
  const [row] = await database.query<{ plan: { steps: readonly Step[] } }>(
    'SELECT plan FROM pgshift.migrations ORDER BY id DESC LIMIT 1',
  );
  return row?.plan.steps ?? [];
}

/** mulberry32: small, seeded, the same everywhere. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** PGSHIFT_TEST_SEED, else a new one; printed either way. */
export function seed(): number {
  const value = Number(process.env.PGSHIFT_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  process.stderr.write(`kill seed: PGSHIFT_TEST_SEED=${value}\n`);
  return value;
}

export function pick<T>(from: readonly T[], random: () => number): T {
  const one = from[Math.floor(random() * from.length)];
  if (one === undefined) throw new Error('nothing to choose from');
  return one;
}

const VICTIMS: readonly Death['victim'][] = ['worker', 'worker', 'worker', 'temporal', 'postgres'];

/** One death of each list that is not empty: where and who is drawn. */
export const deathsOf = (places: readonly (readonly Kill[])[], random: () => number): Death[] =>
  places
    .filter((kills) => kills.length > 0)
    .map((kills) => ({ at: pick(kills, random), victim: pick(VICTIMS, random) }));
