/** What the canary chapter claims, from what was seen: each claim fails when its figures say otherwise. */
import { judgeCanary } from '../../../client/demo/canaryJudge';
import type { CanarySeen, FaultSeen } from '../../../client/demo/canaryJudge';
import type { ReadersReport } from '../../../client/demo/readers';
import { summary } from '../../../client/demo/summary';
import type { StageReport } from '../../../plan/model/canary';
import type { Report } from '../../../plan/model/status';
import { createTerminal } from '../../../client/terminal';

const at = '2026-11-21T08:00:00.000Z';
const readers = (more: Partial<ReadersReport> = {}): ReadersReport => ({
  ...{ keys: 30, reads: 500, there: 0, errors: 0, p50Ms: 0.5, p99Ms: 2 },
  ...more,
});
const stage = (more: Partial<StageReport> = {}): StageReport => ({
  ...{ name: 'alpha', percent: 5, verdict: 'failed', keys: 0, startedAt: at, endedAt: '2026-11-21T08:00:07.000Z' },
  ...{ routers: { alive: 2, heard: 2 }, skipped: false },
  metrics: [
    {
      ...{ name: 'latency', verdict: 'failed', value: 20, baseline: null, readings: 3, failures: 2, at, points: [] },
    },
  ],
  ...more,
});
const faultSeen = (more: Partial<FaultSeen> = {}, stages: readonly StageReport[] = [stage()]): FaultSeen => ({
  fault: { name: 'slow', says: 'no index', moves: 'reads', metric: 'latency' },
  report: {
    stages,
    lastError: { code: 'HealthFailed', message: 'stage alpha: latency: green > 3 * blue (value 20)', hint: '' },
  } as unknown as Report,
  end: 'rolled_back',
  readers: {
    ...{ inside: readers({ there: 480 }), outside: readers({ keys: 570 }), compared: 0, different: 0 },
    lastThereAt: Date.parse('2026-11-21T08:00:07.400Z'),
  },
  ...{ left: [], link: null },
  ...more,
});
const seen = (one: FaultSeen = faultSeen(), more: Partial<CanarySeen> = {}): CanarySeen => ({
  ...{ faults: [one], rows: 1_000, percent: 5, catalogue: { before: ['a'], after: ['a'] }, periods: [], seconds: 60 },
  ledger: { checked: 10, acknowledged: 20, wrong: 0, unknownOutcomes: 0 },
  ...more,
});
const failing = (of: CanarySeen): readonly string[] =>
  judgeCanary(of)
    .claims.filter(({ holds }) => !holds)
    .map(({ says }) => says.split(/[:,]/)[0] ?? '');

test('a fault that was found at the first stage, and nobody else near it', () => {
  const part = judgeCanary(seen());
  expect([part.passed, part.measured]).toMatchObject([true, { faults: { slow: { foundMs: 7_000, homeMs: 400 } } }]);
  const text = summary(part, createTerminal({ json: false, quiet: false, color: false }));
  expect(text).toContain('found after 7.0 s; the last answer of the new side 400 ms after the verdict');
});

test.each<[string, CanarySeen, string]>([
  ['it went on to the second stage', seen(faultSeen({}, [stage({ verdict: 'passed' }), stage()])), 'no index'],
  ['another metric found it', seen(faultSeen({}, [stage({ metrics: [] })])), 'no index'],
  ['a person ended it', seen(faultSeen({ end: 'cancelled' })), 'and everybody was sent home by it'],
  [
    'somebody else read there',
    seen(faultSeen({ readers: { ...faultSeen().readers, outside: readers({ there: 1 }) } })),
    'nobody above the stage ever read there',
  ],
  [
    'a reader saw an error',
    seen(faultSeen({ readers: { ...faultSeen().readers, inside: readers({ there: 1, errors: 1 }) } })),
    'nobody above the stage ever read there',
  ],
  [
    'nothing was compared',
    seen(faultSeen({ fault: { name: 'wrong', says: 'no index', moves: 'shadow-reads', metric: 'latency' } })),
    'nobody was shown an answer of the new side',
  ],
  [
    'a write was lost',
    seen(undefined, { ledger: { checked: 10, acknowledged: 20, wrong: 1, unknownOutcomes: 0 } }),
    'the writer saw no error',
  ],
  ['something is left', seen(faultSeen({ left: ['slot x on blue'] })), 'blue is as it was'],
  ['blue is not as it was', seen(undefined, { catalogue: { before: ['a'], after: [] } }), 'blue is as it was'],
])('%s', (_, of, claim) => expect(failing(of)).toEqual([claim]));
