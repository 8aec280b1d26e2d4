/** How far a slot was advanced is only on disk when it was written there: a server that crashes right after has it where it was. */
import { rmSync } from 'node:fs';
import { openSession, withSession } from '../../../postgres/session';
import { advanceSlot, keepSlot } from '../../../postgres/switch/slot';
import { target } from '../../../postgres/types';
import type { OwnPostgres } from '../../support/ownServers';
import { startOwnPostgres } from '../../support/ownServers';
import { serverHome } from '../../support/serverHome';

const home = serverHome('slot');
let server: OwnPostgres;
beforeAll(async () => void (server = await startOwnPostgres(home, { settings: { wal_level: 'logical' } })));
afterAll(async () => {
  await server.stop();
  rmSync(home, { recursive: true, force: true });
});

test('a slot that was passed over and kept stays there over a crash; one that was only passed over goes back', async () => {
  const database = await server.database('CREATE TABLE t (id int PRIMARY KEY)');
  const at = (name: string): Promise<string | undefined> =>
    withSession(target('app', database.url), { purpose: 'test' }, async (session) => {
      const row = await session.one<{ lsn: string }>(
        `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1`,
        [name],
      );
      return row?.lsn;
    });
  const session = await openSession(target('app', database.url), { purpose: 'test' });
  for (const name of ['passed', 'kept'])
    await session.run(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [name]);
  await session.run('INSERT INTO public.t SELECT generate_series(1, 100)');
  const end = await session.one<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn');
  for (const name of ['passed', 'kept']) await advanceSlot(session, name, end?.lsn ?? '');
  await keepSlot(session, 'kept', 'kept_at');
  const before = { passed: await at('passed'), kept: await at('kept') };
  expect(before.kept).toBe(before.passed);
  await session.close();
  await server.kill();
  await server.start();
  expect(await at('kept')).toBe(before.kept);
  expect(await at('passed')).not.toBe(before.passed);
  expect(await at('kept_at')).toBeUndefined();
});
