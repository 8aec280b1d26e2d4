/**
 * The planner against Postgres itself: the steps of a plan, run one after the other, leave exactly the catalogue that the plain SQL leaves;
 * their ways back, run from the last to the first and each twice, leave exactly the catalogue that was there before.
 */
import type { Client } from 'pg';
import { diffCatalog, fingerprintCatalog } from '../../postgres/catalog/diff';
import { describeBothVersions, freshDatabase } from '../support/database';
import type { FreshDatabase, ServerVersion } from '../support/database';
import { planOn, runSteps, undoSteps } from '../support/naive';
import { drawn } from '../support/whole';
import { CASES, SETUP } from './equalCases';
import type { EqualCase } from './equalCases';

/** Names of the database and of what pgshift keeps on purpose do not count. */
const lines = async (client: Client, database: string): Promise<string[]> =>
  (await fingerprintCatalog(client)).map((line) => line.replaceAll(database, 'DB'));

/** Every row of the tables that SETUP makes, as text. */
const rowsOf = async (client: Client): Promise<unknown> =>
  Promise.all(
    ['customer', 'city', '"Odd Table"', 'event'].map(async (table) => {
      const { rows } = await client.query<{ md5: string }>(
        `SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ${table} t`,
      );
      return rows;
    }),
  );

/** What every case starts from, made once for each server. */
interface Start {
  readonly template: FreshDatabase;
  readonly catalog: readonly string[];
  readonly rows: unknown;
}

async function makeStart(version: ServerVersion): Promise<Start> {
  const template = await freshDatabase(version, `${SETUP}; ANALYZE`);
  const client = await template.client();
  const start = { template, catalog: await lines(client, template.name), rows: await rowsOf(client) };
  await client.end();
  return start;
}

async function check(version: ServerVersion, test: EqualCase, { template, ...start }: Start): Promise<void> {
  const ours = await freshDatabase(version, test.setup, template);
  const plain = await freshDatabase(version, test.setup, template);
  try {
    const client = await ours.client();
    if (test.setup) await client.query('ANALYZE');
    const before = test.setup ? await lines(client, ours.name) : start.catalog;
    const rowsBefore = test.setup ? await rowsOf(client) : start.rows;
    const backBefore = test.back ? (await client.query(test.back)).rows : null;
    const plan = await planOn(client, test.sql, test.extra, test.big);
    expect(plan.findings.filter((f) => f.level === 'error' && !f.allowed)).toEqual([]);
    const early = plan.steps.filter((s) => s.phase !== 'cleanup');
    if (test.way !== 'forward') {
      await runSteps(client, early);
      await undoSteps(client, early, { reported: [] }, true);
      expect(diffCatalog(before, await lines(client, ours.name))).toEqual({ added: [], removed: [] });
      if (test.values !== 'change') expect(await rowsOf(client)).toEqual(rowsBefore);
      if (test.back) expect((await client.query(test.back)).rows).toEqual(backBefore);
    }
    await runSteps(client, plan.steps);
    await plain.query(test.plain ?? test.sql);
    const other = await plain.client();
    if (test.keeps?.includes('pgshift')) await other.query('DROP SCHEMA pgshift CASCADE');
    if (test.keeps) await client.query(`DROP SCHEMA ${test.keeps} CASCADE`);
    const difference = diffCatalog(await lines(other, plain.name), await lines(client, ours.name));
    expect(difference).toEqual({ added: [], removed: [] });
    if (test.rows) expect((await client.query(test.rows)).rows).toEqual((await other.query(test.rows)).rows);
  } finally {
    await Promise.all([ours.drop(), plain.drop()]);
  }
}

describeBothVersions('plan equals plain SQL', (version) => {
  let start: Start;
  beforeAll(async () => void (start = await makeStart(version)));
  afterAll(() => start.template.drop());
  for (const test of drawn(CASES)) {
    if (test.from === undefined || version >= test.from) it(test.name, () => check(version, test, start));
  }
});
