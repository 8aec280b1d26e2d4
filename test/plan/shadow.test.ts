/** Type changes by a shadow column on real Postgres: the SQL of every step, with writes in between, forwards and back. */
import type { Client } from 'pg';
import { readCatalog } from '../../postgres/catalog/read';
import { catalogDiffLines } from '../../postgres/catalog/report';
import { describeBothVersions, freshDatabase } from '../support/database';
import { diffCatalog, loadPlanner, planShadow, rowsOf, runOne, SAME, snapshot, undo } from '../support/shadowRun';
import { SCENARIOS } from '../support/shadowScenarios';
import { drawn } from '../support/whole';

describeBothVersions('type change by a shadow', (version) => {
  beforeAll(loadPlanner);

  describe.each(drawn(SCENARIOS))('$name', (scenario) => {
    const rows = (client: Client): Promise<string[]> =>
      rowsOf(client, scenario.table, scenario.columns, scenario.order);
    const two = () => Promise.all([freshDatabase(version, scenario.setup), freshDatabase(version, scenario.setup)]);

    test('ends like ALTER TABLE, with every write', async () => {
      const [mine, plain] = await two();
      try {
        const [client, other, app] = await Promise.all([mine.client(), plain.client(), mine.client()]);
        await client.query('CREATE SCHEMA pgshift');
        const before = await snapshot(client);
        const { steps, builder } = planShadow(await readCatalog(client), scenario.sql, scenario.extra);
        expect(builder.findings.filter((f) => f.level === 'error' && !f.allowed)).toEqual([]);
        for (const [n, step] of steps.entries()) {
          await runOne(client, step.run);
          // One session all the time: its cached plans and functions live through the swap.
          await app.query(scenario.write(n));
          await other.query(scenario.write(n));
        }

        await other.query(scenario.plain ?? scenario.sql);
        expect(diffCatalog(await snapshot(other), await snapshot(client))).toEqual(SAME);
        expect(catalogDiffLines(before, await snapshot(client), builder.asked)).toMatchObject({
          other: [],
          missing: [],
        });
        expect(await rows(client)).toEqual(await rows(other));
      } finally {
        await Promise.all([mine.drop(), plain.drop()]);
      }
    });

    test('is taken back without a trace', async () => {
      const probe = await freshDatabase(version, scenario.setup);
      const planned = planShadow(await readCatalog(await probe.client()), scenario.sql, scenario.extra).steps;
      await probe.drop();
      const steps = planned.filter((step) => step.phase !== 'cleanup');
      const contract = steps.findIndex((step) => step.phase === 'contract');
      // Every step in turn where the change is widest; elsewhere nothing at all, just before the swap, and after it.
      const every = version === 18 && scenario.everyStep === true;
      const boundaries = every
        ? [...steps.keys(), steps.length]
        : version === 18
          ? [0, contract, steps.length]
          : [contract, steps.length];
      for (const done of boundaries) {
        const [mine, twin] = await two();
        try {
          const [client, other] = await Promise.all([mine.client(), twin.client()]);
          await client.query('CREATE SCHEMA pgshift');
          const before = await snapshot(client);
          for (const [n, step] of steps.slice(0, done).entries()) {
            await runOne(client, step.run);
            await client.query(scenario.write(n));
            await other.query(scenario.write(n));
          }
          // All steps, also those that never happened; and twice.
          await undo(client, steps);
          await undo(client, steps);
          expect({ done, catalog: diffCatalog(before, await snapshot(client)) }).toEqual({ done, catalog: SAME });
          expect(await rows(client)).toEqual(await rows(other));
          const left = await client.query(`SELECT proname FROM pg_proc WHERE pronamespace = 'pgshift'::regnamespace`);
          expect(left.rows).toEqual([]);
        } finally {
          await Promise.all([mine.drop(), twin.drop()]);
        }
      }
    });
  });
});
