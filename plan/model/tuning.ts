/**
 * What `tune` changed, laid over what the plan said. Only keys that were given are kept: a tuning of `parallel` must not bring back the
 * default of another key. Pure.
 */
import type { StepOptionsText } from './options';
import type { SchemaMigrationPlan, Throttle } from './plan';
import { throttleSchema } from './plan';

type Partially<T> = { readonly [K in keyof T]?: T[K] extends object ? Partially<T[K]> : T[K] };

export interface Tuning {
  readonly throttle?: 'none' | Partially<Throttle>;
  readonly hold?: string;
  readonly lockTimeout?: string;
  readonly lockBudget?: string;
  readonly timeout?: string;
  /** Of a copy. */
  readonly parallel?: { readonly tables?: number; readonly rangesPerTable?: number };
}

const present = <T extends object>(value: T): Partial<T> =>
  Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Partial<T>;

function overThrottle(
  below: 'none' | Partially<Throttle> | undefined,
  above: 'none' | Partially<Throttle> | undefined,
): 'none' | Partially<Throttle> | undefined {
  if (above === undefined) return below;
  if (above === 'none' || below === undefined || below === 'none') return above;
  const batch = above.batch || below.batch ? { batch: { ...below.batch, ...present(above.batch ?? {}) } } : {};
  return { ...below, ...present(above), ...batch };
}

export function mergeTuning(below: Tuning, above: Tuning): Tuning {
  const throttle = overThrottle(below.throttle, above.throttle);
  const parallel = above.parallel ? { parallel: { ...below.parallel, ...present(above.parallel) } } : {};
  return { ...below, ...present(above), ...(throttle === undefined ? {} : { throttle }), ...parallel };
}

/** What the steps run with now. A tuning over `throttle: none` starts from the defaults. */
export function tunedOptions(plan: StepOptionsText & Pick<SchemaMigrationPlan, 'hold' | 'timeout'>, tuning: Tuning) {
  const throttle = overThrottle(plan.throttle, tuning.throttle) ?? plan.throttle;
  return {
    throttle: throttle === 'none' ? throttle : throttleSchema.parse(throttle),
    lockTimeout: tuning.lockTimeout ?? plan.lockTimeout,
    lockBudget: tuning.lockBudget ?? plan.lockBudget,
    searchPath: plan.searchPath,
    hold: tuning.hold ?? plan.hold,
    timeout: tuning.timeout ?? plan.timeout,
  };
}
