/**
 * A canary at every point where people are sent over or home, on the way there and on the way back: there the worker dies, or it stands still while Temporal,
 * blue or green die and come again.
 */
import { CANARY, runPair, STAGES, startPairServers } from '../support/pairRun';
import type { PairCase } from '../support/pairRun';

/** Every stage is judged as if nobody had died; nothing is lost, and nothing is left. */
async function completes(of: Pick<PairCase, 'kills' | 'servers'>): Promise<void> {
  const { missing, left, report } = await runPair({ ...of, end: 'complete', plan: CANARY });
  expect([missing, left]).toEqual([[], []]);
  expect(report.stages?.map(({ verdict }) => verdict)).toEqual(['passed', 'passed', 'passed']);
  expect(report.writableSide).toBe('green');
}

test.each(STAGES)('the worker dies at %s', (kill) => completes({ kills: [kill] }));

describe.each(['temporal', 'blue', 'green'] as const)('%s', (victim) => {
  let servers: Awaited<ReturnType<typeof startPairServers>>;
  beforeAll(async () => void (servers = await startPairServers([victim])));
  afterAll(() => servers.stop());

  test.each(STAGES)('dies at %s', (at) => completes({ kills: [{ at, victim }], servers }));
});

test.each(['share.before@home', 'share.after@home'])(
  'is taken back while people are over, and dies at %s',
  async (kill) => {
    // Nobody opens that stage's metric: it fails as soon as it is read.
    const analyses = { orders: { source: 'sql', query: 'SELECT 1', failWhen: 'value > 0', interval: '200ms' } };
    const stages = CANARY.stages.map((stage) => (stage.name === 'alpha' ? stage : { ...stage, analysis: [] }));
    const plan = { ...CANARY, analyses, stages };
    const { missing, left, report } = await runPair({ kills: [kill], end: 'roll back', plan });
    expect([missing, left]).toEqual([[], []]);
    expect(report.stages?.map(({ name, verdict }) => [name, verdict])).toEqual([
      ['internal', 'passed'],
      ['alpha', 'failed'],
    ]);
  },
);
