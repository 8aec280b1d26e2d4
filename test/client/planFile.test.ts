/** A plan file that is refused says where: file, line, column and a caret; what may be a secret is never echoed. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pico from 'picocolors';
import { loadPlan, placedInPlan } from '../../client/planFile';
import { renderProblem } from '../../client/render/error';
import { isProblem } from '../../plan/model/errors';
import type { Problem } from '../../plan/model/errors';
import { loadParser, parseSql } from '../../plan/sql/parse';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'pgshift-plan-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const write = (text: string, name = 'plan.yaml'): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

const refusal = (text: string, name?: string): Problem => {
  try {
    loadPlan(write(text, name));
  } catch (error) {
    if (isProblem(error)) return error;
    throw error;
  }
  throw new Error('it was taken');
};

const HEAD = 'kind: schema-migration\nname: add_tier\ndatabase: app\n';
const SQL = 'sql: ALTER TABLE customer ADD COLUMN tier text\n';

interface Case {
  readonly what: string;
  readonly text: string;
  readonly code?: string;
  /** line:column */
  readonly at: string;
  readonly caret?: string;
  readonly says: RegExp;
}

const CASES: readonly Case[] = [
  {
    what: 'an unknown key',
    text: `${HEAD}${SQL}colour: red\n`,
    at: '5:1',
    caret: 'colour',
    says: /colour: unknown key/,
  },
  {
    what: 'an unknown key inside',
    text: `${HEAD}${SQL}throttle:\n  maxReplicationLag: 5s\n  maxLag: 5s\n`,
    at: '7:3',
    caret: 'maxLag',
    says: /throttle\.maxLag: unknown key/,
  },
  {
    what: 'a key twice',
    text: `${HEAD}name: other\n${SQL}`,
    at: '4:1',
    caret: 'name',
    says: /name: a key is there twice/,
  },
  { what: 'a wrong type', text: `${HEAD}${SQL}hold: 24\n`, at: '5:7', caret: '24', says: /hold: .*string/ },
  {
    what: 'a bad duration',
    text: `${HEAD}${SQL}hold: 24 hours\n`,
    at: '5:7',
    caret: '24 hours',
    says: /hold: not a duration/,
  },
  {
    what: 'a bad rate',
    text: `${HEAD}${SQL}throttle: { maxWalRate: 50MB }\n`,
    at: '5:25',
    caret: '50MB',
    says: /maxWalRate/,
  },
  {
    what: 'a name that is none',
    text: HEAD.replace('add_tier', 'Add Tier') + SQL,
    at: '2:7',
    caret: 'Add Tier',
    says: /name: a name is/,
  },
  {
    what: 'a required key that is missing',
    text: `kind: schema-migration\nname: a\n${SQL}`,
    at: '1:1',
    says: /database: is required/,
  },
  { what: 'no SQL at all', text: HEAD, at: '1:1', says: /sql: sql or sqlFile is required/ },
  { what: 'SQL twice', text: `${HEAD}${SQL}sqlFile: a.sql\n`, at: '5:10', says: /not both/ },
  {
    what: 'a kind that is none',
    text: 'kind: schema\nname: a\n',
    at: '1:7',
    caret: 'schema',
    says: /kind: not one of/,
  },
  {
    what: 'a kind that is not built',
    code: 'NotYet',
    text: 'kind: fleet\nname: a\n',
    at: '1:1',
    says: /not built yet/,
  },
  {
    what: 'a key that is not built',
    code: 'NotYet',
    text: `${HEAD}${SQL}versions: { from: v1, to: v2 }\n`,
    at: '5:1',
    caret: 'versions',
    says: /versions: not built yet/,
  },
  { what: 'a gate of no phase', text: `${HEAD}${SQL}gates: { swap: manual }\n`, at: '5:10', says: /gates\.swap/ },
  { what: 'a hook of no phase', text: `${HEAD}${SQL}hooks:\n  before:lunch: []\n`, at: '6:3', says: /before:<phase>/ },
  {
    what: 'a transform whose key holds a dot',
    text: `${HEAD}${SQL}transforms:\n  payment.amount: { up: 3 }\n`,
    at: '6:25',
    caret: '3',
    says: /transforms\.payment\.amount\.up/,
  },
  {
    what: 'an item of a list',
    text: `${HEAD}${SQL}allow:\n  - rule: a\n    reason: b\n  - rule: c\n`,
    at: '8:5',
    says: /allow\[1\]\.reason/,
  },
  {
    what: 'itself as a dependency',
    code: 'DependencyCycle',
    text: `${HEAD}${SQL}dependsOn: [add_tier]\n`,
    at: '5:12',
    says: /itself/,
  },
  { what: 'broken YAML', text: `${HEAD}sql: |\n  SELECT 1\n bad: [\n`, at: '6:1', says: /./ },
  { what: 'broken JSON', text: '{"kind": "schema-migration",\n "name": }', at: '2:10', says: /./ },
  { what: 'two documents', text: `${HEAD}${SQL}---\nname: b\n`, at: '5:1', says: /document/ },
  { what: 'a list', text: '- a\n', at: '1:1', says: /a plan is a map of keys/ },
  { what: 'nothing', text: '', at: '1:1', says: /a plan is a map of keys/ },
];

