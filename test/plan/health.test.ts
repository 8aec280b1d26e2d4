import type { ConditionState, Reading, Watched } from '../../plan/model/health';
import { PERFORMANCE, freshCondition, holdsBack, judge, median, opened, tripped } from '../../plan/model/health';
import { conditionSchema } from '../../plan/model/plan';

const condition = (over: Record<string, unknown> = {}): Watched =>
  conditionSchema.parse({ name: 'c', source: 'sql', query: 'x', failWhen: 'value > 5', ...over });
const read = (value: number | null, over: Partial<Reading> = {}): Reading => ({
  value,
  error: null,
  ageMs: 0,
  ...over,
});

function after(c: Watched, readings: readonly Reading[], baseline: number | null = null): ConditionState {
  return readings.reduce((state, reading) => judge(c, state, reading, baseline, 'now'), freshCondition);
}

describe('conditions', () => {
  test.each<[string, Record<string, unknown>, Reading, string]>([
    ['fails', {}, read(6), 'failed'],
    ['passes', {}, read(5), 'passed'],
    ['null', {}, read(null), 'inconclusive'],
    ['NaN', {}, read(NaN), 'inconclusive'],
    ['stale', {}, read(1, { ageMs: 60_001 }), 'inconclusive'],
    ['an error', {}, read(null, { error: 'Unreachable' }), 'error'],
    ['neither', { successWhen: 'value < 3' }, read(4), 'inconclusive'],
    ['success', { successWhen: 'value < 3' }, read(2), 'passed'],
    ['only success, not met', { failWhen: undefined, successWhen: 'value < 3' }, read(4), 'failed'],
    ['an unknown baseline', { failWhen: 'value > 2 * baseline' }, read(4), 'inconclusive'],
  ])('%s', (_, over, reading, expected) => expect(after(condition(over), [reading]).last).toBe(expected));

  test('failureLimit counts failures in all, errors count in a row', () => {
    const limited = condition({ failureLimit: 1, consecutiveErrorLimit: 1 });
    expect(tripped(limited, after(limited, [read(6), read(1)]))).toBeNull();
    expect(tripped(limited, after(limited, [read(6), read(1), read(6)]))).toBe('failed');
    const error = read(null, { error: 'x' });
    expect(tripped(limited, after(limited, [error, read(1), error]))).toBeNull();
    expect(tripped(limited, after(limited, [error, error]))).toBe('error');
  });

  test('what is not known holds back, unless it says ignore', () => {
    expect(holdsBack(condition(), undefined)).toBe(true);
    expect(holdsBack(condition(), after(condition(), [read(null)]))).toBe(true);
    expect(holdsBack(condition(), after(condition(), [read(1)]))).toBe(false);
    expect(holdsBack(condition({ onInconclusive: 'ignore' }), undefined)).toBe(false);
    expect(holdsBack(condition({ onFail: 'alert' }), undefined)).toBe(false);
  });

  test('a metric gate opens after count passes in a row', () => {
    const gate = condition({ count: 2, successWhen: 'value < 3' });
    expect(opened(gate, after(gate, [read(1)]))).toBe(false);
    expect(opened(gate, after(gate, [read(1), read(6), read(1)]))).toBe(false);
    expect(opened(gate, after(gate, [read(1), read(1)]))).toBe(true);
  });

  test('performance: half the throughput for six readings in a row, never a quiet hour', () => {
    const slow = read(40);
    const fine = read(90);
    const quiet = read(null);
    const six = Array.from({ length: 6 }, () => slow);
    expect(tripped(PERFORMANCE, after(PERFORMANCE, six, 100))).toBe('failed');
    expect(tripped(PERFORMANCE, after(PERFORMANCE, six.slice(1), 100))).toBeNull();
    expect(tripped(PERFORMANCE, after(PERFORMANCE, [...six.slice(1), fine, slow], 100))).toBeNull();
    expect(tripped(PERFORMANCE, after(PERFORMANCE, [...six.slice(1), quiet, slow], 100))).toBeNull();
    expect(tripped(PERFORMANCE, after(PERFORMANCE, six, null))).toBeNull();
  });

  test('a baseline is the median of what could be read, and of no fewer than three', () => {
    expect(median([5, 1, null, 3, 9])).toBe(5);
    expect(median([5, null, 3, null, null])).toBeNull();
  });
});
