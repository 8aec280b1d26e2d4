/**
 * The kill matrix of a switch: worker, Temporal, PgBouncer, blue and green die at every crash point of the road, of the switch and of the way back, and
 * the network between the two databases is cut there, each in a run of its own under writers. Five rounds (PGSHIFT_CHAOS_ROUNDS=n for fewer); the result
 * is written to test/chaos/RESULT-blue-green.md.
 */
import { lanesOr, runCases, writeResults } from '../support/chaosRun';
import type { Case, CaseResult } from '../support/chaosRun';
import { BACK, INSIDE, runPair, startPairServers, THERE } from '../support/pairRun';
import type { PairCase, PairServers, Victim } from '../support/pairRun';
import { hasPgbouncer } from '../support/pgbouncer';

const LANES = lanesOr(2);
const ROUNDS = Number(process.env.PGSHIFT_CHAOS_ROUNDS ?? 5);
const ROUND_MS = 4 * 3_600_000;
const VICTIMS: readonly Victim[] = [
  ...['worker' as const, 'temporal' as const, 'blue' as const, 'green' as const, 'network' as const],
  ...(hasPgbouncer ? ['pgbouncer' as const] : []),
];

const results: CaseResult[] = [];
/** Each lane has servers of its own that may die. */
const lanes = new Map<number, Promise<PairServers & { stop(): Promise<void> }>>();
const serversOf = (lane: number): Promise<PairServers> => {
  const made = lanes.get(lane) ?? startPairServers(['temporal', 'blue', 'green']);
  lanes.set(lane, made);
  return made;
};

/** Only what dies is the lane's own: the others are those of the whole run. */
async function needed(victim: Victim, lane: number): Promise<PairServers> {
  if (victim !== 'temporal' && victim !== 'blue' && victim !== 'green') return {};
  const { temporal, blue, green } = await serversOf(lane);
  return victim === 'temporal' ? { temporal } : victim === 'blue' ? { blue } : { green };
}

function caseOf(round: number, victim: Victim, at: string, end: PairCase['end']): Case {
  return {
    name: `round ${round}: blue-green ${victim} at ${at}${end === 'complete' ? '' : ', on the way back'}`,
    async run(lane) {
      const run = await runPair({ kills: [{ at, victim }], end, servers: await needed(victim, lane) });
      const { missing, left, report } = run;
      const writable = end === 'complete' ? 'green' : 'blue';
      const wrong = [
        ...missing.slice(0, 3).map((one) => `lost or twice: ${one}`),
        ...left.map((one) => `left over: ${one}`),
        ...(report.writableSide === writable ? [] : [`${report.writableSide ?? 'nobody'} takes the writes`]),
      ];
      if (wrong.length > 0) throw new Error(wrong.join('; '));
    },
  };
}

afterAll(async () => {
  for (const one of lanes.values()) await (await one).stop();
  writeResults('RESULT-blue-green.md', 'kill matrix of the switch', null, results);
});

test.each(Array.from({ length: ROUNDS }, (_, n) => n + 1))(
  'every crash point, every victim, round %s',
  async (round) => {
    const cases = VICTIMS.flatMap((victim) => [
      ...[...THERE, ...INSIDE].map((at) => caseOf(round, victim, at, 'complete')),
      ...BACK.map((at) => caseOf(round, victim, at, 'roll back')),
    ]);
    const here = await runCases(cases, LANES);
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  },
  ROUND_MS,
);
