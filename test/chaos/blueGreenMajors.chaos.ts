/** From one major to another, there and back. */
import { hasVersion } from '../support/database';
import { runPair } from '../support/pairRun';

const LONG = 300_000;

(hasVersion(15) ? test : test.skip)(
  'from 15 to 18 with a drill, and back: nothing is lost, no client sees an error, nothing is left',
  async () => {
    const { missing, errors, left, report } = await runPair({
      kills: [],
      end: 'roll back',
      versions: [15, 18],
      plan: { drill: true },
    });
    process.stderr.write(
      `15 to 18: ${JSON.stringify(report.switches?.map(({ purpose, direction, pausedMs }) => [purpose, direction, pausedMs]))}\n`,
    );
    expect(errors).toEqual([]);
    expect(missing).toEqual([]);
    expect(left).toEqual([]);
    expect(report.switches?.map(({ purpose, outcome }) => `${purpose} ${outcome}`)).toEqual([
      'drill switched',
      'drill switched',
      'switch switched',
      'back switched',
    ]);
  },
  LONG,
);
