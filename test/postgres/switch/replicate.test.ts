import { fence, settle, takeBack, wallOff } from '../../../postgres/switch/fence';
import { arm, readGuard } from '../../../postgres/switch/guard';
import { setIdentities, restoreIdentities } from '../../../postgres/switch/identity';
import type { Direction } from '../../../postgres/switch/names';
import { healthOf, lagOf, waitReached } from '../../../postgres/switch/progress';
import { ensurePublication } from '../../../postgres/switch/publication';
import {
  activate,
  deactivate,
  dropDirection,
  endsOf,
  leavings,
  namesOf,
  prepareWayBack,
  readyWayBack,
} from '../../../postgres/switch/replicate';
import { createSlotWithSnapshot, slotState } from '../../../postgres/switch/slot';
import { ensureSubscription, probeSubscription } from '../../../postgres/switch/subscription';
import { target } from '../../../postgres/types';
import { diffCatalog, fingerprintCatalog } from '../../../postgres/catalog/diff';
import type { FreshDatabase } from '../../support/database';
import { codeOf, until } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { describePairs, SWITCH, testPair } from '../../support/pair';
import { caughtUp as reached, fencing, patience, signal, switchOver, tablesOf } from '../../support/switchRun';

const SCHEMA = `
  CREATE TABLE a (id bigint PRIMARY KEY, v text, wide text);
  ALTER TABLE a ALTER wide SET STORAGE EXTERNAL;
  CREATE TABLE keyless (k int, v text);
  CREATE TABLE uniq (k int NOT NULL UNIQUE, v text);
  CREATE TABLE later (id int PRIMARY KEY DEFERRABLE, v text);
  CREATE TABLE gen (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, n int GENERATED ALWAYS AS IDENTITY);
  CREATE TABLE parts (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
  CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
  CREATE TABLE "Odd ""Name" (id int PRIMARY KEY)`;

