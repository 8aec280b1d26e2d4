/** Check performance on a server that has pg_stat_statements: what costs more on the target, and why, is said; nothing of it is an error. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../support/copy';
import { freshDatabase } from '../../support/database';
import { startOwnPostgres } from '../../support/ownServers';
import { verify } from '../../support/verify';

const SETUP = `CREATE TABLE doc (id int PRIMARY KEY, owner int, note text); INSERT INTO doc SELECT g, g % 500, 'n' || g FROM generate_series(1, 20000) g; ANALYZE doc;`;

test('statements that cost more there, an index that is read by and lacking, a cold cache: named as warnings', async () => {
  const home = mkdtempSync(join(tmpdir(), 'pgshift-statements-'));
  const server = await startOwnPostgres(home, {
    settings: { shared_preload_libraries: 'pg_stat_statements', fsync: 'off' },
  });
  const target = await freshDatabase(18, SETUP);
  try {
    const source = await server.database(
      `${SETUP} CREATE INDEX by_owner ON doc (owner); CREATE INDEX unread ON doc (note); CREATE EXTENSION pg_stat_statements;`,
    );
    const plan = { checks: ['performance'] };
    const told = async (): Promise<string[]> => {
      const result = await verify(source, target, plan);
      expect([result.passed, result.errors]).toEqual([true, []]);
      return result.warnings.map(({ table, message }) => `${table ?? '-'}: ${message}`);
    };
    for (let owner = 1; owner <= 5; owner += 1) await source.query(`SELECT note FROM doc WHERE owner = $1`, [owner]);
    await eventually(
      async () =>
        (await source.query(`SELECT 1 FROM pg_stat_all_indexes WHERE indexrelname = 'by_owner' AND idx_scan >= 5`))
          .length === 1,
    );
    const [statement] = await source.query<{ id: string }>(
      `SELECT queryid::text AS id FROM pg_stat_statements WHERE query LIKE 'SELECT note FROM doc%'`,
    );
    const slow = expect.stringMatching(
      new RegExp(`^-: statement ${statement?.id ?? 'none'} costs [0-9,.]+ on the target, [0-9,.]+ on the source$`),
    ) as string;
    const lacking = 'public.doc: index btree (owner) was read 5 times on the source and is missing on the target';
    const first = await told();
    expect(first).toEqual(expect.arrayContaining([slow, lacking]));
    expect(first.join('\n')).not.toMatch(/btree \(note\)|SELECT note/);
    await target.query(`CREATE INDEX another_name ON doc (owner); ANALYZE doc`);
    const second = await told();
    expect(second).not.toContainEqual(slow);
    expect(second).not.toContain(lacking);
    await target.query(`CREATE EXTENSION pg_buffercache; SELECT pg_stat_reset()`);
    await target.query(`SELECT pg_buffercache_evict_relation('doc'); SELECT count(note) FROM doc`);
    await eventually(
      async () =>
        (await target.query(`SELECT 1 FROM pg_statio_user_tables WHERE relname = 'doc' AND heap_blks_read > 0`))
          .length === 1,
    );
    expect(await told()).toContainEqual(expect.stringMatching(/^-: cache hit ratio is 0\.\d\d on the target, /));
  } finally {
    await target.drop();
    await server.stop();
    rmSync(home, { recursive: true, force: true });
  }
});
