/** Small changes: how long locks are held, and how long a change takes that has no data to touch. */
import { lockRank } from '../plan/model/steps';
import type { Line } from './line';
import { median, migrate, settle } from './stack';
import type { Bench } from './stack';

const FLOOR = lockRank('SHARE UPDATE EXCLUSIVE');

/** Each round is a whole change (type, NOT NULL, CHECK, foreign key, index) and its way back; the longest lock of each counts. */
export async function locks(bench: Bench, rounds: number): Promise<Line[]> {
  await bench.client.query('DROP TABLE IF EXISTS bench_locks, bench_parent');
  await bench.client.query('CREATE TABLE bench_parent (id integer PRIMARY KEY)');
  await bench.client.query('INSERT INTO bench_parent SELECT generate_series(1, 100)');
  await bench.client.query(
    'CREATE TABLE bench_locks (id bigint PRIMARY KEY, parent integer NOT NULL, amount integer, note text)',
  );
  await bench.client.query("INSERT INTO bench_locks SELECT n, 1 + n % 100, n, 'x' FROM generate_series(1, 20000) n");
  await bench.client.query('CREATE INDEX ON bench_locks (amount)');
  await bench.client.query('VACUUM ANALYZE bench_locks');
  const longest: number[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const { id, report } = await migrate(bench, {
      name: `bench_locks_${round}`,
      sql: `ALTER TABLE bench_locks ALTER COLUMN amount TYPE bigint;
            ALTER TABLE bench_locks ALTER COLUMN note SET NOT NULL;
            ALTER TABLE bench_locks ADD CONSTRAINT bench_note CHECK (length(note) < 100);
            ALTER TABLE bench_locks ADD CONSTRAINT bench_fk FOREIGN KEY (parent) REFERENCES bench_parent;
            CREATE INDEX bench_note_idx ON bench_locks (note);`,
      keys: { hold: '1h' },
    });
    const held = report.steps.flatMap((step) => step.locks).filter((lock) => lockRank(lock.mode) > FLOOR);
    longest.push(Math.max(0, ...held.map((lock) => lock.heldMs)));
    await settle(bench, id, 'rollback');
  }
  await bench.client.query('DROP TABLE bench_locks, bench_parent');
  const middle = median(longest);
  return [
    {
      what: `longest lock above SHARE UPDATE EXCLUSIVE in a change, median of ${rounds}`,
      measured: `${middle.toFixed(1)} ms`,
      against: `the longest of all ${Math.max(...longest).toFixed(1)} ms`,
      ratio: null,
      asked: 'under 100 ms',
      met: middle < 100,
    },
  ];
}

export async function metadataOnly(bench: Bench, rounds: number): Promise<Line[]> {
  await bench.client.query('CREATE TABLE IF NOT EXISTS bench_metadata (id bigint PRIMARY KEY)');
  const seconds: number[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const sql = `ALTER TABLE bench_metadata ADD COLUMN c${round} text`;
    seconds.push((await migrate(bench, { name: `bench_metadata_${round}`, sql, keys: { hold: '0s' } })).seconds);
  }
  await bench.client.query('DROP TABLE bench_metadata');
  const middle = median(seconds);
  return [
    {
      what: `a metadata-only change from start to done, median of ${rounds}`,
      measured: `${middle.toFixed(2)} s`,
      against: `the longest ${Math.max(...seconds).toFixed(2)} s`,
      ratio: null,
      asked: 'under 2 s',
      met: middle < 2,
    },
  ];
}
