/** A type change beside other statements of the same plan, and what the planner refuses or asks for. */
import { readCatalog } from '../../postgres/catalog/read';
import { describeVersions, freshDatabase } from '../support/database';
import { planOn, runSteps, undoSteps } from '../support/naive';
import { diffCatalog, loadPlanner, SAME, snapshot } from '../support/shadowRun';

const SETUP = `
  CREATE TABLE payment (id int PRIMARY KEY, amount numeric(10,2) DEFAULT 5, reference text, kind varchar(9), at timestamp, far float8, n int UNIQUE);
  CREATE INDEX payment_amount ON payment (amount);
  CREATE TABLE child (payment_id int REFERENCES payment (id), ref text);
  INSERT INTO payment SELECT g, g, NULLIF(g, 7)::text, 'k', now(), g, g FROM generate_series(1, 50) g;`;

const TOGETHER: readonly string[] = [
  `ALTER TABLE payment ALTER reference TYPE bigint USING reference::bigint; ALTER TABLE payment ADD CHECK (reference > 0); ALTER TABLE payment ADD FOREIGN KEY (reference) REFERENCES payment`,
  'ALTER TABLE payment ALTER id TYPE bigint; ALTER TABLE child ADD CONSTRAINT twice FOREIGN KEY (payment_id) REFERENCES payment',
  `ALTER TABLE payment ALTER reference TYPE bigint USING COALESCE(NULLIF(reference, '')::bigint, 0), ALTER reference SET NOT NULL`,
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4), ALTER amount SET NOT NULL',
  'ALTER TABLE payment ALTER amount SET NOT NULL; ALTER TABLE payment ALTER amount TYPE numeric(14,4)',
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4); ALTER TABLE payment ALTER amount SET DEFAULT 7.1234',
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4), ALTER amount DROP DEFAULT',
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4); ALTER TABLE payment ADD CONSTRAINT more CHECK (amount >= 0)',
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4); CREATE INDEX ON payment (amount, n) WHERE amount > 1',
  'ALTER TABLE payment ALTER id TYPE bigint; ALTER TABLE payment ALTER amount TYPE numeric(14,4)',
  'ALTER TABLE payment ALTER n TYPE bigint; ALTER TABLE payment ADD COLUMN tier text NOT NULL DEFAULT $$x$$; ALTER TABLE payment DROP CONSTRAINT payment_n_key',
];

describeVersions('a type change beside other statements', (version) => {
  beforeAll(loadPlanner);

  test.each(TOGETHER)('%s', async (sql) => {
    const [mine, plain] = await Promise.all([freshDatabase(version, SETUP), freshDatabase(version, SETUP)]);
    try {
      const [client, other] = await Promise.all([mine.client(), plain.client()]);
      await client.query('CREATE SCHEMA pgshift');
      const before = await snapshot(client);
      const plan = await planOn(client, sql, { allow: [{ rule: 'no_way_back', reason: 't' }] });
      expect(plan.findings.filter((f) => f.level === 'error' && !f.allowed)).toEqual([]);
      const kept = plan.steps.filter((s) => s.phase !== 'cleanup');
      await runSteps(client, kept);
      await undoSteps(client, kept);
      expect(diffCatalog(before, await snapshot(client))).toEqual(SAME);
      await runSteps(client, plan.steps);
      await other.query(sql);
      expect(diffCatalog(await snapshot(other), await snapshot(client))).toEqual(SAME);
    } finally {
      await Promise.all([mine.drop(), plain.drop()]);
    }
  });
});
