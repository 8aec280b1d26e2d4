import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  lstatSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { findDatabase, leadsTo, parseSettings, pointLine, replaceFile } from '../../traffic/pgbouncer/databasesFile';

const GREEN = { host: '10.0.0.2', port: 5433, database: 'app' };
const pointed = (
  text: string,
  database = 'app',
  to: typeof GREEN | (Omit<typeof GREEN, 'database'> & { database: null }) = GREEN,
) => {
  const line = findDatabase(text, database);
  return typeof line === 'string' ? line : pointLine(text, line, database, to);
};

const FILE = `; host=1.1.1.1
[databases]
# app = host=commented
other = host=10.0.0.1 port=5432 dbname=app
  app =  host=10.0.0.1   port=5432 dbname=app pool_size=7 connect_query='select ''host=x'''\r
"odd ""name" = host=h
* = host=10.0.0.1

[pgbouncer]
app = host=not-a-database
`;

describe("PgBouncer's databases file", () => {
  test('changes one line alone, and in it only where it leads', () => {
    expect(pointed(FILE)).toBe(
      FILE.replace(
        "host=10.0.0.1   port=5432 dbname=app pool_size=7 connect_query='select ''host=x'''",
        "host=10.0.0.2   port=5433 dbname=app pool_size=7 connect_query='select ''host=x'''",
      ),
    );
    expect(pointed(FILE, 'odd "name', { host: '::1', port: 5432, database: null })).toBe(
      FILE.replace('= host=h\n', '= host=::1\n'),
    );
  });

  test('is the same text again after there and back', () => {
    const blue = { host: '10.0.0.1', port: 5432, database: 'app' };
    const text = FILE.replace(" connect_query='select ''host=x'''", '');
    expect(pointed(pointed(text), 'app', blue)).toBe(text);
    expect(pointed(text, 'app', blue)).toBe(text);
  });

  test('adds what was left to a default', () => {
    expect(pointed('[databases]\napp =\n')).toBe('[databases]\napp =host=10.0.0.2 port=5433\n');
    expect(pointed('[databases]\nshop = host=a', 'shop')).toBe(
      '[databases]\nshop = host=10.0.0.2 port=5433 dbname=app',
    );
  });

  test.each([
    ['no such line', '[databases]\nother = host=a\n'],
    ['no such line', 'app = host=a\n'],
    ['no such line', '[databases]\n;app = host=a\n[users]\napp = host=b\n'],
    ['more than one line', '[databases]\napp = host=a\napp = host=b\n'],
    ['cannot be read', '[databases]\napp = host=a broken\n'],
    ['cannot be read', "[databases]\napp = host='a\n"],
  ])('%s: %j', (expected, text) => expect(findDatabase(text, 'app')).toBe(expected));

  test('whatever the settings are: it leads where it should, and the others stay', () => {
    const value = fc
      .string({ unit: fc.constantFrom(...'ab1 =\'"/.;#-host=port=dbname=') })
      .filter((v) => !/[\r\n]/.test(v));
    const settings = fc.array(
      fc.tuple(fc.constantFrom('host', 'port', 'dbname', 'pool_size', 'connect_query'), value),
      {
        maxLength: 6,
      },
    );
    fc.assert(
      fc.property(settings, (list) => {
        const line = list.map(([key, v]) => `${key}='${v.replaceAll("'", "''")}'`).join(' ');
        const before = `[databases]\nx = host=x\napp = ${line}\ny = host=y\n`;
        const after = pointed(before);
        const found = findDatabase(after, 'app');
        if (typeof found === 'string') return false;
        const kept = (all: readonly (readonly [string, string])[]) =>
          JSON.stringify(all.filter(([key]) => !['host', 'port', 'dbname'].includes(key)));
        expect(leadsTo(found, 'app')).toEqual(GREEN);
        expect(kept(found.settings)).toBe(kept(list));
        return after.startsWith('[databases]\nx = host=x\napp = ') && after.endsWith('\ny = host=y\n');
      }),
    );
    expect(parseSettings("a = 'it''s' b=2")).toEqual([
      ['a', "it's"],
      ['b', '2'],
    ]);
  });

  test('owner, mode and link stay; nothing lies beside it afterwards', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pgshift-file-'));
    const real = join(folder, 'real.ini');
    const link = join(folder, 'databases.ini');
    writeFileSync(real, 'before');
    chmodSync(real, 0o2640);
    if (process.getuid?.() === 0) chownSync(real, 65534, 65534);
    const { uid, gid, mode } = statSync(real);
    symlinkSync(real, link);
    await replaceFile(link, 'after, and longer');
    await replaceFile(link, 'end');
    expect(readFileSync(real, 'utf8')).toBe('end');
    expect(statSync(real)).toMatchObject({ uid, gid, mode });
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect((await import('node:fs')).readdirSync(folder).sort()).toEqual(['databases.ini', 'real.ini']);
    rmSync(folder, { recursive: true });
  });
});
