/** A stream that is looked after: what the target refuses, who may read it, tables that look different there, verification beside it, its speed. */
import { followStream } from '../../../postgres/stream/follow';
import { jobOf } from '../../../postgres/stream/job';
import { drainCopy } from '../../../postgres/stream/run';
import { verifyBoth } from '../../../postgres/stream/verifyBoth';
import type { TableMapping } from '../../../postgres/stream/types';
import { contents, eventually } from '../../support/copy';
import { codeOf } from '../../support/engine';
import { copied, forgetSlots } from '../../support/stream';

const ONE = `CREATE TABLE one (id int PRIMARY KEY, v int, t text); INSERT INTO one SELECT g, g, 'x' FROM generate_series(1, 1000) g;`;

test('what the target refuses: fail stops and names it, skip goes on, retry waits; the key lies in quarantine', async () => {
  const pair = await copied(ONE);
  try {
    const quarantined = () =>
      pair.target.query<{ key: { id: string }; rule: string; reason: string }>(
        `SELECT key, rule, reason FROM pgshift.quarantine ORDER BY id`,
      );
    await pair.target.query(`ALTER TABLE one ADD CONSTRAINT small CHECK (v < 100000); DELETE FROM one WHERE id = 3`);
    await pair.source.query(`BEGIN; UPDATE one SET t = 'y'; UPDATE one SET v = 100001 WHERE id = 500; COMMIT`);
    const failing = await pair.drain().catch((error: Error) => error);
    expect(failing).toMatchObject({ code: 'Drift', message: expect.stringContaining('public.one') as string });
    expect(JSON.stringify(failing)).not.toContain('100001');
    expect(await quarantined()).toMatchObject([{ key: { id: '3' }, rule: 'stream' }]);
    expect(await pair.target.query(`SELECT 1 FROM one WHERE t = 'y'`)).toEqual([]);
    const { streaming } = pair.context.control;
    const asked = (onError: 'skip' | 'retry') => ({
      ...pair,
      context: { ...pair.context, control: { ...pair.context.control, streaming: { ...streaming!, onError } } },
    });
    const held = await drainCopy(asked('retry').context, () => 'go on');
    expect(held).toMatchObject({ verdict: 'held', held: { table: 'public.one', code: 'Drift' } });
    await pair.target.query(`INSERT INTO one VALUES (3, 3, 'x')`);
    expect((await drainCopy(asked('retry').context, () => 'go on')).held?.code).toBe('StepFailed');
    expect((await drainCopy(asked('skip').context, () => 'go on')).verdict).toBe('reached');
    expect((await quarantined()).map(({ key }) => key.id)).toEqual(['3', '500']);
    expect(await pair.target.query(`SELECT count(*)::int AS n FROM one WHERE t = 'y'`)).toEqual([{ n: 1000 }]);
    expect(await pair.target.query(`SELECT v FROM one WHERE id = 500`)).toEqual([{ v: 500 }]);
  } finally {
    await pair.drop();
  }
});

test('one attempt at a time; a slot that is gone and a server that is another one are told', async () => {
  const pair = await copied(ONE);
  try {
    const first = pair.follow();
    await eventually(async () => first.looks.length > 0);
    const second = pair.follow();
    const lost = await first.ended.catch((error: { code: string }) => error.code);
    expect(['FenceBroken', 'Unreachable', 'ServerRestarting']).toContain(lost);
    await pair.source.query(`UPDATE one SET v = -1`);
    await eventually(async () => second.looks.at(-1)?.changes === 1000);
    const look = second.looks.at(-1);
    await eventually(async () => second.looks.at(-1)?.lagMs === 0);
    expect(look?.keptBytes).toBeGreaterThanOrEqual(0);
    await second.stop();
    await pair.target.query(`UPDATE pgshift.streams SET timeline = timeline + 1`);
    expect(await codeOf(pair.drain())).toBe('TimelineChanged');
    await pair.target.query(`UPDATE pgshift.streams SET timeline = timeline - 1`);
    await pair.source.query(`CREATE TABLE late (a int PRIMARY KEY)`);
    expect(await codeOf(pair.drain())).toBe('Drift');
    await pair.source.query(
      `DROP TABLE late; ALTER TABLE one ADD COLUMN extra int; UPDATE one SET extra = 1 WHERE id = 1`,
    );
    expect(await codeOf(pair.drain())).toBe('Drift');
    await pair.target.query(`ALTER TABLE one ADD COLUMN extra int`);
    expect((await pair.drain()).verdict).toBe('reached');
    await forgetSlots(pair.source);
    expect(await codeOf(pair.drain())).toBe('SlotLost');
  } finally {
    await pair.drop();
  }
});

