/** Who uses a database: open sessions by role and application, and those that were gone before anybody looked. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { withSession } from '../../../postgres/session';
import { countClients } from '../../../postgres/switch/clients';
import { useOf } from '../../../postgres/switch/unused';
import { target } from '../../../postgres/types';
import type { FreshDatabase } from '../../support/database';
import { describeVersions, freshDatabase } from '../../support/database';

describeVersions('use of a database', (version) => {
  let database: FreshDatabase;
  beforeAll(async () => {
    database = await freshDatabase(version);
  });
  afterAll(() => database.drop());
  const come = async (application: string): Promise<Client> => {
    const client = new Client({ connectionString: database.url, application_name: application });
    await client.connect();
    return client;
  };

  test('routers that listen, proxies that look and pgshift itself are no use; everybody else is named', () =>
    withSession(target('app', database.url), { purpose: 'test' }, async (session) => {
      const aside = await Promise.all(['pgshift-router/app', 'pgshift-haproxy'].map(come));
      expect([(await useOf(session)).by, await countClients(session)]).toEqual([null, 0]);
      const users = await Promise.all(['metabase', 'metabase', 'pgshift-of-mine'].map(come));
      expect((await useOf(session)).by).toBe(
        'role postgres (application metabase): 2 sessions, role postgres (application pgshift-of-mine): 1 session',
      );
      expect(await countClients(session)).toBe(3);
      await Promise.all([...aside, ...users].map((one) => one.end()));
    }));

  test('a session that came and went is counted', () =>
    withSession(target('app', database.url), { purpose: 'test' }, async (session) => {
      await sleep(3_000);
      const before = await useOf(session);
      await sleep(1_500);
      expect((await useOf(session)).sessions).toBe(before.sessions);
      await (await come('metabase')).end();
      await sleep(1_500);
      expect((await useOf(session)).sessions).toBe(before.sessions + 1);
    }));
});
