/** The planner alone, over a catalogue read once: which steps, in which phases, under which locks; what is refused, with which rule. */
import { escapeIdentifier, escapeLiteral } from 'pg';
import fc from 'fast-check';
import { Problem } from '../../plan/model/errors';
import { schemaMigrationSchema } from '../../plan/model/plan';
import type { SchemaMigrationInput } from '../../plan/model/plan';
import { ident, literal } from '../../plan/model/quote';
import { makeNames, postgresName } from '../../plan/sql/names';
import { loadParser, parseSql } from '../../plan/sql/parse';
import { planMigration } from '../../plan/sql/planner';
import { RULES } from '../../plan/sql/rules';
import type { Catalog } from '../../plan/model/catalog';
import type { SchemaPlan } from '../../plan/model/steps';
import { catalogFor } from '../support/catalogFor';
import { SETUP } from './equalCases';

type Extra = Partial<Omit<SchemaMigrationInput, 'kind' | 'name' | 'database' | 'sql' | 'sqlFile'>>;
let small: Catalog;
let big: Catalog;

beforeAll(async () => {
  await loadParser();
  small = await catalogFor(`${SETUP}
    CREATE VIEW names AS SELECT id, name FROM customer;
    CREATE TABLE visit (id bigint PRIMARY KEY, customer_id int REFERENCES customer ON DELETE CASCADE);
    CREATE TYPE mood AS ENUM ('low', 'high');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE forebear (id int PRIMARY KEY, v int); CREATE TABLE heir () INHERITS (forebear);
    CREATE TABLE blank (id int);`);
  const grown = small.tables.map((t) => (t.name === 'blank' ? t : { ...t, rows: 5_000_000, heapBytes: 500_000_000 }));
  big = { ...small, tables: grown };
});

const plan = (sql: string, extra: Extra = {}, catalog: Catalog = big): Promise<SchemaPlan> =>
  planMigration(
    schemaMigrationSchema.parse({ kind: 'schema-migration', name: 't', database: 'app', sql, ...extra }),
    catalog,
  );

const steps = async (sql: string, extra: Extra = {}, catalog: Catalog = big): Promise<string[]> =>
  (await plan(sql, extra, catalog)).steps.map(
    (s) => `${s.phase} ${s.action} ${[...new Set(s.locks.map((l) => l.mode))].join('+')}`,
  );

const AEL = 'ACCESS EXCLUSIVE';
const SUE = 'SHARE UPDATE EXCLUSIVE';
const SRE = 'SHARE ROW EXCLUSIVE';

