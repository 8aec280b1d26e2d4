/** Counts of routers: what two readings come to, and what nothing was counted of is not known. */
import { between, Counting, metricOf, parseCounters, quantile, stepOf } from '../../plan/model/counters';

const counted = (...queries: readonly (readonly [side: string, ms: number, failed?: boolean])[]) => {
  const one = new Counting();
  for (const [side, ms, failed = false] of queries) one.query(side, ms, failed);
  return one;
};
const sample = (one: Counting) => new Map([['a', parseCounters(JSON.parse(JSON.stringify(one.now)))!]]);

test('differences between two readings, by side', () => {
  const one = counted(['blue', 1], ['green', 1, true]);
  const before = sample(one);
  for (let i = 0; i < 98; i += 1) one.query('green', 3, false);
  one.query('green', 900, true);
  one.query('green', 900, true);
  const seen = between(before, sample(one));
  expect(metricOf('error_rate', seen, 'green', 10)).toBeCloseTo(0.02);
  expect(metricOf('throughput', seen, 'green', 10)).toBe(10);
  expect(metricOf('latency_p50', seen, 'green', 10)).toBeCloseTo(4);
  expect(metricOf('latency_p99', seen, 'green', 10)).toBeGreaterThan(900);
  expect(metricOf('error_rate', seen, 'blue', 10)).toBeNull();
  expect(metricOf('latency_p95', seen, 'blue', 10)).toBeNull();
});

test('a router that began anew counts from its beginning; one that is gone is left out', () => {
  const old = sample(counted(['blue', 1], ['blue', 1], ['blue', 1]));
  const again = sample(counted(['blue', 1]));
  expect(between(old, again).sides['blue']?.n).toBe(0);
  expect(between(new Map(), again).sides['blue']?.n).toBe(1);
  expect(between(old, new Map()).sides).toEqual({});
});

test('shadow reads that failed are no differences', () => {
  const one = new Counting();
  for (const equal of [true, true, true, false, null]) one.shadow(equal);
  const seen = between(new Map(), sample(one));
  expect(metricOf('shadow_differences', seen, 'green', 1)).toBe(0.25);
  expect(metricOf('shadow_errors', seen, 'green', 1)).toBe(0.2);
  expect(metricOf('shadow_differences', between(sample(one), sample(one)), 'green', 1)).toBeNull();
});

test('a step is never more than the root of two too high, and what is not a count is none', () => {
  for (const ms of [0.1, 0.3, 1, 7, 42, 999, 60_000]) {
    const [said] = [
      quantile(
        Array.from({ length: 48 }, (_, i) => (i === stepOf(ms) ? 1 : 0)),
        0.5,
      ) ?? 0,
    ];
    expect(said).toBeGreaterThanOrEqual(ms);
    if (ms > 0.25) expect(said / ms).toBeLessThanOrEqual(Math.SQRT2 + 1e-9);
  }
  expect(parseCounters(null)).toBeNull();
  expect(parseCounters({ sides: { blue: { n: 'x', errors: -1, ms: [NaN, 2] } } })).toEqual({
    sides: { blue: { n: 0, errors: 0, ms: [0, 2] } },
    shadow: { n: 0, different: 0, failed: 0 },
  });
});
