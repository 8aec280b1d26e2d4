/** The fence by a role that is no superuser, with the grants of docs/grants.md and no others. */
import { randomBytes } from 'node:crypto';
import { openSession } from '../../../postgres/session';
import type { Session } from '../../../postgres/session';
import { fence, takeBack } from '../../../postgres/switch/fence';
import { arm, openGuards } from '../../../postgres/switch/guard';
import { ensurePublication } from '../../../postgres/switch/publication';
import { setIdentities, restoreIdentities } from '../../../postgres/switch/identity';
import { createSlotWithSnapshot, dropSlot } from '../../../postgres/switch/slot';
import { install } from '../../../postgres/state/install';
import { target } from '../../../postgres/types';
import type { FreshDatabase } from '../../support/database';
import { describeVersions, freshDatabase } from '../../support/database';
import { stateOf } from '../../support/pair';
import { fencing, patience, signal } from '../../support/switchRun';

describeVersions('a role that is no superuser', (version) => {
  const key = randomBytes(4).toString('hex');
  const [shift, shop, web] = [`shift_${key}`, `shop_${key}`, `web_${key}`];
  let blue: FreshDatabase;
  let green: FreshDatabase;
  const open: Session[] = [];
  const as = (db: FreshDatabase, role: string) => db.url.replace('postgres@', `${role}@`);

  beforeAll(async () => {
    blue = await freshDatabase(version);
    green = await freshDatabase(version);
    await blue.query(`CREATE ROLE ${shift} LOGIN REPLICATION; CREATE ROLE ${shop} LOGIN; CREATE ROLE ${web} LOGIN;
      GRANT ${shop} TO ${shift}; GRANT pg_signal_backend, pg_monitor TO ${shift}`);
    for (const db of [blue, green])
      await db.query(`ALTER DATABASE ${db.name} OWNER TO ${shop}; GRANT CREATE ON DATABASE ${db.name} TO ${shift};
        CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (x int); ALTER TABLE a OWNER TO ${shop}; ALTER TABLE b OWNER TO ${shop};
        GRANT USAGE ON SCHEMA public TO ${shift}; GRANT ALL ON a, b TO ${web}`);
  });
  afterAll(async () => {
    await Promise.all(open.map((one) => one.close()));
    await Promise.all([blue.drop(), green.drop()]);
    const admin = await freshDatabase(version);
    await admin.query(`DROP ROLE ${shift}, ${shop}, ${web}`);
    await admin.drop();
  });

  test('fences, publishes, makes a slot, and takes it all back', async () => {
    const both = {
      blue: await openSession(target('blue', as(blue, shift)), { purpose: 'test' }),
      green: await openSession(target('green', as(green, shift)), { purpose: 'test' }),
    };
    open.push(both.blue, both.green);
    await install(both.blue);
    await install(both.green);
    await openGuards(both, 'r1', { names: { blue: 'blue', green: 'green' } });
    const slot = `pgshift_test_${key}`;
    expect(await setIdentities(both.blue, 'r1', patience)).toBe(1);
    await ensurePublication(both.blue, slot, [{ schema: 'public', name: 'a' }], patience);
    const made = await createSlotWithSnapshot(target('blue', as(blue, shift)), slot, 10_000, signal);
    await made.release();
    const client = await blue.client();
    await client.query(`SET SESSION AUTHORIZATION ${web}`);
    expect(await stateOf(client, `INSERT INTO a VALUES (1, 'one')`)).toBe('none');
    const epoch = await arm(both, 'r1', 'blue');
    const done = await fence(both.blue, 'r1', { from: 'blue', to: 'green', epoch }, fencing);
    // A superuser's session is not ours to end: it stays, behind the wall.
    expect(done.leftSessions).toHaveLength(1);
    expect(done.tables).toBe(2);
    expect(await stateOf(client, `INSERT INTO a VALUES (2, 'two')`)).toBe('25006');
    await client.query('RESET SESSION AUTHORIZATION');
    expect(await stateOf(client, `INSERT INTO a VALUES (2, 'two')`)).toBe('25006');
    // Ours can still come in, though it had CONNECT through PUBLIC alone.
    await (await openSession(target('blue', as(blue, shift)), { purpose: 'test' })).close();
    expect(await takeBack(both, 'r1', 'blue', fencing)).toMatchObject({ dropped: 2, left: [] });
    expect(await stateOf(client, `INSERT INTO a VALUES (2, 'two')`)).toBe('none');
    await dropSlot(both.blue, slot);
    await blue.query(`DROP PUBLICATION ${slot}`);
    expect(await restoreIdentities(both.blue, 'r1', patience)).toBe(1);
  });
});