describe('steps, phases and locks on 18', () => {
  const table: readonly (readonly [string, string, readonly string[]])[] = [
    ['nullable column', 'ALTER TABLE customer ADD a int', [`expand add_column ${AEL}`]],
    ['constant default', "ALTER TABLE customer ADD a text NOT NULL DEFAULT 'x'", [`expand add_column ${AEL}`]],
    ['stable default', 'ALTER TABLE customer ADD a timestamptz DEFAULT now()', [`expand add_column ${AEL}`]],
    [
      'volatile default',
      'ALTER TABLE customer ADD a float DEFAULT random()',
      [`expand add_column ${AEL}`, 'backfill fill_column ROW EXCLUSIVE'],
    ],
    [
      'volatile, required, unique',
      'ALTER TABLE customer ADD a uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()',
      [
        `expand add_column ${AEL}`,
        'backfill fill_column ROW EXCLUSIVE',
        `build add_not_null ${AEL}`,
        'build check_duplicates ACCESS SHARE',
        `build create_index ${SUE}`,
        `validate validate_constraint ${SUE}`,
        `contract add_unique ${AEL}`,
      ],
    ],
    [
      'foreign key',
      'ALTER TABLE customer ADD FOREIGN KEY (city_id) REFERENCES city',
      [`expand add_foreign_key ${SRE}`, `validate validate_constraint ${SUE}+ROW SHARE`],
    ],
    [
      'check',
      'ALTER TABLE customer ADD CHECK (id > 0)',
      [`expand add_check ${AEL}`, `validate validate_constraint ${SUE}`],
    ],
    [
      'set not null',
      'ALTER TABLE customer ALTER note SET NOT NULL',
      [`expand add_not_null ${AEL}`, `validate validate_constraint ${SUE}`],
    ],
    ['index', 'CREATE INDEX ON customer (note)', [`build create_index ${SUE}`]],
    [
      'unique index',
      'CREATE UNIQUE INDEX ON customer (note)',
      ['build check_duplicates ACCESS SHARE', `build create_index ${SUE}`],
    ],
    ['drop index', 'DROP INDEX customer_email', [`contract drop_index ${SUE}`]],
    ['drop column', 'ALTER TABLE customer DROP note', [`contract hide_column ${AEL}`, `cleanup drop_column ${AEL}`]],
    ['drop table', 'DROP TABLE "Odd Table"', [`contract hide_table ${AEL}`, `cleanup drop_table ${AEL}`]],
    ['drop foreign key', 'ALTER TABLE visit DROP CONSTRAINT visit_customer_id_fkey', [`expand drop_constraint ${AEL}`]],
    ['set default', 'ALTER TABLE customer ALTER note SET DEFAULT lower(note)', [`expand set_default ${AEL}`]],
    ['widening', 'ALTER TABLE customer ALTER score TYPE numeric(10,2)', [`expand widen_column ${AEL}`]],
    ['reindex', 'REINDEX INDEX customer_email', [`build reindex ${SUE}`]],
    [
      'trigger',
      'CREATE TRIGGER t AFTER INSERT ON city FOR EACH ROW EXECUTE FUNCTION stamp()',
      [`expand create_trigger ${SRE}`],
    ],
    [
      'partitioned index',
      'CREATE INDEX ON event (id)',
      [
        'build create_index SHARE',
        `build create_index ${SUE}`,
        'build attach_index ACCESS SHARE',
        `build create_index ${SUE}`,
        'build attach_index ACCESS SHARE',
      ],
    ],
    ['truncate of nothing', 'TRUNCATE blank', [`expand truncate ${AEL}`]],
  ];
  it.each(table)('%s', async (_name, sql, expected) => expect(await steps(sql)).toEqual(expected));

  it('a type that rewrites gets a shadow, and an index that is asked for is built on it alone', async () => {
    const { steps: made } = await plan(
      'ALTER TABLE "Odd Table" ALTER "Id" TYPE numeric(30,5); CREATE INDEX later ON "Odd Table" ("Id")',
    );
    expect(made.filter((s) => s.run.kind === 'create-index')).toHaveLength(1);
    expect(made.map((s) => s.phase)).toEqual(
      [...made.map((s) => s.phase)].sort((a, b) => order.indexOf(a) - order.indexOf(b)),
    );
    expect(made.some((s) => s.phase === 'contract')).toBe(true);
  });
  const order = ['expand', 'backfill', 'build', 'validate', 'contract', 'cleanup'];

  it('before 18 NOT NULL goes by a check', async () =>
    expect(await steps('ALTER TABLE customer ALTER note SET NOT NULL', {}, { ...big, serverVersion: 150018 })).toEqual([
      `expand add_check ${AEL}`,
      `validate validate_constraint ${SUE}`,
      `contract set_not_null ${AEL}`,
    ]));

  it('what fills NULLs runs before and after the constraint stands', async () =>
    expect(
      await steps('ALTER TABLE customer ALTER note SET NOT NULL', {
        transforms: { 'customer.note': { up: "''", down: 'note' } },
      }),
    ).toEqual([
      'expand create_kept ACCESS SHARE',
      'backfill fill_nulls ROW EXCLUSIVE',
      `build add_not_null ${AEL}`,
      'build fill_nulls ROW EXCLUSIVE',
      `validate validate_constraint ${SUE}`,
    ]));

  it('asks preflight what only the live database knows', async () => {
    const { preChecks } = await plan(
      'ALTER TABLE customer ALTER note SET NOT NULL, ADD CHECK (score > 1), ADD FOREIGN KEY (city_id) REFERENCES city',
    );
    expect(preChecks?.map((c) => c.code)).toEqual(['TransformMissing', 'TransformMissing', 'PreflightFailed']);
    const { preChecks: none } = await plan(
      "UPDATE customer SET note = ''; ALTER TABLE customer ALTER note SET NOT NULL",
      { allow: [{ rule: 'no_way_back', reason: 'x' }] },
    );
    expect(none).toEqual([]);
  });

  it('forward-only has no way back and says so', async () => {
    const { steps: made, runnable } = await plan(
      "UPDATE customer SET note = '' WHERE id < 5; ALTER TYPE mood ADD VALUE 'mid'",
      { strategy: 'forward-only' },
    );
    expect(runnable).toBe(true);
    expect(
      made.every((s) => s.wayBack === null && s.undo.length === 0 && (s.because ?? '').includes('forward-only')),
    ).toBe(true);
  });

  it('the same input gives the same plan', async () => {
    const sql =
      'ALTER TABLE customer DROP note, ADD a uuid DEFAULT gen_random_uuid() NOT NULL; CREATE INDEX ON customer (score); DROP TABLE "Odd Table"';
    expect(await plan(sql)).toEqual(await plan(sql));
  });

  it('volatile defaults are evaluated for each row, under no trigger of the user', async () => {
    const { steps: made } = await plan('ALTER TABLE customer ADD a uuid DEFAULT gen_random_uuid()');
    expect(made[1]?.run).toMatchObject({
      kind: 'backfill',
      set: ['"a" = DEFAULT'],
      pending: 't."a" IS NULL',
      quiet: true,
      key: [{ name: 'id', type: 'integer' }],
    });
  });
});

