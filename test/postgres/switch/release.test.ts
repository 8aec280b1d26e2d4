/** A switch that dies anywhere is told apart and repaired with nothing but the two databases; acknowledged writes are kept. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Client } from 'pg';
import type { CrashPoint } from '../../../postgres/crashPoints';
import { fence, takeBack } from '../../../postgres/switch/fence';
import { arm } from '../../../postgres/switch/guard';
import { dropDirection, leavings } from '../../../postgres/switch/replicate';
import type { ReleaseOptions } from '../../../postgres/switch/release';
import { fenceStatus, release } from '../../../postgres/switch/release';
import type { Side } from '../../../plan/model/traffic';
import { connectGrants } from '../../../postgres/switch/connect';
import { walledTables } from '../../../postgres/switch/wall';
import { codeOf } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { SWITCH, stateOf, testPair } from '../../support/pair';
import { caughtUp, fencing, patience, signal, switchOver, syncEmpty } from '../../support/switchRun';
import type { SwitchOrder } from '../../support/switchProcess';

const SETUP = `CREATE TABLE ledger (client int, n int, PRIMARY KEY (client, n)); CREATE TABLE t (id bigserial PRIMARY KEY, v text)`;
const names = { blue: 'blue', green: 'green' };

/** Writes until it is told to stop; remembers what was acknowledged. Comes back to whichever side takes writes. */
class Writer {
  readonly acknowledged: number[] = [];
  going = true;
  #done: Promise<void>;
  constructor(
    readonly t: TestPair,
    readonly id: number,
  ) {
    this.#done = this.#run();
  }
  async #run(): Promise<void> {
    for (let n = 0, side: Side = 'blue'; this.going;) {
      const client = new Client({ connectionString: this.t[side].url, application_name: 'writer' });
      client.on('error', () => undefined);
      try {
        await client.connect();
        while (this.going) {
          n += 1;
          await client.query('INSERT INTO ledger VALUES ($1, $2)', [this.id, n]);
          this.acknowledged.push(n);
        }
      } catch {
        side = side === 'blue' ? 'green' : 'blue';
        await new Promise((resolve) => setTimeout(resolve, 5));
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }
  async stop(): Promise<void> {
    this.going = false;
    await this.#done;
  }
}

function runChild(order: Omit<SwitchOrder, 'migration' | 'blue' | 'green'>, t: TestPair, at: string) {
  const support = join(__dirname, '../../support');
  const child = spawn(process.execPath, ['-r', join(support, 'register.js'), join(support, 'switchProcess.ts')], {
    env: { ...process.env, PGSHIFT_CRASH_AT: at },
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  child.stdin.end(JSON.stringify({ ...order, migration: SWITCH, blue: t.blue.url, green: t.green.url }));
  return new Promise<NodeJS.Signals | number | null>((resolve) =>
    child.once('exit', (code, killed) => resolve(killed ?? code)),
  );
}

describe('release', () => {
  let t: TestPair;
  const options = (side: Side | null = null): ReleaseOptions => ({
    side,
    sequenceGap: 1_000,
    by: 'test',
    lockTimeoutMs: 200,
    deadlineMs: 10_000,
    signal,
  });
  const releaseNow = (side: Side | null = null) => release(t.both, t.pair, options(side));
  const status = () => fenceStatus(t.both, names);
  const writes = async (side: Side) => {
    const client = await t[side].client();
    const state = await stateOf(client, `INSERT INTO t (v) VALUES ('x')`);
    await client.end();
    return state;
  };
  beforeEach(async () => {
    t = await testPair([18, 18], SETUP);
  });
  afterEach(() => t.drop());

  const points: readonly (readonly [CrashPoint, Side, string])[] = [
    ['wayback.published', 'blue', 'repaired'],
    ['wayback.slot', 'blue', 'repaired'],
    ['switch.armed', 'blue', 'repaired'],
    ['fence.revoked', 'blue', 'repaired'],
    ['fence.walled', 'blue', 'taken back'],
    ['wayback.ready', 'blue', 'taken back'],
    ['lift.before', 'blue', 'taken back'],
    ['lift.after', 'green', 'repaired'],
    ['unfence.granted', 'green', 'repaired'],
  ];
  test.each(points)(
    'killed at %s under writes: %s takes them again, and nothing acknowledged is lost',
    async (point, side, did) => {
      await syncEmpty(t.both, t.pair);
      const grants = await connectGrants(t.both.blue);
      const writers = [1, 2, 3].map((id) => new Writer(t, id));
      await new Promise((resolve) => setTimeout(resolve, 150));
      expect(await runChild({ from: 'blue', do: 'switch' }, t, point)).toBe('SIGKILL');
      const between = await status();
      expect(between.writable).not.toBe('both');
      expect(between.writable).not.toBeNull();
      // What would make two is refused, whatever the moment.
      if (between.writable === 'green') expect(await codeOf(releaseNow('blue'))).toBe('NotAllowed');
      if (between.writable === 'blue') expect(await codeOf(releaseNow('green'))).toBe('NotAllowed');
      const done = await releaseNow();
      expect(done.side).toBe(side);
      expect([did, 'nothing']).toContain(done.did);
      expect(await status()).toMatchObject({ writable: side, [side]: { writable: true, walled: 0, closed: false } });
      await new Promise((resolve) => setTimeout(resolve, 150));
      await Promise.all(writers.map((writer) => writer.stop()));
      expect(await writes(side)).toBe('none');
      expect(await writes(side === 'blue' ? 'green' : 'blue')).toBe('25006');
      if (side === 'blue') {
        expect(await connectGrants(t.both.blue)).toEqual(grants);
        await caughtUp(t.both, t.pair, 'forward');
      } else await caughtUp(t.both, t.pair, 'reverse');
      for (const one of ['blue', 'green'] as const)
        for (const writer of writers) {
          const rows = await t[one].query<{ n: number }>('SELECT n FROM ledger WHERE client = $1', [writer.id]);
          const there = new Set(rows.map(({ n }) => n));
          expect(rows).toHaveLength(there.size);
          expect(writer.acknowledged.filter((n) => !there.has(n))).toEqual([]);
        }
      expect(writers.every((writer) => writer.acknowledged.length > 0)).toBe(true);
      expect((await releaseNow()).did).toBe('nothing');
      // And it can be tried again, or ended, with nothing left.
      if (side === 'blue') {
        await switchOver(t.both, t.pair, 'blue');
        expect((await status()).writable).toBe('green');
      }
      for (const direction of ['forward', 'reverse'] as const) await dropDirection(t.both, t.pair, direction, patience);
      await releaseNow();
      const left = await leavings(t.both);
      expect(left.filter(({ what, side: at }) => what !== 'guard' && !(what === 'wall' && at === 'blue'))).toEqual([]);
    },
  );

  test.each(['unfence.disarmed', 'unfence.opened', 'unfence.granted'] as const)(
    'taking back is killed at %s: done again, it is as it was',
    async (point) => {
      await syncEmpty(t.both, t.pair);
      const grants = await connectGrants(t.both.blue);
      const epoch = await arm(t.both, SWITCH, 'blue');
      await fence(t.both.blue, SWITCH, { from: 'blue', to: 'green', epoch }, fencing);
      expect(await runChild({ from: 'blue', do: 'take back' }, t, point)).toBe('SIGKILL');
      expect((await status()).writable).toBe(point === 'unfence.disarmed' ? 'none' : 'blue');
      await takeBack(t.both, SWITCH, 'blue', fencing);
      expect(await connectGrants(t.both.blue)).toEqual(grants);
      expect(await walledTables(t.both.blue)).toBe(0);
      expect(await writes('blue')).toBe('none');
    },
  );

  test('forward out of the middle only with everything on the other side', async () => {
    await syncEmpty(t.both, t.pair);
    await t.both.green.run(
      `ALTER SUBSCRIPTION ${(await leavings(t.both)).find(({ what }) => what === 'subscription')?.name ?? ''} DISABLE`,
    );
    await t.blue.query(`INSERT INTO t (v) SELECT 'not there yet' FROM generate_series(1, 50)`);
    const epoch = await arm(t.both, SWITCH, 'blue');
    await fence(t.both.blue, SWITCH, { from: 'blue', to: 'green', epoch }, fencing);
    expect(await codeOf(releaseNow('green'))).toBe('NotNow');
    await t.both.green.run(
      `ALTER SUBSCRIPTION ${(await leavings(t.both)).find(({ what }) => what === 'subscription')?.name ?? ''} ENABLE`,
    );
    await caughtUp(t.both, t.pair, 'forward');
    expect(await releaseNow('green')).toMatchObject({ side: 'green', did: 'lifted' });
    expect(await t.green.query(`INSERT INTO t (v) VALUES ('on') RETURNING id`)).toEqual([{ id: '1051' }]);
    expect(await codeOf(releaseNow('blue'))).toBe('NotAllowed');
  });

  test('with one side away it opens only what cannot make two', async () => {
    const half = { blue: t.both.blue, green: null };
    expect(await release(half, t.pair, options())).toMatchObject({ side: 'blue', did: 'nothing' });
    const epoch = await arm(t.both, SWITCH, 'blue');
    await fence(t.both.blue, SWITCH, { from: 'blue', to: 'green', epoch }, fencing);
    expect(await fenceStatus(half, names)).toMatchObject({ writable: null, green: { reachable: false } });
    expect(await codeOf(release(half, t.pair, options('blue')))).toBe('NotAllowed');
    expect(await codeOf(release({ blue: null, green: t.both.green }, t.pair, options('green')))).toBe('NotAllowed');
    expect((await release(t.both, t.pair, options('blue'))).did).toBe('taken back');
  });
});
