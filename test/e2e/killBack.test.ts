/**
 * Something dies by SIGKILL once in every step of the way back, and the database is as it was before the change.
 * Every row and every row of the catalogue count. Where in a step and who dies (worker, Temporal, Postgres) is drawn by a printed seed;
 * the whole matrix is test/chaos.
 */
import { startScenario } from '../support/killRun';
import { deathsOf, seed, seeded, storedSteps, undoKillsOf } from '../support/kills';
import { ownServersOfFile } from '../support/ownServers';
import { spine } from '../support/scenarios';

const scenario = spine(6_000);
const draw = seeded(seed());
const servers = ownServersOfFile('kill-back');

/** Some 30 deaths in a row, each with a new worker and a heartbeat timeout. */
jest.setTimeout(600_000);

test('one death in every step of the way back: the database is as it was', async () => {
  const database = await servers().database(scenario.setup);
  const run = await startScenario(scenario, { database, servers: servers() });
  const before = await run.end(scenario.tables);
  const first = run.worker();
  await run.until('hold', (status) => status.status === 'holding');
  await first.stop();
  const steps = await storedSteps(run.database);
  await run.handle.signal('rollback', { by: 'test', reason: 'taken back under fire' });
  const way = [...steps].reverse().filter((step) => step.phase !== 'cleanup');
  const deaths = deathsOf(way.map(undoKillsOf), draw);
  const result = run.result().then(
    () => 'completed',
    (error: { cause?: { type?: string } }) => error.cause?.type ?? String(error),
  );
  expect(await run.supervise(deaths, result)).toBe('RolledBack');
  const end = await run.end(scenario.tables);
  expect(end.catalog).toEqual(before.catalog);
  expect(end.rows).toEqual(before.rows);
  await run.close();
});