describe('refused, with rule and alternative', () => {
  const table: readonly (readonly [string, string])[] = [
    ['ALTER TABLE customer RENAME note TO remark', 'rename'],
    ['ALTER TABLE customer RENAME TO client', 'rename'],
    ['ALTER TABLE customer SET SCHEMA other', 'rename'],
    ['ALTER TABLE customer DROP COLUMN name', 'dependents'],
    ['DROP TABLE customer', 'dependents'],
    ['DROP TABLE customer CASCADE', 'cascade'],
    ['ALTER TABLE customer DROP COLUMN name CASCADE', 'cascade'],
    ['ALTER TABLE customer DROP COLUMN id', 'dependents'],
    ['ALTER TABLE customer DROP CONSTRAINT customer_pkey', 'dependents'],
    ['UPDATE customer SET note = 1', 'no_way_back'],
    ['DELETE FROM customer WHERE id = 1', 'no_way_back'],
    ["INSERT INTO city (name) VALUES ('x')", 'no_way_back'],
    ["ALTER TYPE mood ADD VALUE 'mid'", 'no_way_back'],
    ['UPDATE customer SET note = (SELECT max(name) FROM customer)', 'not_in_batches'],
    ['UPDATE customer SET id = id + 1', 'not_in_batches'],
    ['ALTER TABLE customer ADD a text GENERATED ALWAYS AS (upper(name)) STORED', 'generated_stored'],
    ['ALTER TABLE customer ADD a positive', 'domain_constraint'],
    ['ALTER TABLE customer ADD EXCLUDE USING gist (note WITH =)', 'exclusion_constraint'],
    ['ALTER TABLE event ADD UNIQUE (id, at)', 'partitioned_unique_constraint'],
    ['ALTER TABLE customer SET UNLOGGED', 'rewrite'],
    ['ALTER TABLE customer ADD id int', 'name_in_use'],
    ['CREATE INDEX customer_email ON customer (id)', 'name_in_use'],
    ['CREATE INDEX IF NOT EXISTS customer_email ON customer (id)', 'name_in_use'],
    ['CREATE TABLE IF NOT EXISTS customer (other int)', 'name_in_use'],
    ['DROP INDEX customer_pkey', 'index_of_constraint'],
    ['DROP TABLE event_1', 'partition'],
    ['VACUUM FULL customer', 'vacuum_full'],
    ['CLUSTER customer USING customer_pkey', 'cluster'],
    ['LOCK TABLE customer', 'lock_table'],
    ['TRUNCATE customer', 'truncate'],
    ['BEGIN', 'transaction_control'],
    ['COMMIT', 'transaction_control'],
    ['DROP DATABASE app', 'drop_database'],
    ['ALTER SYSTEM SET work_mem = 1', 'alter_system'],
    ['COPY customer FROM STDIN', 'copy'],
    ["DO 'BEGIN END'", 'do_block'],
    ['SET work_mem = 1', 'set'],
    ['SELECT 1', 'not_understood'],
    ['LISTEN x', 'not_understood'],
    ['MERGE INTO city USING customer ON false WHEN MATCHED THEN DELETE', 'not_understood'],
    ['DROP TABLE "Odd Table"; CREATE TABLE "Odd Table" (a int)', 'separate_migration'],
    ['CREATE TEMP TABLE x (a int)', 'temporary'],
    [
      'CREATE INDEX i ON customer (note); DROP INDEX customer_email; ALTER INDEX i RENAME TO customer_email',
      'separate_migration',
    ],
    ['CREATE INDEX i ON customer (note); ALTER INDEX i RENAME TO j', 'separate_migration'],
    ['ALTER INDEX customer_email RENAME TO customer_pkey', 'name_in_use'],
  ];
  it.each(table)('%s -> %s', async (sql, rule) => {
    const { findings, runnable } = await plan(sql);
    expect(findings.filter((f) => f.level === 'error').map((f) => f.rule)).toContain(rule);
    expect(runnable).toBe(false);
    for (const finding of findings) expect(Object.keys(RULES)).toContain(finding.rule);
  });

  it.each(['DELETE FROM forebear', 'UPDATE forebear SET v = 1', 'UPDATE ONLY forebear SET v = 1'])(
    'no archive can give the rows of children back: %s',
    async (sql) => {
      const { findings } = await plan(sql, { archive: { to: 'old_rows' } });
      expect(findings.filter((f) => f.level === 'error').map((f) => f.rule)).toEqual(['no_way_back']);
    },
  );

  it('runs as written only when the plan names the rule', async () => {
    const both = ['vacuum_full', 'no_way_back'].map((rule) => ({ rule, reason: 'quiet night' }));
    expect((await plan('VACUUM FULL customer', { allow: both })).steps.map((s) => s.run)).toEqual([
      { kind: 'autocommit', statement: 'VACUUM FULL customer' },
    ]);
    expect((await plan('VACUUM FULL customer', { allow: both.slice(0, 1) })).runnable).toBe(false);
    const elsewhere = both.map((a) => ({ ...a, statement: 2 }));
    expect((await plan('VACUUM FULL customer', { allow: elsewhere })).runnable).toBe(false);
  });

  it('nothing lifts transaction control', async () => {
    const { steps: made } = await plan('BEGIN; ALTER TABLE customer ADD a int; COMMIT', {
      allow: [{ rule: 'transaction_control', reason: 'x' }],
    });
    expect(made.map((s) => s.action)).toEqual(['add_column']);
  });
});

