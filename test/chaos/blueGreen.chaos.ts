/** The kill matrix of a switch: the worker dies at every crash point of the road, of the switch and of the way back, each in a run of its own. */
import type { Report } from '../../plan/model/status';
import { BACK, INSIDE, runPair, THERE } from '../support/pairRun';

const LONG = 600_000;
const only = process.env.PGSHIFT_CHAOS_ONLY ? new RegExp(process.env.PGSHIFT_CHAOS_ONLY) : null;
const chosen = <T extends string>(list: readonly T[]): T[] =>
  list.filter((one) => !only || only.test(`blue-green ${one}`));

const tell = (kill: string, { switches = [] }: Report): void =>
  void process.stderr.write(
    `${kill}: ${switches.map((s) => `${s.purpose} ${s.outcome} ${s.pausedMs} ms`).join(', ')}\n`,
  );

describe('blue-green', () => {
  const there = chosen([...THERE, ...INSIDE]);
  (there.length > 0 ? test : test.skip).each(there.length > 0 ? there : ['none'])(
    'dies at %s',
    async (kill) => {
      const { missing, left, report } = await runPair({ kills: [kill], end: 'complete' });
      tell(kill, report);
      expect([missing, left, report.writableSide]).toEqual([[], [], 'green']);
    },
    LONG,
  );
  const back = chosen(BACK);
  (back.length > 0 ? test : test.skip).each(back.length > 0 ? back : ['none'])(
    'dies at %s, on the way back',
    async (kill) => {
      const { missing, left, report } = await runPair({ kills: [kill], end: 'roll back' });
      tell(kill, report);
      expect([missing, left, report.writableSide]).toEqual([[], [], 'blue']);
    },
    LONG,
  );
});
