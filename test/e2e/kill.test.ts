/**
 * The worker dies by SIGKILL once in every step, on the way there and on the way back, and the end is the same as if nobody had died:
 * every row, every row of the catalogue. Where in a step is drawn by a printed seed; the whole matrix is test/chaos.
 */
import { endState, startScenario } from '../support/killRun';
import type { EndState } from '../support/killRun';
import { killsOf, pick, seed, seeded, storedSteps, undoKillsOf } from '../support/kills';
import { freshDatabase } from '../support/database';
import { spine } from '../support/scenarios';
import type { Step } from '../../plan/model/steps';

const scenario = spine(6_000);
/** Filled by gen_random_uuid(): differs from run to run by its nature. */
const random = ['token'];
const draw = seeded(seed());

/** Some 30 deaths in a row, each with a new worker and a heartbeat timeout. */
jest.setTimeout(600_000);

describe('a worker killed in every step', () => {
  let steps: readonly Step[];
  let undisturbed: EndState;
  let before: EndState;
  let chunks: unknown;

  const committedChunks = `SELECT step_id, count(*)::int AS chunks, sum(rows)::int AS rows FROM pgshift.chunks GROUP BY step_id ORDER BY step_id`;

  beforeAll(async () => {
    const untouched = await freshDatabase(18, scenario.setup);
    before = await endState(untouched, scenario.tables);
    await untouched.drop();
    const run = await startScenario(scenario, { plan: { hold: '0s' } });
    await run.supervise([], run.handle.result());
    steps = await storedSteps(run.database);
    undisturbed = await run.end(scenario.tables, random);
    chunks = await run.database.query(committedChunks);
    await run.close();
  });

  it('ends like an undisturbed run, and no batch is committed twice', async () => {
    const kills = ['claim.before', 'claim.after', ...steps.map((step) => pick(killsOf(step), draw)), 'finish.before'];
    const run = await startScenario(scenario, { plan: { hold: '0s' } });
    await run.supervise(kills, run.handle.result());
    const end = await run.end(scenario.tables, random);
    expect(end.catalog).toEqual(undisturbed.catalog);
    expect(end.rows).toEqual(undisturbed.rows);
    const redone = await run.database.query<{ step_id: string; rows: number }>(committedChunks);
    const expected = chunks as typeof redone;
    expect(redone.map(({ step_id, rows }) => ({ step_id, rows }))).toEqual(
      expected.map(({ step_id, rows }) => ({ step_id, rows })),
    );
    await run.close();
  });

  it('killed in every step of the way back, it leaves the database as it was', async () => {
    const run = await startScenario(scenario);
    const first = run.worker();
    await run.until('hold', (status) => status.status === 'holding');
    await first.stop();
    await run.handle.signal('rollback', { by: 'test', reason: 'taken back under fire' });
    const kills = [...steps].reverse().flatMap((step) => {
      const points = undoKillsOf(step).filter(() => step.phase !== 'cleanup');
      return points.length === 0 ? [] : [pick(points, draw)];
    });
    const result = run.handle.result().then(
      () => 'completed',
      (error: { cause?: { type?: string } }) => error.cause?.type,
    );
    expect(await run.supervise(kills, result)).toBe('RolledBack');
    const end = await run.end(scenario.tables);
    expect(end.catalog).toEqual(before.catalog);
    expect(end.rows).toEqual(before.rows);
    await run.close();
  });
});
