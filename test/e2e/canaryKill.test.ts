/**
 * A canary under writers and readers while the worker dies by -9: when people are sent over, and inside the switch or when everybody is sent home. No acknowledged
 * write is lost, nobody is left where the share had them, nothing is left. The whole matrix is test/chaos/canary.chaos.ts.
 */
import { pick, seed, seeded } from '../support/kills';
import { CANARY, INSIDE, runPair, STAGES } from '../support/pairRun';

test('the worker dies twice; every stage is judged all the same', async () => {
  const random = seeded(seed());
  const kills = [pick(STAGES.slice(0, 4), random), pick([...INSIDE.slice(0, 12), ...STAGES.slice(4)], random)];
  const { missing, left, report, acknowledged } = await runPair({ kills, end: 'complete', plan: CANARY });
  const verdicts = report.stages?.map(({ name, verdict }) => `${name} ${verdict ?? 'none'}`);
  process.stderr.write(`${kills.join(', ')}: ${verdicts?.join(', ')}\n`);
  expect(missing).toEqual([]);
  expect(left).toEqual([]);
  expect(acknowledged).toBeGreaterThan(20);
  expect(verdicts).toEqual(['internal passed', 'alpha passed', 'production passed']);
  expect(report).toMatchObject({ writableSide: 'green', switch: { purpose: 'switch', outcome: 'switched' } });
}, 240_000);
