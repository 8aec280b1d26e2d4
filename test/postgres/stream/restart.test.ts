/** The source dies with -9 in the middle of the stream and comes back on its files: the stream goes on where the target stands. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { buildRest, copyBatch, makeSchema, openSnapshot } from '../../../postgres/copy/run';
import type { CopyContext } from '../../../postgres/copy/context';
import { drainCopy, endCopyStream } from '../../../postgres/stream/run';
import { target } from '../../../postgres/types';
import { anyFreePort } from '../../../worker/embedded/ports';
import { startPostgres } from '../../../worker/embedded/postgres';
import { findPostgresBin } from '../../../worker/embedded/tools';
import { eventually } from '../../support/copy';
import { followIn, streamPair } from '../../support/stream';
import { serverHome } from '../../support/serverHome';

test('kill -9 of the source', async () => {
  const home = serverHome('stream');
  chmodSync(home, 0o755);
  const { path: bin } = await findPostgresBin();
  const port = await anyFreePort();
  const up = () =>
    startPostgres({
      bin,
      data: join(home, 'data'),
      port,
      logFile: join(home, 'log'),
      password: null,
      settings: { wal_level: 'logical', full_page_writes: 'off' },
    });
  let server = await up();
  const url = server.urlOf('postgres');
  const run = async <R>(sql: string): Promise<R[]> => {
    const client = new Client({ connectionString: url });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(sql)).rows as R[];
    } finally {
      await client.end();
    }
  };
  const pair = await streamPair('');
  const context: CopyContext = { ...pair.context, source: target('old', url) };
  try {
    await run(
      `CREATE TABLE t (id serial PRIMARY KEY, v int NOT NULL); INSERT INTO t (v) SELECT 0 FROM generate_series(1, 2000)`,
    );
    const { pieces } = await openSnapshot(context);
    await makeSchema(context);
    for (const { from, to } of pieces) await copyBatch(context, from, to);
    await buildRest(context);
    let writing = true;
    let acknowledged = 0;
    const writer = (async () => {
      while (writing) {
        const client = new Client({ connectionString: url });
        client.on('error', () => undefined);
        try {
          await client.connect();
          for (; writing; acknowledged += 1) {
            await client.query(
              `WITH n AS (INSERT INTO t (v) VALUES (1)) UPDATE t SET v = v + 1 WHERE id = 1 + floor(random() * 2000)`,
            );
          }
        } catch {
          await sleep(50);
        } finally {
          await client.end().catch(() => undefined);
        }
      }
    })();
    const first = followIn(context);
    await eventually(async () => (first.looks.at(-1)?.changes ?? 0) > 200);
    process.kill(server.mark.pid, 'SIGKILL');
    await server.ended;
    const code = await first.ended.catch((error: { code: string }) => error.code);
    expect(['Unreachable', 'ServerRestarting']).toContain(code);
    server = await up();
    const before = acknowledged;
    const second = followIn(context);
    await eventually(async () => acknowledged > before + 100 && second.looks.length > 1);
    writing = false;
    await writer;
    await second.stop();
    expect((await drainCopy(context, () => 'go on')).verdict).toBe('reached');
    const sum = `SELECT count(*)::int AS n, sum(v)::int AS v, sum(id::bigint * v)::text AS k FROM t`;
    expect(await pair.target.query(sum)).toEqual(await run(sum));
    await endCopyStream(context);
    expect(await run(`SELECT 1 FROM pg_replication_slots`)).toEqual([]);
  } finally {
    await pair.drop();
    await server.stop();
  }
});
