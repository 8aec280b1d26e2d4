/**
 * From 15 (where it runs here) to 18 and back, under writers, while the worker dies by -9 on the way, and somebody who is drawn (the worker, Temporal,
 * PgBouncer, blue or green) in the middle of the switch and in the middle of the way back: no acknowledged write is lost, one side takes writes, nothing
 * is left. The whole matrix is test/chaos/blueGreen.chaos.ts.
 */
import { hasVersion } from '../support/database';
import { pick, seed, seeded } from '../support/kills';
import type { Death, Victim } from '../support/pairRun';
import { BACK, INSIDE, runPair, startPairServers, THERE } from '../support/pairRun';
import { hasPgbouncer } from '../support/pgbouncer';

test('three deaths; the run ends as if there had been none', async () => {
  const random = seeded(seed());
  const victims: readonly Victim[] = [
    'worker',
    'temporal',
    'blue',
    'green',
    ...(hasPgbouncer ? ['pgbouncer' as const] : []),
  ];
  const victim = pick(victims, random);
  const deaths: readonly Death[] = [
    { at: pick(THERE, random), victim: 'worker' },
    { at: pick(INSIDE.slice(0, 12), random), victim },
    { at: pick(BACK, random), victim },
  ];
  const servers = await startPairServers([victim]);
  try {
    const from = hasVersion(15) && victim !== 'blue' ? 15 : 18;
    const run = runPair({ kills: deaths, end: 'roll back', versions: [from, 18], servers });
    const { missing, left, report, acknowledged } = await run;
    const said = report.switches?.map(({ purpose, pausedMs, outcome }) => `${purpose} ${outcome} ${pausedMs} ms`);
    const died = deaths.map((one) => `${one.victim} at ${one.at}`).join(', ');
    process.stderr.write(`${from} to 18, ${died}: ${said?.join(', ')}\n`);
    expect(missing).toEqual([]);
    expect(left).toEqual([]);
    expect(acknowledged).toBeGreaterThan(20);
    expect(report).toMatchObject({ writableSide: 'blue', switch: { purpose: 'back', outcome: 'switched' } });
  } finally {
    await servers.stop();
  }
}, 300_000);
