/** What a watch of routers' counts remembers of the one before it: a restart of the watch is no reading lost, a long rest is. */
import { memoryOf } from '../../activities/readingMemory';
import type { Watched } from '../../plan/model/health';

const condition = (more: Partial<Watched> = {}): Watched => ({
  ...{ name: 'errors', source: 'router', query: 'error_rate', failWhen: 'value > 0.05', interval: '10s' },
  ...{ initialDelay: '0s', failureLimit: 0, consecutiveErrorLimit: 4 },
  ...{ onFail: 'rollback', onInconclusive: 'hold', dryRun: false },
  ...more,
});
const sampled = (run: string, ageMs: number, of = condition()) => {
  const memory = memoryOf(run, of);
  memory.router = { sample: new Map(), at: performance.now() - ageMs };
  return memory;
};

test('the next watch goes on from the last sample of the same condition of the same run', () => {
  const memory = sampled('one', 0);
  expect(memoryOf('one', condition())).toBe(memory);
  expect(memoryOf('one', condition({ name: 'other' })).router).toBeUndefined();
  expect(memoryOf('two', condition()).router).toBeUndefined();
});

test('a sample of longer ago than two intervals says nothing about now', () => {
  const memory = sampled('three', 19_000);
  expect(memoryOf('three', condition())).toBe(memory);
  sampled('three', 21_000);
  expect(memoryOf('three', condition()).router).toBeUndefined();
});

test('other sources begin anew, and runs that are over are forgotten', () => {
  expect(sampled('four', 0, condition({ source: 'throughput' }))).not.toBe(
    memoryOf('four', condition({ source: 'throughput' })),
  );
  sampled('five', 0);
  for (let n = 0; n < 1_000; n += 1) sampled(`later ${n}`, 0);
  expect(memoryOf('five', condition()).router).toBeUndefined();
});
