/**
 * What is in flight when a switch comes, from every kind of client: asynchronous commits, open transactions, other roles, superusers and sessions that
 * override what is set for them. Keeps true: what was acknowledged is on the other side; what was not was told so, and is on neither.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { prepareWayBack } from '../../../postgres/switch/replicate';
import { describePairs, stateOf, testPair } from '../../support/pair';
import type { TestPair } from '../../support/pair';
import { caughtUp, patience, settleSide, switchOver, syncEmpty, tablesOf } from '../../support/switchRun';

const SETUP = `CREATE TABLE writes (client text, n int, PRIMARY KEY (client, n)); CREATE TABLE late (id int PRIMARY KEY)`;

describePairs('writes in flight', (from, to) => {
  let t: TestPair;
  beforeEach(async () => {
    t = await testPair([from, to], SETUP);
    await syncEmpty(t.both, t.pair);
  });
  afterEach(() => t.drop());

  test('asynchronous commits, other roles and overriding sessions, up to the fence: acknowledged is there, the rest was refused', async () => {
    const role = `w_${randomBytes(4).toString('hex')}`;
    await t.blue.query(`CREATE ROLE ${role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
    const as = async (setup: string, user = 'postgres'): Promise<Client> => {
      const client = new Client({ connectionString: t.blue.url.replace('postgres@', `${user}@`) });
      client.on('error', () => undefined);
      await client.connect();
      await client.query(setup);
      return client;
    };
    const acknowledged = new Set<string>();
    const refused = new Map<string, string>();
    const write = async (name: string, client: Client, body: (n: number) => string): Promise<void> => {
      for (let n = 0; !refused.has(name); n += 1) {
        await client.query(body(n)).then(
          () => acknowledged.add(`${name}/${n}`),
          (error: { code?: string }) => refused.set(name, error.code ?? 'broken'),
        );
      }
      await client.end().catch(() => undefined);
    };
    const insert = (name: string) => (n: number) => `INSERT INTO writes VALUES ('${name}', ${n})`;
    const slowly = (name: string) => (n: number) => `BEGIN; ${insert(name)(n)}; SELECT pg_sleep(0.02); COMMIT`;
    const clients = [
      ...[1, 2, 3].map(async (n) => write(`async${n}`, await as('SET synchronous_commit = off'), insert(`async${n}`))),
      write('role', await as('SELECT 1', role), insert('role')),
      write('overriding', await as('SET default_transaction_read_only = off', role), slowly('overriding')),
      // Sessions that count as ours are not ended: only the wall stops them.
      write('ours', await as(`SET application_name = 'pgshift/like'; SET synchronous_commit = off`), insert('ours')),
    ];
    await sleep(300);
    await switchOver(t.both, t.pair, 'blue');
    await Promise.all(clients);
    const there = await t.green.query<{ key: string }>(`SELECT client || '/' || n AS key FROM writes`);
    const keys = new Set(there.map(({ key }) => key));
    expect(acknowledged.size).toBeGreaterThan(50);
    expect([...acknowledged].filter((key) => !keys.has(key))).toEqual([]);
    // Told of an error, and there all the same: only what was being committed in the very moment, once for each client.
    expect(keys.size - acknowledged.size).toBeLessThanOrEqual(refused.size);
    expect([...refused.keys()].sort()).toEqual(['async1', 'async2', 'async3', 'ours', 'overriding', 'role']);
    expect(refused.get('ours')).toBe('25006');
    await t.blue.query(`DROP OWNED BY ${role}`);
    await settleSide(t.both, t.pair, 'green');
    await t.blue.query(`DROP ROLE ${role}`).catch(() => undefined);
  });

  test('a transaction that is open across the switch: its client is told, and its row is on neither side', async () => {
    // A slot waits for whatever is open in its server, which is blue's here too: the way back is made first.
    await prepareWayBack(t.both, t.pair, 'reverse', {
      tables: await tablesOf(t.both, 'green'),
      publisher: t.pair.green,
      slotDeadlineMs: 5_000,
      patience,
    });
    const open = await t.blue.client();
    await open.query('BEGIN; INSERT INTO late VALUES (1)');
    const savepoint = await t.blue.client();
    await savepoint.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SAVEPOINT s; INSERT INTO late VALUES (2)');
    await switchOver(t.both, t.pair, 'blue');
    for (const client of [open, savepoint]) expect(await stateOf(client, 'COMMIT')).not.toBe('none');
    await t.green.query('INSERT INTO late VALUES (3)');
    await caughtUp(t.both, t.pair, 'reverse');
    for (const side of [t.blue, t.green]) expect(await side.query('SELECT id FROM late')).toEqual([{ id: 3 }]);
  });
});
