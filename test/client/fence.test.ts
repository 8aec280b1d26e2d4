/** The built command on two databases, with no Temporal anywhere. */
import { fence } from '../../postgres/switch/fence';
import { arm, lift } from '../../postgres/switch/guard';
import { settleRoutes } from '../../postgres/switch/routes';
import { runCli } from '../support/cli';
import type { TestPair } from '../support/pair';
import { stateOf, SWITCH, testPair } from '../support/pair';
import { fencing } from '../support/switchRun';

interface Status {
  readonly writable: string | null;
  readonly epoch: number;
  readonly guard: string | null;
  readonly blue: Record<string, unknown>;
  readonly green: Record<string, unknown>;
}

describe('pgshift fence', () => {
  let t: TestPair;
  beforeEach(async () => {
    t = await testPair([18, 18], 'CREATE TABLE a (id int PRIMARY KEY)');
  });
  afterEach(() => t.drop());

  const env = (more: Readonly<Record<string, string>> = {}) => ({
    PGSHIFT_DATABASE_BLUE: t.blue.url,
    PGSHIFT_DATABASE_GREEN: t.green.url,
    TEMPORAL_ADDRESS: '127.0.0.1:9',
    PGSHIFT_HOME: '/nonexistent',
    ...more,
  });
  const run = (args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
    runCli(['fence', ...args], { env: env(more) });
  const both = ['--blue', 'blue', '--green', 'green'];
  const fenceBlue = async () => {
    const epoch = await arm(t.both, SWITCH, 'blue');
    const attempt = { from: 'blue', to: 'green', epoch } as const;
    await fence(t.both.blue, SWITCH, attempt, fencing);
    return attempt;
  };

  test('status: for people and as JSON; one name is enough', async () => {
    const plain = await run(['status', ...both]);
    expect(plain).toMatchObject({ code: 0, stderr: '' });
    expect(plain.stdout).toContain('blue takes the writes');
    const json = (await run(['status', '--green', 'green', '--json'])).json<Status>();
    expect(json).toMatchObject({ writable: 'blue', epoch: 1, guard: SWITCH });
    expect(json.blue).toMatchObject({ database: 'blue', reachable: true, writable: true, walled: 0 });
    expect(Object.keys(json)).toEqual(expect.arrayContaining(['blue', 'green', 'writable', 'epoch', 'guard']));
  });

  test('release: in the middle of a switch, asked for, repaired, again', async () => {
    await fenceBlue();
    const middle = await run(['status', ...both]);
    expect(middle.code).toBe(0);
    expect(middle.stdout).toContain('NEITHER');
    expect((await run(['release', ...both])).code).toBe(2); // nobody is there to ask
    const done = await run(['release', ...both, '--yes', '--json']);
    expect(done.code).toBe(0);
    expect(done.json<Status & { released: unknown }>()).toMatchObject({
      writable: 'blue',
      released: { side: 'blue', did: 'taken back' },
    });
    expect(await stateOf(await t.blue.client(), 'INSERT INTO a VALUES (1)')).toBe('none');
    expect((await run(['release', ...both, '--yes'])).stdout).toContain('blue: nothing');
    expect(await t.blue.query(`SELECT by IS NOT NULL AS who, via, reason FROM pgshift.audit ORDER BY id`)).toEqual([
      { who: true, via: 'cli', reason: 'blue: taken back' },
      { who: true, via: 'cli', reason: 'blue: nothing' },
    ]);
  });

  test('never two: exit 3; routes follow the side that writes', async () => {
    const routes = [{ route: 'app', sides: { blue: 'old', green: 'new' } }];
    for (const side of ['blue', 'green'] as const) {
      await t.both[side].run(`INSERT INTO pgshift.routes (route, side, epoch, paused) VALUES ('app', 'old', 4, true)`);
      await t.both[side].run(`UPDATE pgshift.guard SET details = details || jsonb_build_object('routes', $1::jsonb)`, [
        JSON.stringify(routes),
      ]);
    }
    const attempt = await fenceBlue();
    await lift(t.both, SWITCH, attempt);
    const refused = await run(['release', ...both, '--side', 'blue', '--yes', '--json']);
    expect(refused.code).toBe(3);
    expect(refused.error().code).toBe('NotAllowed');
    expect((await run(['release', ...both, '--yes'])).stdout).toContain('routes app point at green');
    for (const side of ['blue', 'green'] as const)
      expect(await t[side].query(`SELECT side, epoch, paused FROM pgshift.routes`)).toEqual([
        { side: 'new', epoch: '5', paused: false },
      ]);
    expect(await settleRoutes(t.both, routes, 'green', 9)).toEqual([]);
    await t.both.blue.run('UPDATE pgshift.guard SET writable = true');
    const two = await run(['status', ...both]);
    expect(two.code).toBe(3);
    expect(two.stdout).toContain('BOTH');
    expect((await run(['release', ...both, '--yes'])).code).toBe(3);
  });

  test('bad input and servers that are away', async () => {
    expect((await run(['open', ...both])).code).toBe(2);
    expect((await run(['status'])).code).toBe(2);
    expect((await run(['status', '--blue', 'blue', '--green', 'blue', '--json'])).error().code).toBe('SameDatabase');
    const same = await run(['status', ...both, '--json'], { PGSHIFT_DATABASE_GREEN: t.blue.url });
    expect(same.error().code).toBe('SameDatabase');
    const turned = await run(['status', '--blue', 'green', '--green', 'blue', '--json']);
    expect(turned.error().code).toBe('InvalidUsage');
    await fenceBlue();
    const nowhere = t.green.url.replace(/:\d+\//, ':9/');
    const half = await run(['status', ...both, '--json'], { PGSHIFT_DATABASE_GREEN: nowhere });
    expect(half.code).toBe(0);
    expect(half.json<Status>()).toMatchObject({ writable: null, green: { reachable: false } });
    expect((await run(['release', ...both, '--yes', '--side', 'blue'], { PGSHIFT_DATABASE_GREEN: nowhere })).code).toBe(
      3,
    );
    const gone = await run(['status', ...both], { PGSHIFT_DATABASE_GREEN: nowhere, PGSHIFT_DATABASE_BLUE: nowhere });
    expect(gone.code).toBe(4);
  });
});
