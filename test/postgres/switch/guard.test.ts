import {
  arm,
  disarm,
  guardsIn,
  lift,
  openGuards,
  readGuard,
  reopen,
  updateGuard,
} from '../../../postgres/switch/guard';
import type { Attempt } from '../../../postgres/switch/guard';
import { readBoth } from '../../../postgres/switch/fence';
import { refuseSame } from '../../../postgres/switch/pair';
import { verdictOf } from '../../../postgres/switch/verdict';
import type { Both } from '../../../postgres/switch/pair';
import { describeVersions } from '../../support/database';
import { codeOf } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { SWITCH, testPair } from '../../support/pair';

/** What the fence does to the row, without a wall. */
async function fenceRow(both: Both, { from, epoch }: Attempt): Promise<void> {
  const row = await readGuard(both[from], SWITCH);
  if (row === null) throw new Error('no row');
  await updateGuard(both[from], row, { writable: false, patch: { position: { lsn: '0/1', epoch } } });
}
const attemptOf = (epoch: number): Attempt => ({ from: 'blue', to: 'green', epoch });

describeVersions('guard rows', (version) => {
  let t: TestPair;
  beforeEach(async () => {
    t = await testPair([version, version], '');
  });
  afterEach(() => t.drop());
  const writable = async () => verdictOf(await readBoth(t.both, SWITCH)).writable;

  test('begin with blue writable, are made once, and know other switches', async () => {
    expect(await writable()).toBe('blue');
    await openGuards(t.both, SWITCH, { names: { blue: 'blue', green: 'green' } });
    expect(await guardsIn(t.both.blue)).toHaveLength(1);
    expect(await codeOf(openGuards(t.both, 'other', { names: { blue: 'b', green: 'g' } }))).toBe('NotNow');
    const turned = { blue: t.both.green, green: t.both.blue };
    expect(await codeOf(openGuards(turned, SWITCH, { names: { blue: 'g', green: 'b' } }))).toBe('NotNow');
  });

  test('two connections to one database are refused, two databases of one server are not', async () => {
    const again = await t.session('blue');
    expect(await codeOf(refuseSame({ blue: t.both.blue, green: again }))).toBe('SameDatabase');
    await refuseSame(t.both);
  });

  test('a switch there and back: exactly one side, epochs rise', async () => {
    const epoch = await arm(t.both, SWITCH, 'blue');
    expect(await writable()).toBe('blue');
    expect(await codeOf(lift(t.both, SWITCH, attemptOf(epoch)))).toBe('FenceBroken'); // blue is not fenced yet
    await fenceRow(t.both, attemptOf(epoch));
    expect(await writable()).toBe('none');
    expect(await lift(t.both, SWITCH, attemptOf(epoch))).toBe('lifted');
    expect(await writable()).toBe('green');
    expect(await lift(t.both, SWITCH, attemptOf(epoch))).toBe('already');
    // After the point of no return nothing opens blue again but a switch back.
    expect(await codeOf(disarm(t.both.green, SWITCH))).toBe('NotNow');
    expect(await codeOf(arm(t.both, SWITCH, 'blue'))).toBe('NotNow');
    const back = await arm(t.both, SWITCH, 'green');
    expect(back).toBeGreaterThan(epoch);
    await fenceRow(t.both, { from: 'green', to: 'blue', epoch: back });
    expect(await lift(t.both, SWITCH, { from: 'green', to: 'blue', epoch: back })).toBe('lifted');
    expect(await writable()).toBe('blue');
  });

  test('an attempt that was taken back cannot lift, and one that lifted cannot be taken back', async () => {
    const first = await arm(t.both, SWITCH, 'blue');
    await fenceRow(t.both, attemptOf(first));
    const opened = await disarm(t.both.green, SWITCH);
    expect(await codeOf(lift(t.both, SWITCH, attemptOf(first)))).toBe('FenceBroken');
    await reopen(t.both.blue, SWITCH, opened);
    expect(await writable()).toBe('blue');
    await reopen(t.both.blue, SWITCH, opened);
    const second = await arm(t.both, SWITCH, 'blue');
    expect(await codeOf(reopen(t.both.blue, SWITCH, opened))).toBe('FenceBroken');
    await fenceRow(t.both, attemptOf(second));
    expect(await codeOf(lift(t.both, SWITCH, attemptOf(first)))).toBe('FenceBroken');
    expect(await lift(t.both, SWITCH, attemptOf(second))).toBe('lifted');
  });

  test('lifting and taking back at the same moment, many times: never both', async () => {
    for (let round = 0; round < 30; round += 1) {
      const epoch = await arm(t.both, SWITCH, 'blue');
      await fenceRow(t.both, attemptOf(epoch));
      const other: Both = { blue: await t.session('blue'), green: await t.session('green') };
      const [lifted, back] = await Promise.all([
        codeOf(lift(t.both, SWITCH, attemptOf(epoch))),
        codeOf(disarm(other.green, SWITCH).then((e) => reopen(other.blue, SWITCH, e))),
      ]);
      expect([lifted, back].filter((code) => code === 'none')).toHaveLength(1);
      expect(await writable()).toBe(lifted === 'none' ? 'green' : 'blue');
      await Promise.all([other.blue.close(), other.green.close()]);
      if (lifted === 'none') {
        const e = await arm(t.both, SWITCH, 'green');
        await fenceRow(t.both, { from: 'green', to: 'blue', epoch: e });
        await lift(t.both, SWITCH, { from: 'green', to: 'blue', epoch: e });
      }
    }
  });

  test('what one row tells when the other cannot be read', async () => {
    const epoch = await arm(t.both, SWITCH, 'blue');
    const seen = async (unseen: 'blue' | 'green') =>
      verdictOf(await readBoth({ ...t.both, [unseen]: null }, SWITCH)).writable;
    expect([await seen('green'), await seen('blue')]).toEqual(['blue', null]);
    await fenceRow(t.both, attemptOf(epoch));
    expect([await seen('green'), await seen('blue')]).toEqual([null, null]);
    await lift(t.both, SWITCH, attemptOf(epoch));
    expect([await seen('green'), await seen('blue')]).toEqual([null, 'green']);
  });
});
