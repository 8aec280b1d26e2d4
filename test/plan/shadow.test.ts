/** Type changes by a shadow column on real Postgres: the SQL of every step, with writes in between, forwards and back. */
import type { Client } from 'pg';
import { readCatalog } from '../../postgres/catalog/read';
import { describeVersions, freshDatabase } from '../support/database';
import { loadPlanner, planShadow, rowsOf, runOne, snapshot, undo } from '../support/shadowRun';

interface Scenario {
  readonly name: string;
  readonly setup: string;
  readonly sql: string;
  readonly extra?: Parameters<typeof planShadow>[2];
  readonly table: string;
  readonly columns: readonly string[];
  readonly order: string;
  /** Runs once between any two steps, `n` = how often before; valid in both shapes. */
  readonly write: (n: number) => string;
  /** Plain Postgres can do it too (no views, triggers or policies in the way). */
  readonly plain: boolean;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'a plain column with an index and a check',
    setup: `CREATE TABLE payment (id int PRIMARY KEY, amount numeric(10,2) NOT NULL DEFAULT 1.50 CHECK (amount > 0), note text);
      CREATE INDEX payment_amount_idx ON payment (amount DESC NULLS LAST) INCLUDE (note) WITH (fillfactor = 70);
      CREATE INDEX payment_half ON payment ((amount / 2)) WHERE amount < 1000;
      COMMENT ON COLUMN payment.amount IS 'what was paid';
      COMMENT ON INDEX payment_amount_idx IS 'by amount';
      COMMENT ON CONSTRAINT payment_amount_check ON payment IS 'positive';
      ALTER TABLE payment ALTER amount SET STATISTICS 300;
      INSERT INTO payment SELECT g, g * 1.37, 'n' || g FROM generate_series(1, 200) g;`,
    sql: 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);',
    table: 'payment',
    columns: ['id', 'amount', 'note'],
    order: 'id',
    write: (n) =>
      `INSERT INTO payment (id, amount, note) VALUES (${1000 + n}, ${n + 1}.25, 'w'); INSERT INTO payment (id, note) VALUES (${2000 + n}, 'd');
       UPDATE payment SET amount = amount + 1 WHERE id = ${n + 1}; UPDATE payment SET note = 'u' WHERE id = ${n + 20}; DELETE FROM payment WHERE id = ${n + 50}`,
    plain: true,
  },
];

describeVersions('type change by a shadow', (version) => {
  beforeAll(loadPlanner);

  describe.each(SCENARIOS)('$name', (scenario) => {
    const rows = (client: Client): Promise<string[]> =>
      rowsOf(client, scenario.table, scenario.columns, scenario.order);

    test('ends like ALTER TABLE, with every write', async () => {
      const [mine, plain] = await Promise.all([
        freshDatabase(version, scenario.setup),
        freshDatabase(version, scenario.setup),
      ]);
      try {
        const [client, other] = await Promise.all([mine.client(), plain.client()]);
        await client.query('CREATE SCHEMA pgshift');
        const { steps, builder } = planShadow(await readCatalog(client), scenario.sql, scenario.extra);
        expect(builder.findings.filter((f) => f.level === 'error' && !f.allowed)).toEqual([]);
        for (const [n, step] of steps.entries()) {
          await runOne(client, step.run);
          await client.query(scenario.write(n));
          await other.query(scenario.write(n));
        }
        expect(await rows(client)).toHaveLength((await rows(other)).length);
        if (scenario.plain) {
          await other.query(scenario.sql);
          expect(await snapshot(client, true)).toEqual(await snapshot(other, true));
        }
        expect(await rows(client)).toEqual(await rows(other));
      } finally {
        await Promise.all([mine.drop(), plain.drop()]);
      }
    });

    test('is taken back from every step without a trace', async () => {
      const probe = await freshDatabase(version, scenario.setup);
      const { steps } = planShadow(await readCatalog(await probe.client()), scenario.sql, scenario.extra);
      await probe.drop();
      const reversible = steps.filter((step) => step.phase !== 'cleanup');
      for (let done = 0; done <= reversible.length; done += 1) {
        const [mine, twin] = await Promise.all([
          freshDatabase(version, scenario.setup),
          freshDatabase(version, scenario.setup),
        ]);
        try {
          const [client, other] = await Promise.all([mine.client(), twin.client()]);
          await client.query('CREATE SCHEMA pgshift');
          const before = await snapshot(client);
          for (const [n, step] of reversible.slice(0, done).entries()) {
            await runOne(client, step.run);
            await client.query(scenario.write(n));
            await other.query(scenario.write(n));
          }
          // Also the steps that never happened.
          await undo(client, reversible);
          await undo(client, reversible);
          expect({ done, catalog: await snapshot(client) }).toEqual({ done, catalog: before });
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