describe('errors', () => {
  const failure = async (sql: string): Promise<Problem> => {
    try {
      await plan(sql);
    } catch (error) {
      if (error instanceof Problem) return error;
    }
    throw new Error('no Problem');
  };

  it('a syntax error has its line, column and text, whatever the characters before it', async () => {
    const problem = await failure('-- ünï 😀\nALTER TABLE customer ADD é😀 int;\n  ALTER TABEL x');
    expect(problem).toMatchObject({
      code: 'SqlSyntax',
      where: { line: 3, column: 9, text: '  ALTER TABEL x', length: 5 },
    });
  });

  it.each([
    ['ALTER TABLE nope ADD a int', 'relation nope does not exist'],
    ['CREATE INDEX ON customer (nope)', 'column nope of public.customer does not exist'],
    ['CREATE INDEX ON customer (lower(nope))', 'column nope of public.customer does not exist'],
    ['ALTER TABLE customer ALTER nope SET NOT NULL', 'column nope of public.customer does not exist'],
    ['ALTER TABLE customer DROP CONSTRAINT nope', 'constraint nope of public.customer does not exist'],
    ['DROP INDEX nope', 'index nope does not exist'],
    ['ALTER TABLE customer ADD FOREIGN KEY (city_id) REFERENCES nope', 'relation nope does not exist'],
    ['ALTER TABLE customer RENAME TO x; ALTER TABLE x ADD a int', 'relation x does not exist'],
    [
      'ALTER TABLE customer RENAME note TO remark; CREATE INDEX ON customer (remark)',
      'column remark of public.customer does not exist (it has that name only after contract, see statement 1',
    ],
  ])('%s', async (sql, message) => {
    const problem = await failure(sql);
    expect(problem.code).toBe('NoSuchObject');
    expect(problem.message).toContain(message);
  });
});

