/**
 * The kill matrix of a switch: worker, Temporal, PgBouncer, blue and green die at every crash point of the road, of the switch and of the way back, and
 * the network between the two databases is cut there, under writers. Five rounds (PGSHIFT_CHAOS_ROUNDS=n for fewer, PGSHIFT_CHAOS_FROM=n for others than
 * the first, whose results are kept); the result is written to test/chaos/RESULT-blue-green.md.
 */
import { lanesOr, readResults, runCases, writeResults } from '../support/chaosRun';
import type { Case, CaseResult } from '../support/chaosRun';
import { BACK, INSIDE, runPair, startPairServers, THERE } from '../support/pairRun';
import type { PairCase, PairServers, Victim } from '../support/pairRun';
import { hasPgbouncer } from '../support/pgbouncer';

const LANES = lanesOr(2);
const ROUNDS = Number(process.env.PGSHIFT_CHAOS_ROUNDS ?? 5);
const FILE = 'RESULT-blue-green.md';
const FROM = Number(process.env.PGSHIFT_CHAOS_FROM ?? 1);
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

/**
 * A run takes several deaths of one victim, in the order of the road: two before the switch, two inside it, one on the way back; six runs and a seventh,
 * which ends on green, are every point once. Each round combines them in another way.
 */
function deathsOf(round: number): readonly { readonly points: readonly string[]; readonly end: PairCase['end'] }[] {
  const of = (points: readonly string[], n: number): string => points[n % points.length] as string;
  const half = BACK.length; // six
  const there = (n: number): string[] => [of(THERE.slice(0, half), n), of(THERE.slice(half), n + round)];
  return [
    ...BACK.map((_, n) => ({
      points: [
        ...there(n),
        of(INSIDE.slice(0, half), n + 2 * round),
        of(INSIDE.slice(half, 2 * half), n + 3 * round),
        of(BACK, n + round),
      ],
      end: 'roll back' as const,
    })),
    // What is passed only where everything has gone well.
    { points: [...there(round), ...INSIDE.slice(2 * half)], end: 'complete' },
  ];
}

function caseOf(round: number, victim: Victim, { points, end }: ReturnType<typeof deathsOf>[number]): Case {
  return {
    name: `round ${round}: ${victim} at ${points.join(', ')}; ${end === 'complete' ? 'stays on green' : 'taken back'}`,
    async run(lane) {
      const kills = points.map((at) => ({ at, victim }));
      // Each death may cost a try, and a server that only comes up another one.
      const plan = { switch: { maxPause: '5s', maxTransactionAge: '10m', retryAfter: '1s', attempts: 10 } };
      const run = await runPair({ kills, end, plan, servers: await needed(victim, lane) });
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
  const before =
    FROM === 1 ? [] : readResults(FILE).filter(({ name }) => Number(/^round (\d+)/.exec(name)?.[1]) < FROM);
  writeResults(FILE, 'kill matrix of the switch', null, [...before, ...results]);
});

test('no point of the road is left out', () => {
  for (const round of [1, 2, 3, 4, 5])
    expect(new Set(deathsOf(round).flatMap(({ points }) => points))).toEqual(new Set([...THERE, ...INSIDE, ...BACK]));
});

test.each(Array.from({ length: ROUNDS }, (_, n) => n + FROM))(
  'every crash point, every victim, round %s',
  async (round) => {
    const cases = VICTIMS.flatMap((victim) => deathsOf(round).map((deaths) => caseOf(round, victim, deaths)));
    const here = await runCases(cases, LANES);
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  },
  ROUND_MS,
);