test.each(CASES)('$what is refused with its place', ({ text, code = 'InvalidPlan', at, caret, says }) => {
  const problem = refusal(text);
  expect(problem.code).toBe(code);
  expect(problem.message).toMatch(says);
  expect(`${problem.where?.line}:${problem.where?.column}`).toBe(at);
  if (caret === undefined) return;
  const shown = renderProblem(problem, pico.createColors(false)).split('\n');
  const carets = shown.findIndex((line) => /^ {3}\| *\^+$/.test(line));
  const from = shown[carets]!.indexOf('^');
  expect(shown[carets - 1]!.slice(from, from + caret.length)).toBe(caret);
  expect(shown[carets]!.slice(from)).toBe('^'.repeat(caret.length));
});

describe('a URL in place of a name', () => {
  const SECRET = 'postgres://shop:s3cr3t@db.example.org/shop';
  test.each([
    ['database', `${HEAD.replace('database: app', `database: ${SECRET}`)}${SQL}`],
    [
      'database of a condition',
      `${HEAD}${SQL}health: [{ name: a, source: sql, query: SELECT 1, failWhen: value > 1, database: "${SECRET}" }]\n`,
    ],
    ['a key', `${HEAD}${SQL}"${SECRET}": 1\n`],
    ['a name', `${HEAD.replace('add_tier', SECRET)}${SQL}`],
    ['a broken line', `${HEAD}${SQL}x: [${SECRET}\n`],
  ])('as %s is refused and not echoed', (_what, text) => {
    const problem = refusal(text);
    const shown = renderProblem(problem, pico.createColors(false));
    expect(problem.code).toBe('InvalidPlan');
    expect(shown + JSON.stringify(problem)).not.toMatch(/s3cr3t|db\.example\.org\/shop/);
    expect(shown).toMatch(/-->.*:\d+:\d+/);
  });

  test('given by flag is refused too', () => {
    const path = write(`${HEAD}${SQL}`);
    expect(() => loadPlan(path, { database: SECRET })).toThrow(/never a URL/);
  });
});