describe('what a plan says beside its SQL', () => {
  const add = 'ALTER TABLE customer ADD a int';
  it('a transform of a column that is not there is no transform', async () => {
    const made = plan(add, { transforms: { 'customer.nope': { up: '1' } } });
    await expect(made).rejects.toMatchObject({ code: 'NoSuchObject', where: { path: 'transforms.customer.nope' } });
  });

  it('a transform that nothing asks for is told', async () => {
    const { findings } = await plan(add, { transforms: { 'customer.note': { up: '1' } } });
    expect(findings.map((f) => [f.rule, f.level])).toContainEqual(['unused_transform', 'warning']);
    const used = await plan('ALTER TABLE customer ALTER note SET NOT NULL', {
      transforms: { 'public.customer.note': { up: "coalesce(note, '')" } },
    });
    expect(used.findings.map((f) => f.rule)).not.toContain('unused_transform');
  });

  it('a rule that is not there allows nothing', async () => {
    const made = plan(add, { allow: [{ rule: 'vacuum_ful', reason: 'x' }] });
    await expect(made).rejects.toMatchObject({ code: 'InvalidPlan', where: { path: 'allow[0].rule' } });
  });
});

describe('positions', () => {
  it('statements are their own text, without what is around them', () => {
    const { statements } = parseSql("/* a /* b */ ; */ SELECT 'é;' -- x\n ; ;\n  -- last\n SELECT 2 /* end */");
    expect(statements.map((s) => [s.text, s.line, s.column])).toEqual([
      ["SELECT 'é;'", 1, 19],
      ['SELECT 2', 4, 2],
    ]);
  });

  it('findings point at their statement', async () => {
    const { findings } = await plan('ALTER TABLE customer ADD a int;\n\n  VACUUM FULL customer;');
    expect(findings[0]).toMatchObject({ rule: 'vacuum_full', line: 3, column: 3, statement: 2, relation: null });
  });
});

describe('names and quotes', () => {
  it("quotes as node-postgres' own", () =>
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(ident(text)).toBe(escapeIdentifier(text));
        expect(literal(text)).toBe(escapeLiteral(text));
      }),
    ));

  it("pgshift's own names fit and differ", () => {
    const long = 'ü'.repeat(60);
    const names = makeNames('m');
    const made = [
      names.make('del', 'public', long),
      names.make('del', 'public', `${long}x`),
      names.make('del', 'public', 'a'),
      makeNames('n').make('del', 'public', 'a'),
    ];
    expect(new Set(made).size).toBe(4);
    for (const name of made) {
      expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
      expect(name).toMatch(/^_pgshift_del_/);
    }
  });

  it('a name that Postgres would choose is shortened as it shortens', () => {
    const long = 'x'.repeat(60);
    expect(postgresName(long, long, 'idx', () => false)).toBe(`${'x'.repeat(29)}_${'x'.repeat(29)}_idx`);
    const taken = new Set(['t_a_idx', 't_a_idx1']);
    expect(postgresName('t', 'a', 'idx', (name) => taken.has(name))).toBe('t_a_idx2');
  });
});
