/**
 * From 15 (where it runs here) to 18 and back, under writers, while the worker dies by -9 on the way, in the middle of the switch and in the middle of the
 * way back: no acknowledged write is lost, one side takes writes, nothing is left. The whole matrix is test/chaos/blueGreen.chaos.ts.
 */
import { hasVersion } from '../support/database';
import { pick, seed, seeded } from '../support/kills';
import { BACK, INSIDE, runPair, THERE } from '../support/pairRun';

test('the worker dies three times; the run ends as if it had not', async () => {
  const random = seeded(seed());
  const kills = [pick(THERE, random), pick(INSIDE.slice(0, 12), random), pick(BACK, random)];
  const versions = [hasVersion(15) ? 15 : 18, 18] as const;
  const { missing, left, report, acknowledged } = await runPair({ kills, end: 'roll back', versions });
  const said = report.switches?.map(({ purpose, pausedMs, outcome }) => `${purpose} ${outcome} ${pausedMs} ms`);
  process.stderr.write(`${versions.join(' to ')}, ${kills.join(', ')}: ${said?.join(', ')}\n`);
  expect(missing).toEqual([]);
  expect(left).toEqual([]);
  expect(acknowledged).toBeGreaterThan(20);
  expect(report).toMatchObject({ writableSide: 'blue', switch: { purpose: 'back', outcome: 'switched' } });
}, 300_000);
