/** Ten thousand tables: the list travels through no history, every payload stays small, and all of them arrive. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Report } from '../../plan/model/status';
import { startCopyRun } from '../support/copyRun';
import { startOwnPostgres } from '../support/ownServers';
import { resultOf } from '../support/temporal';

const TABLES = 10_000;
const PAYLOAD_MAX = 256 * 1024;
const EVENTS_MAX = 4_096;

test('10,000 tables start and finish; no event is larger than 256 kB', async () => {
  const homes = [0, 1].map(() => mkdtempSync(join(tmpdir(), 'pgshift-many-')));
  // pg_dump holds a lock on each of them.
  const settings = { max_locks_per_transaction: '512', fsync: 'off' };
  const servers = await Promise.all(homes.map((home) => startOwnPostgres(home, { settings })));
  try {
    const [source, target] = [await servers[0]!.database('SELECT 1'), await servers[1]!.database('SELECT 1')];
    for (let from = 1; from <= TABLES; from += 500)
      await source.query(
        `DO $$ BEGIN FOR n IN ${from}..${from + 499} LOOP
           EXECUTE format('CREATE TABLE a_table_with_a_name_of_some_length_%s (id int PRIMARY KEY, t text)', n);
           EXECUTE format('INSERT INTO a_table_with_a_name_of_some_length_%s VALUES (%s, ''x'')', n, n);
         END LOOP; END $$`,
      );
    const run = await startCopyRun({ source, target });
    try {
      run.worker();
      await resultOf(run.handle);
      const report = await run.handle.query<Report>('report');
      expect(report.measured['copy']).toMatchObject({ tables: TABLES, copied: TABLES, rows: TABLES, skippedTables: 0 });
      const { events } = await run.handle.fetchHistory();
      const largest = Math.max(...(events ?? []).map((event) => JSON.stringify(event).length));
      process.stderr.write(`${events?.length ?? 0} events, the largest of ${largest} bytes\n`);
      expect(events?.length).toBeLessThan(EVENTS_MAX);
      expect(largest).toBeLessThan(PAYLOAD_MAX);
      expect(JSON.stringify(report).length).toBeLessThan(PAYLOAD_MAX);
    } finally {
      await run.close();
      await Promise.all([source.drop(), target.drop()]);
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    for (const home of homes) rmSync(home, { recursive: true, force: true });
  }
});