describePairs('replication', (from, to) => {
  let t: TestPair;
  const contents = async (db: FreshDatabase): Promise<unknown> =>
    db.query(
      `SELECT (SELECT jsonb_agg(x ORDER BY id) FROM (SELECT id, v, md5(wide) AS wide FROM a) AS x) AS a,
              (SELECT jsonb_agg(x ORDER BY k, v) FROM keyless AS x) AS keyless, (SELECT jsonb_agg(x ORDER BY k) FROM uniq AS x) AS uniq,
              (SELECT jsonb_agg(x ORDER BY id) FROM later AS x) AS later, (SELECT jsonb_agg(x ORDER BY id) FROM gen AS x) AS gen, (SELECT jsonb_agg(x ORDER BY id) FROM parts AS x) AS parts`,
    );

  beforeEach(async () => {
    t = await testPair([from, to], SCHEMA);
  });
  afterEach(() => t.drop());

  /** Slot with snapshot, a copy of `a` from it, subscription; everything on. */
  async function forward(): Promise<void> {
    const names = namesOf(t.pair, 'forward');
    await setIdentities(t.both.blue, SWITCH, patience);
    await setIdentities(t.both.green, SWITCH, patience);
    await ensurePublication(t.both.blue, names.publication, await tablesOf(t.both, 'blue'), patience);
    const slot = await createSlotWithSnapshot(t.pair.blue, names.slot, 10_000, signal);
    const reader = await t.blue.client();
    await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await reader.query(`SET TRANSACTION SNAPSHOT '${slot.snapshot}'`);
    await slot.release();
    await t.blue.query(`INSERT INTO a VALUES (100, 'after the snapshot', NULL)`);
    const { rows } = await reader.query<{ data: string }>(`SELECT coalesce(jsonb_agg(a), '[]')::text AS data FROM a`);
    await reader.query('COMMIT');
    await t.both.green.run(`INSERT INTO public.a SELECT * FROM jsonb_populate_recordset(NULL::public.a, $1::jsonb)`, [
      rows[0]?.data,
    ]);
    await ensureSubscription(t.both.green, { names, publisher: t.pair.blue, origin: 'any' });
    await activate(t.both, t.pair, 'forward');
  }

  const caughtUp = (direction: Direction) => reached(t.both, t.pair, direction);

  test('there and back under writes: every write arrives once, in both directions, and nothing is left', async () => {
    const client = await t.blue.client();
    const before = await fingerprintCatalog(client);
    await client.query(`INSERT INTO a SELECT g, 'v' || g, repeat(md5(g::text), 400) FROM generate_series(1, 50) AS g`);
    await wallOff(t.both.green, SWITCH, fencing);
    await forward();
    await client.query(`UPDATE a SET v = v || '+' WHERE id <= 10; DELETE FROM a WHERE id = 50;
      INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, NULL); UPDATE keyless SET v = 'y' WHERE k = 2;
      INSERT INTO uniq VALUES (1, 'one'); UPDATE uniq SET v = 'uno';
      INSERT INTO later VALUES (1, 'x'), (2, 'y'); UPDATE later SET id = 3 - id; DELETE FROM later WHERE id = 2; INSERT INTO gen (id) VALUES (1), (2);
      INSERT INTO parts VALUES (1, 1), (2, 1); UPDATE parts SET id = 3 WHERE id = 2`);
    await caughtUp('forward');
    expect(await contents(t.green)).toEqual(await contents(t.blue));
    const tables = (await tablesOf(t.both, 'blue')).length;
    expect((await healthOf(endsOf(t.both, 'forward'), namesOf(t.pair, 'forward'), tables)).problems).toEqual([]);

    const there = await switchOver(t.both, t.pair, 'blue');
    const onGreen = await t.green.client();
    await onGreen.query(`UPDATE a SET v = 'green' WHERE id = 1; DELETE FROM keyless WHERE k = 1 AND v = 'x'; INSERT INTO a VALUES (200, 'g', NULL);
      UPDATE parts SET id = 9 WHERE id = 1; UPDATE uniq SET k = 5; UPDATE later SET v = 'z'`);
    await dropDirection(t.both, t.pair, 'forward', patience);
    await caughtUp('reverse');
    expect(await contents(t.blue)).toEqual(await contents(t.green));

    const back = await switchOver(t.both, t.pair, 'green');
    process.stderr.write(
      `${from} to ${to}: ${JSON.stringify({ there, back }, (_, v: unknown) => (typeof v === 'number' ? Math.round(v) : v))}\n`,
    );
    const onBlue = await t.blue.client();
    await onBlue.query(`UPDATE a SET v = 'blue again' WHERE id = 2; INSERT INTO a VALUES (300, 'b', NULL)`);
    await dropDirection(t.both, t.pair, 'reverse', patience);
    await caughtUp('forward');
    expect(await contents(t.green)).toEqual(await contents(t.blue));

    // Down with all of it.
    await dropDirection(t.both, t.pair, 'forward', patience);
    expect(await settle(t.both.blue, SWITCH, fencing)).toMatchObject({ left: [] });
    await restoreIdentities(t.both.blue, SWITCH, patience);
    const left = await leavings(t.both);
    expect(left.filter(({ side, what }) => side === 'blue' && what !== 'guard')).toEqual([]);
    expect(diffCatalog(before, await fingerprintCatalog(onBlue))).toEqual({ added: [], removed: [] });
  });

  test('taken back after the way back was made: forward goes on, the way back goes', async () => {
    await t.blue.query(`INSERT INTO a VALUES (1, 'one', NULL)`);
    await wallOff(t.both.green, SWITCH, fencing);
    await forward();
    await caughtUp('forward');
    await prepareWayBack(t.both, t.pair, 'reverse', {
      tables: await tablesOf(t.both, 'green'),
      publisher: t.pair.green,
      slotDeadlineMs: 5_000,
      patience,
    });
    // The guard against loops: never both.
    expect(await codeOf(activate(t.both, t.pair, 'reverse'))).toBe('NotNow');
    const epoch = await arm(t.both, SWITCH, 'blue');
    const fenced = await fence(t.both.blue, SWITCH, { from: 'blue', to: 'green', epoch }, fencing);
    await waitReached(endsOf(t.both, 'forward'), namesOf(t.pair, 'forward'), fenced.position, 5_000, signal);
    await readyWayBack(t.both, t.pair, 'reverse');
    expect(await codeOf(activate(t.both, t.pair, 'forward'))).toBe('NotNow');
    await dropDirection(t.both, t.pair, 'reverse', patience);
    await activate(t.both, t.pair, 'forward');
    await takeBack(t.both, SWITCH, 'blue', fencing);
    await t.blue.query(`UPDATE a SET v = 'went on'; INSERT INTO a VALUES (2, 'two', NULL)`);
    await caughtUp('forward');
    expect(await contents(t.green)).toEqual(await contents(t.blue));
    expect((await leavings(t.both)).map(({ side, what }) => `${side} ${what}`).filter((x) => /blue/.test(x))).toEqual([
      'blue publication',
      'blue slot',
      'blue guard',
    ]);
  });

  test('an unknown lag is null, a silent stream reaches its end, a lost consumer never passes', async () => {
    const names = namesOf(t.pair, 'forward');
    expect(await lagOf(t.both.blue, names)).toEqual({ bytes: null, ms: null });
    await wallOff(t.both.green, SWITCH, fencing);
    await forward();
    await caughtUp('forward');
    const idle = performance.now();
    await caughtUp('forward'); // nothing but our own nudges happen
    expect(performance.now() - idle).toBeLessThan(2_000);
    await deactivate(t.both, t.pair, 'forward');
    const ends = endsOf(t.both, 'forward');
    const at = await t.both.blue.one<{ lsn: string }>(`SELECT pg_current_wal_insert_lsn()::text AS lsn`);
    expect(await codeOf(waitReached(ends, names, at?.lsn ?? '', 300, signal))).toBe('SwitchOverran');
    expect(await lagOf(t.both.blue, names)).toEqual({ bytes: null, ms: null });
    // Somebody else who consumes the slot proves nothing.
    await t.blue.query(`SELECT pg_replication_slot_advance('${names.slot}', pg_current_wal_insert_lsn())`);
    expect(await codeOf(waitReached(ends, names, at?.lsn ?? '', 300, signal))).toBe('SwitchOverran');
    const { problems } = await healthOf(ends, names, 1);
    expect(problems).toEqual(expect.arrayContaining(['the subscription is disabled', 'the lag is unknown']));
    await dropDirection(t.both, t.pair, 'forward', patience);
    expect(await codeOf(waitReached(ends, names, at?.lsn ?? '', 300, signal))).toBe('SlotLost');
    expect(await dropDirection(t.both, t.pair, 'forward', patience)).toEqual([]);
  });

  test('a slot waits for open transactions no longer than it may, and leaves nothing', async () => {
    const open = await t.blue.client();
    await open.query(`BEGIN; INSERT INTO a VALUES (1, 'open', NULL)`);
    const { slot } = namesOf(t.pair, 'forward');
    expect(await codeOf(createSlotWithSnapshot(t.pair.blue, slot, 700, signal))).toBe('Timeout');
    await until(async () => (await slotState(t.both.blue, slot)) === null);
    await open.query('COMMIT');
    const made = await createSlotWithSnapshot(t.pair.blue, slot, 10_000, signal);
    // A new attempt, whose snapshot is lost: the old slot goes first.
    const again = await createSlotWithSnapshot(t.pair.blue, slot, 10_000, signal);
    await Promise.all([made.release(), again.release()]);
    await dropDirection(t.both, t.pair, 'forward', patience);
    expect(await slotState(t.both.blue, slot)).toBeNull();
  });

  test('identities: what cannot be told apart is refused by name; set and set back', async () => {
    expect(await setIdentities(t.both.blue, SWITCH, patience)).toBe(3);
    expect(await setIdentities(t.both.blue, SWITCH, patience)).toBe(0);
    const kinds = () =>
      t.blue.query(
        `SELECT relname, relreplident AS i FROM pg_class WHERE relname IN ('keyless', 'later', 'uniq') ORDER BY 1`,
      );
    expect(await kinds()).toEqual([
      { relname: 'keyless', i: 'f' },
      { relname: 'later', i: 'f' }, // a key that is deferrable identifies nothing
      { relname: 'uniq', i: 'i' },
    ]);
    expect(await restoreIdentities(t.both.blue, SWITCH, patience)).toBe(3);
    expect(await kinds()).toEqual([
      { relname: 'keyless', i: 'd' },
      { relname: 'later', i: 'd' },
      { relname: 'uniq', i: 'd' },
    ]);
    expect((await readGuard(t.both.blue, SWITCH))?.details.identities).toEqual([]);
    await t.blue.query(`CREATE TABLE bad (j json, p point);
      CREATE TABLE said (j json); ALTER TABLE said REPLICA IDENTITY FULL; CREATE TABLE keyed (id int PRIMARY KEY, j json); ALTER TABLE keyed REPLICA IDENTITY FULL`);
    const error = await setIdentities(t.both.blue, SWITCH, patience).catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: 'GuardrailFailed',
      message: expect.stringContaining('public.bad (json, point), public.said (json) cannot') as string,
    });
  });

  test('no error tells the password', async () => {
    const secret = 'hunter2secret';
    const wrong = [
      t.blue.url.replace('postgres@', `nobody_there:${secret}@`),
      t.blue.url.replace('postgres@', `postgres:${secret}@`).replace(/:\d+\//, ':9/'),
      `${t.blue.url.replace('postgres@', `postgres:${secret}@`)}?nonsense=%00${secret}`,
    ];
    for (const url of wrong) {
      const error = (await probeSubscription(t.both.green, target('blue', url), 'pgshift_probe').catch(
        (e: unknown) => e,
      )) as Error;
      expect(error.name).toBe('Problem');
      expect(JSON.stringify([error.message, error])).not.toContain(secret);
    }
    await probeSubscription(t.both.green, t.pair.blue, 'pgshift_probe');
    expect(await t.green.query(`SELECT 1 FROM pg_subscription WHERE subname = 'pgshift_probe'`)).toEqual([]);
  });
});
