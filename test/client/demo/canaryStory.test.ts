/** The chapter of the canary on a small shop: each fault of the new side is found at the first stage, and nobody above it was ever there. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { DemoPart } from '../../../client/demo/claims';
import { WHOLE } from '../../support/whole';

const bin = resolve(__dirname, '../../../dist/client/bin.js');

const inWhole = WHOLE ? test : test.skip;

inWhole(
  'three faults, each found and taken back by itself',
  () => {
    const home = mkdtempSync(join(tmpdir(), 'pgshift-demo-'));
    chmodSync(home, 0o755);
    try {
      const run = spawnSync(process.execPath, [bin, 'demo', '--yes', '--json', '--rows', '60000', '--only', 'canary'], {
        env: { ...process.env, PGSHIFT_HOME: home },
        encoding: 'utf8',
        timeout: 400_000,
      });
      if (run.stdout === '') throw new Error(run.stderr);
      const { parts } = JSON.parse(run.stdout) as { parts: DemoPart[] };
      expect(parts.map(({ name }) => name)).toEqual(['canary']);
      const claims = parts[0]?.claims ?? [];
      expect(claims.filter(({ holds }) => !holds)).toEqual([]);
      expect(claims).toHaveLength(11);
      expect(run.status).toBe(0);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
  420_000,
);
