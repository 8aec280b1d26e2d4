/**
 * Something dies by SIGKILL once in every step on the way there, and the end is the same as if nobody had died.
 * Every row and every row of the catalogue count. Where in a step and who dies (worker, Temporal, Postgres) is drawn by a printed seed;
 * the whole matrix is test/chaos.
 */
import { startScenario } from '../support/killRun';
import { deathsOf, killsOf, seed, seeded, storedSteps } from '../support/kills';
import { ownServersOfFile } from '../support/ownServers';
import { spine } from '../support/scenarios';

const scenario = spine(6_000);
/** Filled by gen_random_uuid(): differs from run to run by its nature. */
const random = ['token'];
const draw = seeded(seed());
const servers = ownServersOfFile('kill-there');

/** Some 40 deaths in a row, each with a new worker and a heartbeat timeout. */
jest.setTimeout(600_000);

const committedChunks = `SELECT step_id, sum(rows)::int AS rows FROM pgshift.chunks GROUP BY step_id ORDER BY step_id`;

test('one death in every step: it ends like an undisturbed run, and no batch is committed twice', async () => {
  const calm = await startScenario(scenario, { plan: { hold: '0s' } });
  await calm.supervise([], calm.result());
  const steps = await storedSteps(calm.database);
  const undisturbed = await calm.end(scenario.tables, random);
  const chunks = await calm.database.query(committedChunks);
  await calm.close();

  const database = await servers().database(scenario.setup);
  const run = await startScenario(scenario, { plan: { hold: '0s' }, database, servers: servers() });
  const deaths = deathsOf([['claim.before'], ['claim.after'], ...steps.map(killsOf), ['finish.before']], draw);
  await run.supervise(deaths, run.result());
  const end = await run.end(scenario.tables, random);
  expect(end.catalog).toEqual(undisturbed.catalog);
  expect(end.rows).toEqual(undisturbed.rows);
  expect(await run.database.query(committedChunks)).toEqual(chunks);
  await run.close();
});
