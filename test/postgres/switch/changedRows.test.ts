/** Rows that changed since they were compared are compared again by their keys: nothing that differs passes, and a reader that dies loses nothing. */
import { validateValidation } from '../../../plan/model/validate';
import type { ChangedRows } from '../../../postgres/switch/changedRows';
import { openChanged, rememberChanges } from '../../../postgres/switch/changedSlot';
import { fence } from '../../../postgres/switch/fence';
import { arm } from '../../../postgres/switch/guard';
import { waitReached } from '../../../postgres/switch/progress';
import type { OpenPairs } from '../../../postgres/switch/quickVerify';
import { openPairs } from '../../../postgres/switch/quickVerify';
import { endsOf, namesOf } from '../../../postgres/switch/replicate';
import { slotState } from '../../../postgres/switch/slot';
import { codeOf, until } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { SWITCH, testPair } from '../../support/pair';
import { caughtUp, fencing, signal, syncEmpty } from '../../support/switchRun';

const TABLES = `
CREATE TABLE item (id int PRIMARY KEY, note text);
CREATE TABLE odd ("Key 1" text, "key 2" timestamptz, v int, PRIMARY KEY ("Key 1", "key 2"));
CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE keyless (a int)`;

let t: TestPair;
let prepared: OpenPairs;
const open: ChangedRows[] = [];

beforeEach(async () => {
  t = await testPair([18, 18], TABLES);
  await syncEmpty(t.both, t.pair);
  await rememberChanges(t.both, t.pair, 'blue');
  const plan = validateValidation({ name: `${SWITCH}.verify`, source: 'blue', target: 'green', checks: ['rows'] });
  prepared = await openPairs(t.pair.blue, t.pair.green, plan, 'test');
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  await prepared.close();
  await t.drop();
});

const reader = async (how: 'take over' | 'if free' = 'take over'): Promise<ChangedRows | null> => {
  const rows = await openChanged(t.both, t.pair, 'blue', prepared, how);
  if (rows) open.push(rows);
  return rows;
};
const must = async (): Promise<ChangedRows> => {
  const rows = await reader();
  if (rows === null) throw new Error('there is no slot');
  return rows;
};
/** Past the wall and past replication. */
const spoil = (sql: string): Promise<unknown> => t.green.query(`SET session_replication_role = replica; ${sql}`);
const confirmed = async (): Promise<string | null | undefined> =>
  (await slotState(t.both.blue, namesOf(t.pair, 'forward').checkSlot))?.confirmed;
const covered = (rows: ChangedRows): string[] =>
  prepared.pairs.filter((one) => rows.covers(one)).map((one) => one.label);

test('every kind of change is found by its key, compared once, and passed over when it is equal', async () => {
  const rows = await must();
  await t.blue
    .query(`INSERT INTO item SELECT g, 'n' || g FROM generate_series(1, 300) g; UPDATE item SET id = 1000 WHERE id = 1;
    DELETE FROM item WHERE id = 2; INSERT INTO odd VALUES ('it''s', '2026-03-29 02:30:00.123456+01', 1), ('', 'infinity', 2);
    UPDATE odd SET v = 9; INSERT INTO parted VALUES (1, '2026-05-05'); INSERT INTO keyless VALUES (1)`);
  await rows.catchUp(20_000, signal);
  // 1 to 300 and 1000; two of odd; one of a partition.
  expect(rows.rows).toBe(304);
  expect(covered(rows).sort()).toEqual(['public.item', 'public.odd', 'public.parted']);
  await rows.catchUp(20_000, signal);
  expect(rows.rows).toBe(304);
  // The next reader begins behind what was seen equal.
  await rows.close();
  const next = await must();
  await next.catchUp(20_000, signal);
  expect(next.rows).toBe(0);
});

test('a row that differs stops it, and is still known to the next reader; when it is mended it passes', async () => {
  await t.blue.query(`INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c')`);
  await caughtUp(t.both, t.pair, 'forward');
  await spoil(`UPDATE item SET note = 'other' WHERE id = 2; DELETE FROM item WHERE id = 3`);
  const before = await confirmed();
  const first = await must();
  expect(await codeOf(first.catchUp(20_000, signal))).toBe('ProofFailed');
  await first.close();
  expect(await confirmed()).toBe(before);
  expect(await codeOf((await must()).finish(await end(), 5_000, signal))).toBe('ProofFailed');
  await spoil(`UPDATE item SET note = 'b' WHERE id = 2; INSERT INTO item VALUES (3, 'c')`);
  await (await must()).catchUp(20_000, signal);
  // The server hears of it in its own time.
  await until(async () => (await confirmed()) !== before);
});

const end = async (): Promise<string> =>
  (await t.blue.query<{ lsn: string }>(`SELECT pg_current_wal_insert_lsn()::text AS lsn`))[0]?.lsn ?? '';

test('inside the pause: what was written up to the fence, in milliseconds; a change that was lost on the way is seen', async () => {
  const rows = await must();
  await t.blue.query(`INSERT INTO item SELECT g, 'n' FROM generate_series(1, 500) g`);
  await rows.catchUp(20_000, signal);
  await t.blue.query(`UPDATE item SET note = 'm' WHERE id <= 50`);
  const epoch = await arm(t.both, SWITCH, 'blue');
  const { position } = await fence(t.both.blue, SWITCH, { from: 'blue', to: 'green', epoch }, fencing);
  await waitReached(endsOf(t.both, 'forward'), namesOf(t.pair, 'forward'), position, 5_000, signal);
  const began = performance.now();
  expect(await rows.finish(position, 2_000, signal)).toBe(50);
  process.stderr.write(`50 changed rows compared in ${Math.round(performance.now() - began)} ms\n`);
  await rows.close();
  await spoil(`UPDATE item SET note = 'n' WHERE id = 7`);
  // Passed already: what was seen equal is not asked for again.
  expect(await (await must()).finish(position, 2_000, signal)).toBe(0);
});

test('one transaction larger than what may wait; a truncated table is one that keys say nothing of', async () => {
  const rows = await must();
  await t.blue.query(`INSERT INTO item SELECT g, 'n' || g FROM generate_series(1, 60000) g`);
  await rows.catchUp(60_000, signal);
  expect(rows.rows).toBe(60_000);
  await t.blue.query(`TRUNCATE item`);
  await rows.catchUp(20_000, signal);
  expect(covered(rows)).not.toContain('public.item');
  await rows.close();
  expect(covered(await must())).not.toContain('public.item');
});

test('whoever watches leaves it to others; a switch takes it over', async () => {
  const watching = await must();
  expect(await reader('if free')).toBeNull();
  const taken = await must();
  await t.blue.query(`INSERT INTO item VALUES (1, 'a')`);
  await taken.catchUp(20_000, signal);
  expect(taken.rows).toBe(1);
  expect(['Unreachable', 'ServerRestarting']).toContain(await codeOf(watching.catchUp(5_000, signal)));
});
