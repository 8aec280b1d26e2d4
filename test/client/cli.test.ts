/** The built command without Temporal: exit codes, JSON shapes, what goes to stdout and what to stderr, and that nothing secret is echoed. */
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildProgram } from '../../client/program';
import type { SchemaPlan } from '../../plan/model/steps';
import { runCli } from '../support/cli';
import { freshDatabase } from '../support/database';
import type { FreshDatabase } from '../support/database';

let folder: string;
let database: FreshDatabase;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-cli-'));
  database = await freshDatabase(
    18,
    `CREATE TABLE payment (payment_id bigint PRIMARY KEY, amount numeric(10,2) NOT NULL, reference text);
     INSERT INTO payment SELECT i, i, 'r' || i FROM generate_series(1, 100) AS i; ANALYZE payment`,
  );
});

afterAll(async () => {
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

const planFile = (name: string, sql: string, more = ''): string =>
  write(
    `${name}.yaml`,
    `kind: schema-migration\nname: ${name}\ndatabase: app\nsql: |\n${sql
      .split('\n')
      .map((line) => `  ${line}`)
      .join('\n')}\n${more}`,
  );

const env = (more: Readonly<Record<string, string>> = {}) => ({
  PGSHIFT_HOME: join(folder, 'home'),
  PGSHIFT_DATABASE_APP: database.url,
  ...more,
});

/** Nobody listens there. */
const NOWHERE = { TEMPORAL_ADDRESS: '127.0.0.1:9' };

describe('usage', () => {
  test('--help, --version and no command are answers on stdout', async () => {
    const help = await runCli(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    for (const name of [
      'dev',
      'demo',
      'plan',
      'lint',
      'start',
      'list',
      'status',
      'watch',
      'report',
      'approve',
      'reject',
      'pause',
      'resume',
      'rollback',
      'tune',
      'skip',
      'retry',
      'cancel',
      'verify',
      'worker',
      'server',
      'rehearse',
      'fence',
      'schema',
      'uninstall',
    ])
      expect(help.stdout).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
    expect((await runCli([])).stdout).toContain('Usage: pgshift');
    expect((await runCli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test('every command has an example in its help', () => {
    const program = buildProgram(() => Promise.resolve());
    expect(program.commands.length).toBeGreaterThan(20);
    for (const command of program.commands) {
      let help = '';
      command.configureOutput({ writeOut: (text) => void (help += text) }).outputHelp();
      expect(help).toMatch(/Example:\n {2}pgshift /);
    }
  });

  test.each([
    ['an unknown command', ['stat'], /unknown command 'stat'/],
    ['an unknown flag', ['list', '--limits', '3'], /unknown option '--limits'/],
    ['a missing argument', ['plan'], /missing required argument/],
    ['a value that is none of the choices', ['lint', 'a.sql', '--format', 'xml'], /Allowed choices/],
    ['a number that is none', ['list', '--limit', 'many'], /whole number/],
  ])('%s is InvalidUsage, exit 2, also as JSON', async (_what, args, says) => {
    const plain = await runCli(args);
    expect(plain).toMatchObject({ code: 2, stdout: '' });
    expect(plain.stderr).toMatch(/^error\[InvalidUsage\]: /);
    expect(plain.stderr).toMatch(says);
    const json = await runCli([...args, '--json']);
    expect(json).toMatchObject({ code: 2, stdout: '' });
    expect(json.error()).toMatchObject({ code: 'InvalidUsage' });
  });

  test.each([
    ['rehearse', ['rehearse', 'a.yaml', '--scratch', 's']],
    ['server', ['server']],
  ])('%s is refused: NotYet', async (_name, args) => {
    const result = await runCli([...args, '--json']);
    expect(result.code).toBe(2);
    expect(result.error().code).toBe('NotYet');
  });

  test('a URL in place of a name, an id or a flag is refused and not echoed', async () => {
    const url = 'postgres://shop:s3cr3t@db.example.org/shop';
    const plan = planFile('a', 'SELECT 1');
    const calls = [
      ['plan', plan, '--database', url],
      ['plan', plan, url],
      ['status', url],
      ['rollback', url, '--script'],
      [url],
    ];
    for (const result of await Promise.all(calls.map((args) => runCli(args, { env: env(NOWHERE) })))) {
      expect(result.code).toBeGreaterThan(0);
      expect(result.stdout + result.stderr).not.toContain('s3cr3t');
    }
  });
});

describe('plan', () => {
  const change = () => planFile('precision', 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);');

  test('shows a table on stdout and nothing on stderr, without colours in a pipe', async () => {
    const result = await runCli(['plan', change()], { env: env() });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(/^precision on app \(PostgreSQL 18\.\d+\) {10}risk: (low|medium|high) {4}about /);
    expect(result.stdout).toMatch(/ phase +step +lock +held +way back/);
    expect(result.stdout).toMatch(/ contract .*ACCESS EXCLUSIVE payment +< 50 ms +swap back, lossless for 24h/);
    expect(result.stdout).toMatch(/Nothing was changed\. Run it: {2}pgshift start .*precision\.yaml --watch\n$/);
    expect(result.stdout).not.toMatch(/\u001b/);
  });

  test('has the shape of the contract as JSON', async () => {
    const plan = (await runCli(['plan', change(), '--json'], { env: env() })).json<SchemaPlan>();
    expect(plan).toMatchObject({
      kind: 'schema-migration',
      name: 'precision',
      database: 'app',
      mode: 'production',
      runnable: true,
    });
    expect(plan.serverVersion).toBeGreaterThanOrEqual(180000);
    expect(plan.checksum).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(plan.risk).sort()).toEqual(['dataLoss', 'downtime', 'overall', 'performance', 'rollback']);
    for (const step of plan.steps) {
      expect(step.id).toMatch(/^[a-z]+\.\d+$/);
      expect(step).toMatchObject({
        statement: expect.any(String),
        transactional: expect.any(Boolean),
        locks: expect.any(Array),
      });
      if (step.wayBack === null) expect(step.because).toEqual(expect.any(String));
    }
  });

  test('leaves the database as it was', async () => {
    await runCli(['plan', change()], { env: env() });
    expect(await database.query(`SELECT nspname FROM pg_namespace WHERE nspname = 'pgshift'`)).toEqual([]);
  });

  test('needs no connection with --server-version, and says what it does not know', async () => {
    const result = await runCli(['plan', change(), '--server-version', '16'], { env: { PGSHIFT_HOME: folder } });
    expect(result.code).toBe(0);
    expect(result.stdout).toContain('(PostgreSQL 16.0)');
    expect(result.stdout).toContain('no connection: no sizes, no times');
  });

  test('--emit-input prints what the Temporal CLI takes, with sqlFile inlined', async () => {
    write('c.sql', 'ALTER TABLE payment ADD COLUMN note text;');
    const path = write('emit.yaml', 'kind: schema-migration\nname: emit\ndatabase: app\nsqlFile: c.sql\nhold: 48h\n');
    const result = await runCli(['plan', path, '--emit-input'], { env: {} });
    expect(result.json()).toEqual({
      kind: 'schema-migration',
      name: 'emit',
      database: 'app',
      hold: '48h',
      sql: 'ALTER TABLE payment ADD COLUMN note text;',
    });
  });

  test('reads a plan from stdin, as JSON too', async () => {
    const input = JSON.stringify({ kind: 'schema-migration', name: 'piped', database: 'app', sql: 'SELEC 1' });
    const result = await runCli(['plan', '-'], { env: env(), input });
    expect(result.code).toBe(2);
    expect(result.stderr).toMatch(/error\[SqlSyntax\].*\n {2}--> <stdin>:1:\d+/);
  });

  test.each([
    ['a syntax error', 'SqlSyntax', 'ALTER TABEL payment ADD COLUMN b int;', '5:9'],
    ['a table that is not there', 'NoSuchObject', 'ALTER TABLE\n  paymnt ADD COLUMN b int;', null],
    ['a column that is not there', 'NoSuchObject', 'ALTER TABLE payment DROP COLUMN amout;', null],
    ['a missing transform', 'TransformMissing', 'ALTER TABLE payment ALTER COLUMN reference TYPE bigint;', null],
  ])('%s is exit 2 with its place in the plan file', async (_what, code, sql, at) => {
    const path = planFile('bad', sql);
    const result = await runCli(['plan', path, '--json'], { env: env() });
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.error()).toMatchObject({ code, where: { file: path } });
    const { line, column } = result.error().where as { line: number; column: number };
    expect(line).toBeGreaterThanOrEqual(5);
    if (at !== null) expect(`${line}:${column}`).toBe(at);
    expect((await runCli(['plan', path], { env: env() })).stderr).toMatch(
      /\n {3}\| .*\n {3}\| +\^+\n(?: {2}value: \w+\n)? {2}help: /,
    );
  });

  test('what a rule refuses is exit 3; the plan is shown all the same', async () => {
    const result = await runCli(['plan', planFile('full', 'VACUUM FULL payment;')], { env: env() });
    expect(result.code).toBe(3);
    expect(result.stdout).toMatch(/error\[\w+\]/);
    expect(result.stdout).toContain('Refused.');
    expect(
      (await runCli(['plan', planFile('full', 'VACUUM FULL payment;'), '--json'], { env: env() })).json(),
    ).toMatchObject({ runnable: false });
  });

  test.each([
    [
      'a connection that is not configured',
      'UnknownDatabase',
      2,
      (): Record<string, string> => ({ PGSHIFT_HOME: folder }),
    ],
    [
      'a server that does not answer',
      'Unreachable',
      4,
      () => env({ PGSHIFT_DATABASE_APP: 'postgres://u:s3cr3t@127.0.0.1:9/x' }),
    ],
    ['a variable that is no URL', 'InvalidConfig', 2, () => env({ PGSHIFT_DATABASE_APP: 's3cr3t' })],
  ])('%s is told without its password', async (_what, code, exit, environment) => {
    const result = await runCli(['plan', change(), '--json'], { env: environment() });
    expect(result.code).toBe(exit);
    expect(result.error().code).toBe(code);
    expect(result.stderr).not.toContain('s3cr3t');
  });
});

describe('lint', () => {
  test('has JSON, GitHub and SARIF, and exits 3 on an error', async () => {
    const path = planFile('full', 'VACUUM FULL payment;');
    const json = await runCli(['lint', path, '--format', 'json'], { env: env() });
    expect(json.code).toBe(3);
    expect(json.json<{ counts: { error: number } }>().counts.error).toBeGreaterThan(0);
    expect((await runCli(['lint', path, '--format', 'github'], { env: env() })).stdout).toMatch(
      /^::error file=.*full\.yaml,line=5,col=3,title=/,
    );
    expect((await runCli(['lint', path, '--format', 'sarif'], { env: env() })).json()).toMatchObject({
      version: '2.1.0',
    });
  });

  test('works in a CI that sees no database', async () => {
    const path = write('add_note.sql', 'ALTER TABLE payment ADD COLUMN note text;');
    const result = await runCli(['lint', path, '--database', 'app', '--json'], { env: { PGSHIFT_HOME: folder } });
    expect(result.code).toBe(0);
    expect(result.json()).toMatchObject({ counts: { error: 0 } });
    expect(result.stderr).toMatch(/no connection to app/);
  });
});

describe('without Temporal', () => {
  test('every question says which server, exit 4', async () => {
    const questions = [
      ['list'],
      ['status', 'x'],
      ['approve', 'x'],
      ['watch', 'app/x'],
      ['report', 'x'],
      ['cancel', 'x'],
    ];
    const results = await Promise.all(
      questions.map((args) => runCli([...args, '--json'], { env: env(NOWHERE), timeoutMs: 60_000 })),
    );
    for (const result of results) {
      expect(result).toMatchObject({ code: 4, stdout: '' });
      expect(result.error().code).toBe('Unreachable');
      expect(result.error().message).toContain('127.0.0.1:9');
    }
  });

  test('start too, and nothing was written', async () => {
    const result = await runCli(['start', planFile('b', 'ALTER TABLE payment ADD COLUMN note text')], {
      env: env(NOWHERE),
    });
    expect(result.code).toBe(4);
    expect(await database.query(`SELECT nspname FROM pg_namespace WHERE nspname = 'pgshift'`)).toEqual([]);
  });
});

test('a bug of ours is exit 70, with its details in a file that only its owner reads', async () => {
  const home = mkdtempSync(join(folder, 'bug-'));
  chmodSync(home, 0o700);
  // A folder where the package's own file is expected makes loading it fail like a broken installation would.
  const result = await runCli(['plan', planFile('c', 'SELECT 1')], {
    env: env({
      PGSHIFT_HOME: home,
      NODE_OPTIONS: `--require ${write('break.js', 'JSON.parse = () => { throw new TypeError("broken"); };')}`,
    }),
  });
  expect(result.code).toBe(70);
  expect(result.stderr).toMatch(/error\[Bug\]/);
  const [report] = readdirSync(home).filter((name) => name.startsWith('bug-'));
  expect(readFileSync(join(home, report!), 'utf8')).toContain('TypeError: broken');
});
