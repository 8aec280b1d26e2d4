/** Whoever stops the demo in the middle has nothing left running. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { markOf } from '../../../worker/embedded/process';
import { until } from '../../support/engine';
import { serverHome } from '../../support/serverHome';

const bin = resolve(__dirname, '../../../dist/client/bin.js');

test.each([
  ['SIGINT', 130, 'postgres'],
  ['SIGTERM', 143, 'started migration/'],
] as const)('%s in the middle ends its servers, and it exits %i', async (signal, code, there) => {
  const home = serverHome('demo');
  chmodSync(home, 0o755);
  const demo = spawn(process.execPath, [bin, 'demo', '--yes', '--rows', '5000'], {
    env: { ...process.env, PGSHIFT_HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  try {
    let said = '';
    demo.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const servers = (): (number | null)[] => {
      const { pids } = JSON.parse(readFileSync(join(home, 'demo', 'dev.json'), 'utf8')) as {
        pids: Record<'temporal' | 'postgres' | 'worker', number | null>;
      };
      return [pids.temporal, pids.postgres, pids.worker];
    };
    const living = (): number[] => servers().filter((pid) => pid !== null && markOf(pid) !== null) as number[];
    await until(() => {
      try {
        return Promise.resolve(there === 'postgres' ? living().length > 0 : said.includes(there));
      } catch {
        return Promise.resolve(false); // not written yet
      }
    }, 60_000);
    const before = living();
    expect(before.length).toBeGreaterThan(0);
    const ended = once(demo, 'exit');
    demo.kill(signal);
    expect(await ended).toEqual([code, null]);
    expect(before.filter((pid) => markOf(pid) !== null)).toEqual([]);
    expect(living()).toEqual([]);
    expect(said).toContain('nothing is left running');
  } finally {
    demo.kill('SIGKILL');
    rmSync(home, { recursive: true, force: true });
  }
});
