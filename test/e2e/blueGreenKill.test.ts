/** The worker dies by -9 in the middle of a switch, under writers: no acknowledged write is lost, one side takes writes, nothing is left. */
import { BACK, INSIDE, runPair, THERE } from '../support/pairRun';
import { pick, seed, seeded } from '../support/kills';

const LONG = 300_000;

test(
  'the worker dies on the way to the switch and in the middle of it; the run ends as if it had not',
  async () => {
    const random = seeded(seed());
    const kills = [pick(THERE, random), pick(INSIDE.slice(0, 8), random)];
    const { missing, left, report, acknowledged } = await runPair({ kills, end: 'complete' });
    process.stderr.write(
      `${kills.join(', ')}: ${JSON.stringify(report.switches?.map(({ pausedMs, outcome }) => [outcome, pausedMs]))}\n`,
    );
    expect(missing).toEqual([]);
    expect(left).toEqual([]);
    expect(acknowledged).toBeGreaterThan(20);
    expect(report.switch).toMatchObject({ purpose: 'switch', outcome: 'switched' });
  },
  LONG,
);

test(
  'the worker dies after the lift, and again on the way back',
  async () => {
    const random = seeded(seed() + 1);
    const kills = [pick(INSIDE.slice(8), random), pick(BACK, random)];
    const { missing, left, report } = await runPair({ kills, end: 'roll back' });
    process.stderr.write(
      `${kills.join(', ')}: ${JSON.stringify(report.switches?.map(({ purpose, pausedMs, outcome }) => [purpose, outcome, pausedMs]))}\n`,
    );
    expect(missing).toEqual([]);
    expect(left).toEqual([]);
    expect(report.writableSide).toBe('blue');
  },
  LONG,
);
