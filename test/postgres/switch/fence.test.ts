import { randomBytes } from 'node:crypto';
import { fence, settle, takeBack, wallOff } from '../../../postgres/switch/fence';
import type { FenceOptions } from '../../../postgres/switch/fence';
import { arm, lift, readGuard } from '../../../postgres/switch/guard';
import type { Attempt } from '../../../postgres/switch/guard';
import { hangWall, wallGaps, walledTables } from '../../../postgres/switch/wall';
import { connectGrants } from '../../../postgres/switch/connect';
import { diffCatalog, fingerprintCatalog } from '../../../postgres/catalog/diff';
import { describeVersions } from '../../support/database';
import { codeOf } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { stateOf, SWITCH, testPair } from '../../support/pair';

const SETUP = `
  CREATE TABLE a (id bigint PRIMARY KEY, v text);
  CREATE TABLE "Odd ""Name" (id int);
  CREATE TABLE parts (id int, k int) PARTITION BY LIST (k);
  CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
  CREATE SCHEMA s; CREATE UNLOGGED TABLE s.u (id int);
  CREATE TABLE kin (x int) INHERITS (a);
  INSERT INTO a VALUES (1, 'one')`;

describeVersions('the fence', (version) => {
  let t: TestPair;
  let writer: string;
  const options = (more: Partial<FenceOptions> = {}): FenceOptions => ({
    keepRoles: [],
    lockTimeoutMs: 200,
    deadlineMs: 3_000,
    signal: new AbortController().signal,
    ...more,
  });
  const attempt = (epoch: number): Attempt => ({ from: 'blue', to: 'green', epoch });
  const fenceBlue = async (more: Partial<FenceOptions> = {}) => {
    const epoch = await arm(t.both, SWITCH, 'blue');
    return { epoch, done: await fence(t.both.blue, SWITCH, attempt(epoch), options(more)) };
  };
  const as = (role: string) => {
    const url = new URL(t.blue.url);
    url.username = role;
    return url.toString();
  };

  beforeEach(async () => {
    t = await testPair([version, version], SETUP);
    writer = `w_${randomBytes(4).toString('hex')}`;
    await t.blue.query(`CREATE ROLE ${writer} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${writer}`);
  });
  afterEach(async () => {
    await t.drop();
  });

  test('stops every client: superuser, overriding session, partitions, TRUNCATE; replication passes', async () => {
    const { done } = await fenceBlue();
    expect(done).toMatchObject({ tables: 6, leftSessions: [] });
    expect(done.position).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
    const superuser = await t.blue.client();
    for (const sql of [
      `INSERT INTO a VALUES (2, 'two')`,
      `UPDATE a SET v = 'x'`,
      `DELETE FROM a`,
      `TRUNCATE a`,
      `INSERT INTO parts VALUES (1, 1)`,
      `INSERT INTO part1 VALUES (1, 1)`,
      `INSERT INTO kin VALUES (1, 'k', 1)`,
      `INSERT INTO s.u VALUES (1)`,
      `INSERT INTO "Odd ""Name" VALUES (1)`,
      `MERGE INTO a USING (SELECT 1 AS i) AS x ON a.id = x.i WHEN MATCHED THEN DELETE`,
      `WITH d AS (DELETE FROM a RETURNING 1) SELECT * FROM d`,
      `SET default_transaction_read_only = off; BEGIN READ WRITE; UPDATE a SET v = 'y'`,
    ]) {
      expect([sql, await stateOf(superuser, sql)]).toEqual([sql, '25006']);
      await superuser.query('ROLLBACK');
    }
    expect(await stateOf(superuser, `COPY a FROM PROGRAM 'echo 5'`)).toBe('25006');
    expect((await superuser.query('SELECT count(*)::int AS n FROM ONLY a')).rows).toEqual([{ n: 1 }]);
    await superuser.query(`SET session_replication_role = replica`);
    expect(await stateOf(superuser, `INSERT INTO a VALUES (3, 'replicated')`)).toBe('none');
    expect(await wallGaps(t.both.blue, SWITCH)).toEqual([]);
  });

  test('ends sessions, keeps others out, and gives back exactly what was there', async () => {
    const client = await t.blue.client();
    const database = t.blue.name;
    await client.query(
      `REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC; GRANT CONNECT ON DATABASE ${database} TO ${writer} WITH GRANT OPTION;
       CREATE ROLE ${writer}b LOGIN; SET ROLE ${writer}; GRANT CONNECT ON DATABASE ${database} TO ${writer}b; RESET ROLE`,
    );
    const before = await connectGrants(t.both.blue);
    const catalog = await fingerprintCatalog(client);
    await client.query('BEGIN; SELECT * FROM a');
    const { epoch, done } = await fenceBlue();
    expect(done.endedSessions).toBe(1);
    expect(await stateOf(client, 'SELECT 1')).not.toBe('none');
    expect(done.mayConnect).not.toContain(writer);
    const { Client } = await import('pg');
    const late = new Client({ connectionString: as(writer) });
    late.on('error', () => undefined);
    await expect(late.connect()).rejects.toMatchObject({ code: '42501' });
    // Again: the record stays what it was.
    await fence(t.both.blue, SWITCH, attempt(epoch), options());
    expect(await takeBack(t.both, SWITCH, 'blue', options())).toMatchObject({ dropped: 6, left: [] });
    expect(await connectGrants(t.both.blue)).toEqual(before);
    const after = await t.blue.client();
    const change = diffCatalog(catalog, await fingerprintCatalog(after));
    expect(change).toEqual({ added: [], removed: [] });
    expect(await stateOf(after, `INSERT INTO a VALUES (2, 'two')`)).toBe('none');
    expect(await takeBack(t.both, SWITCH, 'blue', options())).toMatchObject({ dropped: 0, left: [] });
    await after.query(`DROP OWNED BY ${writer}, ${writer}b CASCADE; DROP ROLE ${writer}, ${writer}b`);
  });

  test('default grants (no ACL at all) come back as they were in effect', async () => {
    const before = await connectGrants(t.both.blue);
    await fenceBlue();
    expect(await connectGrants(t.both.blue)).not.toEqual(before);
    await takeBack(t.both, SWITCH, 'blue', options());
    expect(await connectGrants(t.both.blue)).toEqual(before);
  });

  test('a transaction from before the fence cannot write behind it, at any isolation', async () => {
    // Sessions that count as ours are not ended: they stand for those that we may not end.
    for (const level of ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']) {
      const old = await t.blue.client();
      await old.query(`SET application_name = 'pgshift/like'`);
      await old.query(`PREPARE w AS UPDATE a SET v = 'late'`); // its plan is cached; parsing it takes a lock, so before BEGIN
      await old.query(`BEGIN ISOLATION LEVEL ${level}`);
      await old.query('SELECT * FROM a');
      await fenceBlue();
      expect([level, await stateOf(old, `EXECUTE w`)]).toEqual([level, level === 'READ COMMITTED' ? '25006' : '40001']);
      await old.query('ROLLBACK');
      await takeBack(t.both, SWITCH, 'blue', options());
      expect(await stateOf(old, `UPDATE a SET v = 'again'`)).toBe('none');
      await old.query('DEALLOCATE w');
    }
  });

  test('an open write that cannot be ended makes it fail by name, and nothing is left', async () => {
    const old = await t.blue.client();
    await old.query(`SET application_name = 'pgshift/like'; BEGIN; UPDATE a SET v = 'open'`);
    const epoch = await arm(t.both, SWITCH, 'blue');
    const error = await fence(t.both.blue, SWITCH, attempt(epoch), options({ deadlineMs: 600 })).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({
      code: 'LockBudgetSpent',
      message: expect.stringContaining('idle in transaction') as string,
    });
    expect(await readGuard(t.both.blue, SWITCH)).toMatchObject({ writable: true });
    await old.query('COMMIT');
    await takeBack(t.both, SWITCH, 'blue', options());
    expect(await walledTables(t.both.blue)).toBe(0);
    expect(await readGuard(t.both.blue, SWITCH)).toMatchObject({ writable: true, details: { connect: null } });
  });

  test('a prepared transaction refuses it', async () => {
    const client = await t.blue.client();
    await client.query(`BEGIN; INSERT INTO a VALUES (9, 'p'); PREPARE TRANSACTION '${t.blue.name}'`);
    expect(await codeOf(fenceBlue())).toBe('PreflightFailed');
    await takeBack(t.both, SWITCH, 'blue', options());
    await t.blue.query(`ROLLBACK PREPARED '${t.blue.name}'`);
    await fenceBlue();
  });

  test('green lets through our own sessions only, until one row is lifted', async () => {
    expect(await wallOff(t.both.green, SWITCH, options())).toBe(6);
    expect(await t.both.green.run(`INSERT INTO public.a VALUES (7, 'copied')`)).toBe(1);
    const stray = await t.green.client();
    expect(await stateOf(stray, `INSERT INTO a VALUES (8, 'stray')`)).toBe('25006');
    const { epoch } = await fenceBlue();
    expect(await lift(t.both, SWITCH, attempt(epoch))).toBe('lifted');
    expect(await stateOf(stray, `INSERT INTO a VALUES (8, 'client')`)).toBe('none');
    expect(await settle(t.both.green, SWITCH, options())).toMatchObject({ dropped: 6, left: [] });
    expect(await codeOf(settle(t.both.blue, SWITCH, options()))).toBe('NotNow');
    expect(await codeOf(takeBack(t.both, SWITCH, 'blue', options()))).toBe('NotNow');
    const superuser = await t.blue.client();
    expect(await stateOf(superuser, `INSERT INTO a VALUES (2, 'two')`)).toBe('25006');
  });

  test('a table made since is a gap that the position refuses; fencing again closes it', async () => {
    const { epoch } = await fenceBlue();
    const client = await t.blue.client();
    await client.query('CREATE TABLE fresh (id int); ALTER TABLE a DISABLE TRIGGER ALL');
    expect(await wallGaps(t.both.blue, SWITCH)).toEqual(['public.a', 'public.fresh']);
    await fence(t.both.blue, SWITCH, attempt(epoch), options());
    expect(await wallGaps(t.both.blue, SWITCH)).toEqual([]);
  });

  test('1,000 tables under writing clients: how long', async () => {
    await t.blue.query(
      `DO $$BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE many%s (id int)', i); END LOOP; END$$`,
    );
    const clients = await Promise.all(Array.from({ length: 10 }, () => t.blue.client()));
    let going = true;
    const writing = clients.map(async (client, n) => {
      for (let i = 0; going; i += 1)
        await client.query(`INSERT INTO many${n + 1} VALUES (${i})`).catch(() => (going = false));
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const row = await readGuard(t.both.blue, SWITCH);
    if (row === null) throw new Error('no row');
    const hung = hangWall(t.both.blue, row, { ...options(), deadlineMs: 20_000 });
    // Hanging disturbs nobody: not even a long snapshot, while the row changes.
    const long = await t.blue.client();
    await long.query(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM a; INSERT INTO a VALUES (5, 'long')`);
    expect(await hung).toBeLessThanOrEqual(2);
    await t.both.blue.run(`UPDATE pgshift.guard SET updated_at = now()`);
    expect(await stateOf(long, `INSERT INTO many1000 VALUES (1); COMMIT`)).toBe('none');
    expect(going).toBe(true);
    const { done } = await fenceBlue();
    going = false;
    await Promise.all(writing);
    process.stderr.write(
      `PG${version}: fence of 1,006 tables, wall ${Math.round(done.wallMs)} ms, all ${Math.round(done.ms)} ms\n`,
    );
    expect(done).toMatchObject({ tables: 1006, endedSessions: 11 });
    expect(await takeBack(t.both, SWITCH, 'blue', options({ deadlineMs: 20_000 }))).toMatchObject({ left: [] });
  });
});