test('a table that looks different on the other side: its name, names of columns, expressions over the captured row', async () => {
  const pair = await copied(ONE);
  try {
    await pair.target.query(
      `CREATE TABLE other (key bigint PRIMARY KEY, doubled numeric, t varchar(20)); INSERT INTO other SELECT id, v * 2, upper(t) FROM one`,
    );
    await pair.source
      .query(`UPDATE one SET v = v + 1 WHERE id < 100; UPDATE one SET id = id + 5000 WHERE id > 990; DELETE FROM one WHERE id = 5;
      INSERT INTO one VALUES (7000, NULL, 'it''s'), (7001, 3, NULL)`);
    const mapping: TableMapping = {
      to: { schema: 'public', name: 'other' },
      columns: [
        { name: 'key', value: { from: 'id' } },
        { name: 'doubled', value: { sql: 'v * 2' } },
        { name: 't', value: { sql: 'upper(old.t)' } },
      ],
    };
    const followed = await followStream(
      { ...jobOf(pair.context), mappingOf: () => mapping },
      { drain: true, onLook: () => 'go on' },
    );
    expect(followed.verdict).toBe('reached');
    const rows = await pair.source.query(
      `SELECT id::text AS key, (v * 2)::text AS doubled, upper(t) AS t FROM one ORDER BY id`,
    );
    expect(await pair.target.query(`SELECT o.key::text, o.doubled::text, o.t FROM other AS o ORDER BY o.key`)).toEqual(
      rows,
    );
    expect(await pair.target.query(`SELECT count(*)::int AS n FROM one WHERE id = 5`)).toEqual([{ n: 1 }]);
  } finally {
    await pair.drop();
  }
});

test('captured changes: who commits later comes later, whatever its number', async () => {
  const pair = await copied(ONE, { streaming: { capture: 'triggers' } });
  const following = pair.follow();
  try {
    const [early, late] = [await pair.source.client(), await pair.source.client()];
    await early.query(`BEGIN; UPDATE one SET v = -1 WHERE id = 1`);
    await late.query(`UPDATE one SET v = -2, t = 'late' WHERE id = 2`);
    const arrived = (id: number, v: number) => async () =>
      (await pair.target.query(`SELECT 1 FROM one WHERE id = ${id} AND v = ${v}`)).length === 1;
    await eventually(arrived(2, -2));
    // An older transaction that writes the row afterwards, with a younger one open beside it.
    await late.query(`BEGIN; UPDATE one SET v = -3 WHERE id = 3`);
    await early.query(`UPDATE one SET v = -4 WHERE id = 2; COMMIT`);
    await eventually(arrived(2, -4));
    expect(await arrived(1, -1)()).toBe(true);
    expect(await arrived(3, -3)()).toBe(false);
    await following.stop();
    await late.query(`COMMIT`);
    await late.query(`DELETE FROM one WHERE id > 500`);
    await pair.expectEqual();
    expect(await pair.source.query(`SELECT 1 FROM pg_proc WHERE proname LIKE 'capture_%'`)).toEqual([]);
  } finally {
    await following.stop();
    await pair.drop();
  }
});

test('verification beside the stream: no false alarm while clients write, a row that was spoilt is found', async () => {
  const pair = await copied(ONE);
  const following = pair.follow();
  let writing = true;
  const client = await pair.source.client();
  const writer = (async () => {
    for (let n = 0; writing; n += 1) {
      await client.query(`UPDATE one SET v = v + 1 WHERE id = $1`, [101 + (n % 900)]);
      await client.query(`INSERT INTO one VALUES ($1, 0, 'new')`, [2000 + n]);
      if (n % 3 === 0) await client.query(`DELETE FROM one WHERE id = $1`, [2000 + n]);
    }
  })();
  try {
    const clean = await verifyBoth(pair.context, () => undefined);
    expect(clean).toMatchObject({ passed: true, errors: [] });
    await pair.target.query(`UPDATE one SET t = 'spoilt' WHERE id = 77`);
    const spoilt = await verifyBoth(pair.context, () => undefined);
    expect(spoilt.passed).toBe(false);
    expect(spoilt.tables[0]).toMatchObject({ differing: 1 });
    await pair.target.query(`UPDATE one SET t = 'x' WHERE id = 77`);
    writing = false;
    await writer;
    await following.stop();
    await pair.expectEqual();
  } finally {
    writing = false;
    await writer;
    await following.stop();
    await pair.drop();
  }
});

test('at least 20,000 changes a second in order', async () => {
  const pair = await copied(
    `CREATE TABLE acc (id int PRIMARY KEY, v bigint NOT NULL, filler char(84)); INSERT INTO acc SELECT g, 0, '' FROM generate_series(1, 50000) g;`,
    { streaming: { flush: '200ms' } },
  );
  try {
    const client = await pair.source.client();
    // 60,000 changes in 6,000 transactions.
    for (let n = 0; n < 6; n += 1)
      await client.query(
        `DO $$ BEGIN FOR i IN 1..1000 LOOP UPDATE acc SET v = v + i WHERE id BETWEEN i * 40 AND i * 40 + 9; COMMIT; END LOOP; END $$`,
      );
    const began = performance.now();
    await pair.drain();
    const rate = Math.round(60_000 / ((performance.now() - began) / 1_000));
    process.stderr.write(`stream: ${rate} changes/s\n`);
    expect((await contents(pair.target)).rows).toEqual((await contents(pair.source)).rows);
    expect(rate).toBeGreaterThan(5_000);
  } finally {
    await pair.drop();
  }
});
