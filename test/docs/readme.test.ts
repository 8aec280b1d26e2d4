/** README's "Your first change", typed exactly as it stands there: a fresh folder, `pgshift dev`, every command in its order. */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findPostgresBin, findTemporalCli } from '../../worker/embedded/tools';

const run = promisify(execFile);
const root = resolve(__dirname, '..', '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const scripts = (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> })
  .scripts;
const section = (title: string): string => readme.split(/^## /m).find((part) => part.startsWith(title)) ?? '';
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, 'gm'))].map((m) => m[1] ?? '');
const first = section('Your first change');
const lines = blocks(first, 'sh').flatMap((block) => block.trim().split('\n'));

test('its first two commands are the demo and the tests, and both exist', () => {
  expect(blocks(readme, 'sh').slice(0, 2)).toEqual(['npm ci && npm run demo\n', 'npm ci && npm test\n']);
  expect(scripts.demo).toMatch(/demo/);
  expect(scripts.test).toMatch(/jest/);
});

test('the first change is at most two screens away', () => {
  expect(readme.indexOf('## What it does')).toBeGreaterThan(0);
  expect(readme.slice(0, readme.indexOf('## What it does')).split('\n').length).toBeLessThan(100);
});

describe('the first change', () => {
  let folder: string;
  let dev: ChildProcess;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pgshift-readme-'));
    chmodSync(folder, 0o755); // Postgres runs as another user when the tests run as root
    const pgshift = join(root, 'dist', 'client', 'bin.js');
    const tools = [(await findPostgresBin()).path, dirname((await findTemporalCli()).path)];
    env = { ...process.env, PATH: [folder, ...tools, process.env.PATH].join(delimiter) };
    for (const name of Object.keys(env))
      if (/^(PGSHIFT_(?!CACHE|TEMPORAL_CLI|POSTGRES_BIN)|TEMPORAL_)/.test(name)) delete env[name];
    // In a checkout `npm run pgshift --` builds first; here the build is there.
    writeFileSync(
      join(folder, 'npm'),
      `#!/bin/sh\n[ "$1 $2 $3" = "run pgshift --" ] || exit 99\nshift 3\nexec "${process.execPath}" "${pgshift}" "$@"\n`,
      { mode: 0o755 },
    );
    dev = spawn('npm', ['run', 'pgshift', '--', 'dev', '--json'], {
      cwd: folder,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ready = await new Promise<string>((done, failed) => {
      if (dev.stdout) createInterface({ input: dev.stdout }).on('line', done);
      dev.once('exit', (code) => failed(new Error(`dev ended with ${code}`)));
    });
    // The Temporal CLI looks at 7233; where that port was taken, the one that dev chose.
    env.TEMPORAL_ADDRESS = (
      JSON.parse(ready.startsWith('{"') ? ready : '{}') as { temporalAddress?: string }
    ).temporalAddress;
  });
  afterAll(async () => {
    const gone = new Promise((done) => dev.once('exit', done));
    dev.kill('SIGTERM');
    await Promise.race([gone, sleep(40_000, null, { ref: false })]);
    rmSync(folder, { recursive: true, force: true });
  });

  test('every line works, in its order', async () => {
    expect(lines[0]).toBe('npm run pgshift -- dev');
    for (const block of blocks(first, 'yaml'))
      writeFileSync(join(folder, /^# (\S+)/.exec(block)?.[1] ?? 'plan.yaml'), block);
    const outputs: Record<string, string> = {};
    for (const line of lines.slice(1)) {
      // The signal is for the gate: the run that was started a moment ago must have come there.
      if (line.includes('workflow signal')) await sleep(2_000);
      const done = await run('sh', ['-c', line], { cwd: folder, env }).catch(
        (error: { stdout: string; stderr: string }) => {
          throw new Error(`${line}\n${error.stdout}\n${error.stderr}`);
        },
      );
      outputs[line] = done.stdout;
    }
    const said = (part: string): string => Object.entries(outputs).find(([line]) => line.includes(part))?.[1] ?? '';
    expect(said('plan price.yaml')).toContain('swap');
    expect(said('report 20261121')).toMatch(/public\.item\.price.*equal/);
    // The last two answers come when the run has done what it was told.
    await arrives(column('format_type(atttypid, atttypmod)', 'price'), 'numeric(10,2)');
    await arrives(column('count(*)', 'note'), '1');
  });

  const column = (what: string, name: string): string =>
    `psql -Atc "SELECT ${what} FROM pg_attribute WHERE attrelid = 'item'::regclass AND attname = '${name}'" ` +
    `"$(node -p "require('./.pgshift/dev.json').databases.app")"`;

  async function arrives(command: string, wanted: string): Promise<void> {
    let last = '';
    for (let tries = 0; tries < 100; tries += 1) {
      last = (await run('sh', ['-c', command], { cwd: folder, env })).stdout.trim();
      if (last === wanted) return;
      await sleep(200);
    }
    expect(last).toBe(wanted);
  }
});
