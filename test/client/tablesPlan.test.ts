/** `pgshift plan` of plans over two databases: the same look as the run's, sizes, what is chosen, what speaks against it; nothing is written. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TablesPlan } from '../../plan/model/tablesPlan';
import { runCli } from '../support/cli';
import type { FreshDatabase } from '../support/database';
import { freshDatabase } from '../support/database';

let folder: string;
let old: FreshDatabase;
let app: FreshDatabase;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-tables-'));
  old = await freshDatabase(
    18,
    `CREATE TABLE person (id int PRIMARY KEY, name text, age text, changed int NOT NULL DEFAULT 0); CREATE INDEX ON person (lower(name));
     INSERT INTO person SELECT g, 'p' || g, g FROM generate_series(1, 5000) g; CREATE TABLE audit_log (a int); CREATE TABLE tiny (a int PRIMARY KEY);
     INSERT INTO tiny VALUES (1); ANALYZE`,
  );
  app = await freshDatabase(18);
});
afterAll(async () => {
  await Promise.all([old.drop(), app.drop()]);
  rmSync(folder, { recursive: true, force: true });
});

function pgshift(text: string, ...args: readonly string[]) {
  const file = join(folder, 'plan.yaml');
  writeFileSync(file, text);
  const env = { PGSHIFT_HOME: join(folder, 'home'), PGSHIFT_DATABASE_OLD: old.url, PGSHIFT_DATABASE_APP: app.url };
  return runCli(['plan', file, ...args], { env });
}

const MOVE = `kind: data-migration
name: move
source: old
target: app
transfer: incremental
incremental: { column: changed, every: '*/5 * * * *' }
tables: { include: [person], exclude: [] }
map:
  person:
    to: customer
    columns: { years: { sql: 'age::int' } }
    omit: [age]
`;

test('a data migration: phases, tables with sizes, what is chosen, findings; nothing is written', async () => {
  const plain = await pgshift(MOVE);
  expect([plain.code, plain.stderr]).toEqual([0, '']);
  expect(plain.stdout).toMatch(/^move from old \(PostgreSQL 18\.\d+\) to app \(PostgreSQL 18\.\d+\) {10}risk: low/);
  expect(plain.stdout).toMatch(/ copy +4 copy 1 table, about 5,000 rows, .*ACCESS SHARE person/);
  expect(plain.stdout).toMatch(/ gate +finish waits for a person/);
  expect(plain.stdout).toMatch(/ person > customer +~5,000 +\d+ kB +1 +map: to, columns, omit/);
  expect(plain.stdout).toContain('chosen: 1 of 3 tables (person); left out: audit_log, tiny');
  expect(plain.stdout).toMatch(/warning\[deletes_stay\].*\n {2}--> .*plan\.yaml:6:/);
  expect(plain.stdout).toMatch(/warning\[not_made\].*index person_lower_idx/);
  expect(plain.stdout).toMatch(/Nothing was changed\. Run it: {2}pgshift start .*plan\.yaml --watch\n$/);
  const plan = (await pgshift(MOVE, '--json')).json<TablesPlan>();
  expect(plan).toMatchObject({
    kind: 'data-migration',
    name: 'move',
    database: 'app',
    source: 'old',
    mode: 'production',
    runnable: true,
    checksum: expect.stringMatching(/^[0-9a-f]{64}$/),
    tables: [{ table: 'public.person', to: 'public.customer', rows: 5000 }],
    chosen: { tables: 1, leftOut: 2 },
    dependents: [],
  });
  expect(plan.steps.map(({ id }) => id)).toEqual(
    'preflight.1 snapshot.1 schema.1 copy.1 build.1 follow.1 verify.1 finish.1'.split(' '),
  );
  for (const step of plan.steps) if (step.wayBack === null) expect(step.because).toEqual(expect.any(String));
  expect((await pgshift(MOVE, '--emit-input')).json()).toMatchObject({ kind: 'data-migration', name: 'move' });
  expect(await app.query(`SELECT 1 FROM pg_namespace WHERE nspname = 'pgshift'`)).toEqual([]);
});

test('everything that would refuse the run is listed with its place, exit 3', async () => {
  await app.query(`CREATE TABLE customer (a int)`);
  const bad = MOVE.replace('age::int', 'agee::int');
  const plan = await pgshift(bad, '--json');
  expect(plan.code).toBe(3);
  const { findings, runnable } = plan.json<TablesPlan>();
  expect(runnable).toBe(false);
  expect(findings.filter(({ level }) => level === 'error').map(({ rule, line }) => [rule, line])).toEqual([
    ['preflight_failed', 1],
    ['no_such_object', 11],
  ]);
  expect((await pgshift(bad)).stdout).toMatch(/error\[no_such_object\]: map\.person.*agee[^]*Refused: mend/);
  await app.query(`DROP TABLE customer`);
  expect(await pgshift(MOVE, '--server-version', '18', '--json')).toMatchObject({ code: 2 });
});

test('a validation: how each table is compared, and what will be called different', async () => {
  await app.query(`CREATE TABLE person (id int PRIMARY KEY, name text, age text, changed int NOT NULL, more int)`);
  const text = `kind: validation\nname: same\nsource: old\ntarget: app\nrepair: target\n`;
  const plain = await pgshift(text);
  expect([plain.code, plain.stderr]).toEqual([0, '']);
  expect(plain.stdout).toMatch(/^same from old .* against app .*risk: high/);
  expect(plain.stdout).toMatch(/ person +~5,000 +\d+ kB +- +by id/);
  expect(plain.stdout).toMatch(/warning\[will_differ\]: public\.person: column more is on the target only/);
  expect(plain.stdout).toMatch(/warning\[will_differ\]: public\.tiny: public\.tiny is not there/);
  expect(plain.stdout).toMatch(/Run it: {2}pgshift verify .*plan\.yaml\n$/);
  const plan = (await pgshift(text, '--json')).json<TablesPlan>();
  expect(plan).toMatchObject({ kind: 'validation', database: 'app', runnable: true });
  expect(plan.steps.map(({ phase }) => phase)).toEqual(['compare', 'compare', 'recheck', 'repair']);
  expect((await pgshift(`${text}map: { nix: {} }\n`)).code).toBe(3);
  expect(await app.query(`SELECT 1 FROM pg_namespace WHERE nspname = 'pgshift'`)).toEqual([]);
});
