/** Data that changes on both sides while it is compared: no false alarm, and what is really corrupt is named. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FreshDatabase } from '../../support/database';
import { freshDatabase } from '../../support/database';
import { samplesOf, tableOf, verify } from '../../support/verify';

const ROWS = 300_000;
const SETUP = `CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0, note text);
  CREATE TABLE branch (id text PRIMARY KEY, total bigint NOT NULL DEFAULT 0);`;
const ROWS_SQL = `INSERT INTO account SELECT i, 0, 'note ' || i FROM generate_series(1, ${ROWS}) AS i;
  INSERT INTO branch SELECT 'b' || i FROM generate_series(1, 3) AS i; ANALYZE`;

let source: FreshDatabase;
let target: FreshDatabase;

beforeEach(async () => {
  source = await freshDatabase(18, `${SETUP} ${ROWS_SQL}`);
  target = await freshDatabase(18, SETUP);
});
afterEach(async () => {
  await target.query(`DO $$ DECLARE s name; BEGIN FOR s IN SELECT subname FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
    WHERE d.datname = current_database() LOOP
    EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', s); EXECUTE format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', s); END LOOP; END $$`);
  await target.query(`DROP SUBSCRIPTION IF EXISTS ${target.name}`).catch(() => undefined);
  for (let i = 0; i < 50; i += 1) {
    const left = await source.query<{ n: string }>(
      `SELECT count(pg_drop_replication_slot(slot_name))::text AS n FROM pg_replication_slots WHERE database = current_database() AND NOT active`,
    );
    const [all] = await source.query<{ n: string }>(
      `SELECT count(*)::text AS n FROM pg_replication_slots WHERE database = current_database()`,
    );
    if (left && all?.n === '0') break;
    await sleep(100);
  }
  await target.drop();
  await source.drop();
});

/** One server: the slot comes first, or CREATE SUBSCRIPTION would wait for itself. */
async function replicate(): Promise<void> {
  await source.query(`CREATE PUBLICATION p FOR TABLE account, branch`);
  await source.query(`SELECT pg_create_logical_replication_slot('${target.name}', 'pgoutput')`);
  await target.query(
    `CREATE SUBSCRIPTION ${target.name} CONNECTION '${source.url}' PUBLICATION p WITH (create_slot = false, slot_name = '${target.name}')`,
  );
  for (let i = 0; i < 600; i += 1) {
    const [row] = await target.query<{ ready: boolean }>(
      `SELECT bool_and(srsubstate = 'r') AS ready FROM pg_subscription_rel`,
    );
    if (row?.ready) return;
    await sleep(100);
  }
  throw new Error('the subscription never came up');
}

/** Writers in tight loops until `stop`; two of them hit the same few rows all the time. Row 123456 is left alone. */
function writeAllTheTime(): { stop: () => Promise<number> } {
  let over = false;
  let writes = 0;
  const one = async (hot: boolean): Promise<void> => {
    const client = await source.client();
    while (!over) {
      const id = 1 + Math.floor(Math.random() * ROWS);
      if (hot) await client.query(`UPDATE branch SET total = total + 1 WHERE id = $1`, [`b${1 + (id % 3)}`]);
      else if (id === 123_456) continue;
      else if (id % 10 === 0) await client.query(`DELETE FROM account WHERE id = $1`, [id]);
      else
        await client.query(
          `INSERT INTO account VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET balance = account.balance + 1`,
          [id],
        );
      writes += 1;
    }
  };
  const running = Promise.all([one(true), one(false), one(false), one(true)]);
  return {
    stop: async () => {
      over = true;
      await running;
      return writes;
    },
  };
}

/** The apply worker waits behind a lock, readers do not: the target lags. */
async function stall(ms: number): Promise<void> {
  const client = await target.client();
  await client.query(`BEGIN; LOCK TABLE account, branch IN SHARE MODE`);
  await sleep(ms);
  await client.query('COMMIT');
}

test('under writes, fed by logical replication: no false alarm, also while the target lags, and one corrupt row is named', async () => {
  await replicate();
  const writers = writeAllTheTime();
  const began = Date.now();
  let rechecked = 0;
  try {
    for (let round = 0; round < 6; round += 1) {
      const stalled = round % 2 === 0 ? stall(2_000) : Promise.resolve();
      const result = await verify(source, target, { live: 'auto', name: `round${round}` });
      await stalled;
      expect(result.errors).toEqual([]);
      expect(result.passed).toBe(true);
      rechecked += result.statistics.rechecked;
    }
    await target.query(`SET session_replication_role = replica; UPDATE account SET note = 'corrupt' WHERE id = 123456`);
    const result = await verify(source, target, { live: 'auto', name: 'corrupt' });
    expect(result.passed).toBe(false);
    expect(samplesOf(tableOf(result, 'public.account'))).toEqual([
      'changed {"id":"123456"} note: note 123456 -> corrupt',
    ]);
    expect(tableOf(result, 'public.branch').equal).toBe(true);
  } finally {
    const writes = await writers.stop();
    const rate = Math.round((writes * 1_000) / (Date.now() - began));
    process.stderr.write(`live: ${writes} writes, ${rate}/s, ${rechecked} rows looked at again\n`);
  }
  expect(rechecked).toBeGreaterThan(0);
});

test('a target that nobody feeds, behind a source that is written: the rows that were missed are called different', async () => {
  await target.query(ROWS_SQL);
  await source.query(`UPDATE account SET balance = 9 WHERE id IN (5, 250000); DELETE FROM account WHERE id = 77`);
  const writers = await source.client();
  let over = false;
  const running = (async () => {
    while (!over) {
      await writers.query(`UPDATE branch SET total = total WHERE id = 'b1'`);
      await sleep(5);
    }
  })();
  try {
    const result = await verify(source, target, { live: 'auto' });
    expect(samplesOf(tableOf(result, 'public.account'))).toEqual([
      'changed {"id":"250000"} balance: 9 -> 0',
      'changed {"id":"5"} balance: 9 -> 0',
      expect.stringMatching(/^extra \{"id":"77"\}/),
    ]);
    expect(tableOf(result, 'public.branch').equal).toBe(true);
  } finally {
    over = true;
    await running;
  }
});