describe('SQL in a plan', () => {
  const find = (name: string, text: string, word: string): string => {
    const loaded = loadPlan(write(text, name));
    const at = loaded.sql.indexOf(word);
    const before = loaded.sql.slice(0, at).split('\n');
    const where = loaded.at(before.length, before.at(-1)!.length + 1, word.length);
    expect(where.text!.slice(where.column! - 1, where.column! - 1 + word.length)).toBe(word);
    return `${where.line}:${where.column}`;
  };

  test.each([
    ['a literal block', 'p.yaml', `${HEAD}sql: |\n  ALTER TABLE a\n    ADD COLUMN tier text;\n`, '6:16'],
    [
      'a literal block that is stripped',
      'p.yaml',
      `${HEAD}sql: |-\n\n    ALTER TABLE a ADD\n    COLUMN tier text`,
      '7:12',
    ],
    ['a literal block with its indentation named', 'p.yaml', `${HEAD}sql: |2\n    ALTER TABLE a ADD tier text`, '5:23'],
    ['a folded block', 'p.yaml', `${HEAD}sql: >\n  ALTER TABLE a\n  ADD COLUMN tier text;\n`, '6:14'],
    ['a plain scalar', 'p.yaml', `${HEAD}sql: ALTER TABLE a ADD COLUMN tier text\n`, '4:31'],
    [
      'a single-quoted scalar',
      'p.yaml',
      `${HEAD}sql: 'ALTER TABLE a ADD COLUMN x text DEFAULT ''y'', ADD tier text'\n`,
      '4:58',
    ],
    ['a double-quoted scalar', 'p.yaml', `${HEAD}sql: "ALTER TABLE \\"a\\"\\n\\tADD COLUMN tier text"\n`, '4:39'],
    [
      'Windows line ends',
      'p.yaml',
      `${HEAD}sql: |\n  ALTER TABLE a\n    ADD COLUMN tier text;\n`.replace(/\n/g, '\r\n'),
      '6:16',
    ],
    [
      'JSON',
      'p.json',
      '{"kind":"schema-migration","name":"a","database":"app",\n "sql":"ALTER TABLE a\\n ADD COLUMN tier text"}',
      '2:36',
    ],
  ])('%s is mapped back to its line and column', (_what, name, text, at) => {
    expect(find(name, text, 'tier')).toBe(at);
  });

  test('a syntax error stands in the plan file, with a caret', async () => {
    await loadParser();
    const loaded = loadPlan(
      write(`${HEAD}sql: |\n  ALTER TABLE a ADD COLUMN b int;\n  ALTER TABEL a DROP COLUMN b;\n`),
    );
    let error: unknown;
    try {
      parseSql(loaded.sql);
    } catch (thrown) {
      error = placedInPlan(thrown, loaded);
    }
    expect(isProblem(error) && error.code).toBe('SqlSyntax');
    const shown = renderProblem(error as Problem, pico.createColors(false));
    expect(shown).toMatch(/plan\.yaml:6:9\n/);
    expect(shown).toContain('   |   ALTER TABEL a DROP COLUMN b;\n   |         ^');
  });

  test('sqlFile is inlined from beside the plan, and places are its own', () => {
    mkdirSync(join(folder, 'sql'));
    write('ALTER TABLE a\n  ADD COLUMN b int;\n', 'sql/a.sql');
    const loaded = loadPlan(write(`${HEAD}sqlFile: sql/a.sql\n`));
    expect(loaded.input).toEqual({ kind: 'schema-migration', name: 'add_tier', database: 'app', sql: loaded.sql });
    expect(loaded.plan.sqlFile).toBeUndefined();
    expect(loaded.at(2, 3)).toMatchObject({
      file: join(folder, 'sql/a.sql'),
      line: 2,
      column: 3,
      text: '  ADD COLUMN b int;',
    });
  });

  test('an sqlFile that is not there is refused where the plan names it', () => {
    const problem = refusal(`${HEAD}sqlFile: gone.sql\n`);
    expect(problem.code).toBe('NoSuchFile');
    expect(problem.where).toMatchObject({ line: 4, column: 10 });
  });
});

describe('a .sql file', () => {
  test('is a schema migration under its own name', () => {
    const loaded = loadPlan(write('SELECT 1;', 'add_index.sql'), { database: 'app' });
    expect(loaded.input).toEqual({ kind: 'schema-migration', name: 'add_index', database: 'app', sql: 'SELECT 1;' });
  });

  test('needs --database', () => {
    expect(() => loadPlan(write('SELECT 1;', 'a.sql'))).toThrow(/does not say its database/);
  });

  test('with a name that no migration may have is refused', () => {
    expect(() => loadPlan(write('SELECT 1;', 'Add Index.sql'), { database: 'app' })).toThrow(/the file's name/);
  });
});

test('flags win over the file', () => {
  const loaded = loadPlan(write(`${HEAD}${SQL}`), { database: 'other', dryRun: true });
  expect(loaded.plan).toMatchObject({ database: 'other', mode: 'dry-run' });
  expect(loaded.input).toMatchObject({ database: 'other', mode: 'dry-run' });
});

test('a file that is not there', () => {
  expect(() => loadPlan(join(folder, 'none.yaml'))).toThrow(/does not exist/);
  expect(() => loadPlan(folder)).toThrow(/is a folder/);
});
