/** The demo itself, on a small shop: it ends, says what it measured, and what it claims about data holds. CI runs it by itself, on other data. */
import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import type { DemoPart } from '../../../client/demo/claims';
import { serverHome } from '../../support/serverHome';

const bin = resolve(__dirname, '../../../dist/client/bin.js');
/** Of time: on a machine that runs other tests at once they say nothing. CI runs the demo by itself, where they count. */
const OF_TIME = /^no (lock|client)/;

test('the demo kills, approves, changes, takes back, and loses nothing', () => {
  const home = serverHome('demo');
  chmodSync(home, 0o755);
  try {
    const run = spawnSync(process.execPath, [bin, 'demo', '--yes', '--json', '--rows', '60000', '--only', 'schema'], {
      env: { ...process.env, PGSHIFT_HOME: home },
      encoding: 'utf8',
      timeout: 400_000,
    });
    if (run.stdout === '') throw new Error(run.stderr);
    const { parts } = JSON.parse(run.stdout) as { parts: DemoPart[] };
    expect(parts.map((part) => part.name)).toEqual(['schema']);
    const claims = parts[0]?.claims ?? [];
    expect(claims.length).toBeGreaterThan(10);
    expect(claims.filter((claim) => !claim.holds && !OF_TIME.test(claim.says))).toEqual([]);
    expect(parts[0]?.passed).toBe(claims.every((claim) => claim.holds));
    expect(run.status).toBe(parts[0]?.passed ? 0 : 1);
    expect(parts[0]?.measured).toMatchObject({ rows: 60_000, rowsDiffering: 0, catalogAfterRollback: [] });
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}, 420_000);

test('an unknown chapter is refused', () => {
  const run = spawnSync(process.execPath, [bin, 'demo', '--yes', '--only', 'nothing'], { encoding: 'utf8' });
  expect([run.status, run.stderr]).toEqual([2, expect.stringContaining('InvalidUsage')]);
});
