import { describeVersions, freshDatabase } from './database';
import { temporalAddress } from './temporal';

describeVersions('a database of its own', (version) => {
  it('is made, used and dropped, whatever is still connected', async () => {
    const database = await freshDatabase(version, 'CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2)');
    const client = await database.client();
    const { rows } = await client.query('SELECT count(*)::int AS n, current_setting($1) AS wal FROM a', ['wal_level']);
    expect(rows).toEqual([{ n: 2, wal: 'logical' }]);
    expect(await database.query<{ major: string }>(`SELECT split_part(version(), ' ', 2) AS major`)).toEqual([
      { major: expect.stringMatching(new RegExp(`^${version}`)) as string },
    ]);
    await client.query('BEGIN; LOCK a');
    await database.drop();
  });
});

it('has a Temporal server', () => {
  expect(temporalAddress()).toMatch(/^127\.0\.0\.1:\d+$/);
});
