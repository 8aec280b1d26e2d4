/** A type change beside other statements of the same plan, and what the planner refuses or asks for. */
import { readCatalog } from '../../postgres/catalog/read';
import { describeBothVersions, freshDatabase } from '../support/database';
import { planOn, runSteps, undoSteps } from '../support/naive';
import { diffCatalog, loadPlanner, SAME, snapshot } from '../support/shadowRun';
import { drawn } from '../support/whole';

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
  `ALTER TABLE payment ALTER n TYPE text USING n::text, ALTER n SET DEFAULT 'none'`,
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4); ALTER TABLE payment ADD CONSTRAINT more CHECK (amount >= 0)',
  'ALTER TABLE payment ALTER amount TYPE numeric(14,4); CREATE INDEX ON payment (amount, n) WHERE amount > 1',
  'ALTER TABLE payment ALTER id TYPE bigint; ALTER TABLE payment ALTER amount TYPE numeric(14,4)',
  'ALTER TABLE payment ALTER n TYPE bigint; ALTER TABLE payment ADD COLUMN tier text NOT NULL DEFAULT $$x$$; ALTER TABLE payment DROP CONSTRAINT payment_n_key',
];

describeBothVersions('a type change beside other statements', (version) => {
  beforeAll(loadPlanner);

  test.each(version === 18 ? TOGETHER : drawn(TOGETHER))('%s', async (sql) => {
    const [mine, plain] = await Promise.all([freshDatabase(version, SETUP), freshDatabase(version, SETUP)]);
    try {
      const [client, other] = await Promise.all([mine.client(), plain.client()]);
      await client.query('CREATE SCHEMA pgshift');
      const before = await snapshot(client);
      const plan = await planOn(client, sql, { transforms: { 'payment.n': { down: 'n::int' } } });
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

describe('what a type change refuses or asks for', () => {
  const version = 18;
  beforeAll(loadPlanner);

  type Expected = { readonly code?: string; readonly rule?: string; readonly message?: RegExp };
  type Case = readonly [
    name: string,
    sql: string,
    expected: Expected,
    more?: string,
    extra?: Parameters<typeof planOn>[2],
  ];
  const T = 'ALTER TABLE payment ALTER';
  const CASES: readonly Case[] = [
    [
      'no cast',
      `${T} reference TYPE bigint`,
      {
        code: 'TransformMissing',
        message: /^payment\.reference: text to bigint is no assignment cast; rows need an expression$/,
      },
    ],
    ['rounding', `${T} amount TYPE bigint`, { code: 'TransformMissing', message: /may change values/ }],
    ['fewer digits', `${T} amount TYPE numeric(10,1)`, { code: 'TransformMissing' }],
    ['float to numeric', `${T} far TYPE numeric`, { code: 'TransformMissing' }],
    ['cents', `${T} amount TYPE bigint USING amount * 100`, { code: 'MeaningChanged' }],
    ['another column', `${T} amount TYPE bigint USING n`, { code: 'MeaningChanged' }],
    ['a function', `${T} reference TYPE bigint USING length(reference)`, { code: 'MeaningChanged' }],
    [
      'unknown column in up',
      `${T} reference TYPE bigint`,
      { code: 'NoSuchObject' },
      '',
      { transforms: { 'payment.reference': { up: 'refference::bigint' } } },
    ],
    [
      'not an expression',
      `${T} reference TYPE bigint`,
      { code: 'InvalidPlan' },
      '',
      { transforms: { 'payment.reference': { up: 'reference::' } } },
    ],
    [
      'a sub-query',
      `${T} reference TYPE bigint`,
      { code: 'InvalidPlan' },
      '',
      { transforms: { 'payment.reference': { up: 'COALESCE(reference::bigint, (SELECT 1))' } } },
    ],
    ['no such type', `${T} reference TYPE nothing`, { code: 'NoSuchObject' }],
    ['no way back', `${T} n TYPE text`, { rule: 'no_way_back' }],
    ['session settings', `${T} at TYPE timestamptz`, { rule: 'stable_cast' }],
    [
      'a materialized view',
      `${T} amount TYPE numeric(14,4)`,
      { rule: 'dependent_refused', message: /mv/ },
      'CREATE MATERIALIZED VIEW mv AS SELECT amount FROM payment',
    ],
    [
      'a materialized view over a view',
      `${T} amount TYPE numeric(14,4)`,
      { rule: 'dependent_refused', message: /mv/ },
      'CREATE VIEW v AS SELECT amount FROM payment; CREATE MATERIALIZED VIEW mv AS SELECT amount FROM v',
    ],
    [
      'a function body',
      `${T} amount TYPE numeric(14,4)`,
      { rule: 'dependent_refused', message: /total/ },
      'CREATE FUNCTION total() RETURNS numeric LANGUAGE sql BEGIN ATOMIC SELECT sum(amount) FROM payment; END',
    ],
    [
      'a generated column',
      `${T} amount TYPE numeric(14,4)`,
      { rule: 'generated_column' },
      'ALTER TABLE payment ADD twice numeric GENERATED ALWAYS AS (amount * 2) STORED',
    ],
    [
      'an exclusion constraint',
      `${T} n TYPE bigint`,
      { rule: 'exclusion_constraint' },
      'ALTER TABLE payment ADD EXCLUDE USING btree (n WITH =)',
    ],
    [
      'a trigger that never sleeps',
      `${T} n TYPE bigint`,
      { rule: 'trigger_always' },
      `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER always BEFORE UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE payment ENABLE ALWAYS TRIGGER always`,
    ],
    [
      'a publication of all columns',
      `${T} n TYPE bigint`,
      { rule: 'published_table' },
      'CREATE PUBLICATION p FOR TABLE payment',
    ],
    [
      'partitions',
      'ALTER TABLE part ALTER v TYPE bigint',
      { rule: 'partitioned_type_change' },
      'CREATE TABLE part (k int, v int) PARTITION BY RANGE (k); CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (9)',
    ],
    ['a row type in use', `${T} n TYPE bigint`, { rule: 'row_type_used' }, 'CREATE TABLE holder (p payment)'],
    [
      'a foreign key that would not fit',
      `${T} id TYPE text USING id::text`,
      { rule: 'foreign_key_type' },
      '',
      { allow: [{ rule: 'no_way_back', reason: 't' }] },
    ],
    [
      'two columns in one index',
      `${T} n TYPE bigint, ALTER amount TYPE numeric(14,4)`,
      { rule: 'shared_type_change' },
      'CREATE INDEX ON payment (n, amount)',
    ],
  ];

  for (const [name, sql, expected, more = '', extra = {}] of CASES) {
    test(name, async () => {
      const database = await freshDatabase(version, `${SETUP} ${more}`);
      try {
        const client = await database.client();
        const planned = planOn(client, sql, extra);
        if (expected.code !== undefined) {
          await expect(planned).rejects.toMatchObject({
            code: expected.code,
            message: expect.stringMatching(expected.message ?? /./),
          });
          return;
        }
        const plan = await planned;
        expect(plan.runnable).toBe(false);
        expect(plan.findings.find((f) => f.rule === expected.rule)).toMatchObject({
          level: 'error',
          allowed: false,
          message: expect.stringMatching(expected.message ?? /./),
        });
      } finally {
        await database.drop();
      }
    });
  }

  test.each([
    ['a cast', `reference::bigint`],
    ['NULL filled', `COALESCE(reference::bigint, 0)`],
    ['invalid ones mended', `CASE WHEN reference ~ '^[0-9]+$' THEN reference::bigint ELSE NULL END`],
    ['empty is nothing', `NULLIF(trim(reference), '')::bigint`],
  ])('the same meaning: %s', async (_name, up) => {
    const database = await freshDatabase(version, SETUP);
    try {
      const client = await database.client();
      const plan = await planOn(client, 'ALTER TABLE payment ALTER reference TYPE bigint', {
        transforms: { 'payment.reference': { up } },
      });
      expect(plan.runnable).toBe(true);
      await runSteps(client, plan.steps);
      expect(
        await readCatalog(client).then(
          (c) => c.tables.find((t) => t.name === 'payment')?.columns.find((c2) => c2.name === 'reference')?.type,
        ),
      ).toBe('bigint');
    } finally {
      await database.drop();
    }
  });
});
