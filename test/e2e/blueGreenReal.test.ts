/**
 * Real schemas (Pagila: partitions, an enum, domains, an aggregate, views, triggers, tsvector; Chinook: serial keys, a self reference, a key of two
 * columns) under clients that write to their own tables: drilled, switched, and back. Rows and catalogue are the same on both sides, every write is where
 * clients write, and nothing of the switch is left. Where the data is not beside the repository these are shown as skipped.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { Pool } from 'pg';
import { diffCatalog } from '../../postgres/catalog/diff';
import type { PairWorld } from '../support/blueGreen';
import { pairWorld } from '../support/blueGreen';
import type { Writable } from '../support/blueGreen';
import { eventually } from '../support/copy';
import type { FreshDatabase, ServerVersion } from '../support/database';
import { hasVersion } from '../support/database';
import { hasPgbouncer, startPgbouncer } from '../support/pgbouncer';
import type { RealName } from '../support/realData';
import { digests, dumped, hasReal, loadReal, REAL, startRealWriters, unlike } from '../support/realData';
import { drawn } from '../support/whole';
import type { Harness } from '../workflows/harness';
import { failure, harness, reportOf, send, until } from '../workflows/harness';

const LONG = 300_000;

/** What clients go through. */
interface Traffic {
  readonly pool: Writable;
  readonly plan: Readonly<Record<string, unknown>>;
  readonly connections: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

async function throughRouter(world: PairWorld): Promise<Traffic> {
  const router = world.router();
  await router.ready();
  return { pool: router.pool(), plan: {}, connections: {}, close: async () => undefined };
}

async function throughPgbouncer(world: PairWorld): Promise<Traffic> {
  const { hostname, port, username } = new URL(world.blue.url);
  const pooler = await startPgbouncer({
    databases: `app = host=${hostname} port=${port} dbname=${world.blue.name}`,
    user: username,
    users: [world.role],
  });
  const pool = new Pool({ connectionString: pooler.url('app', world.role), max: 6 });
  pool.on('error', () => undefined);
  const traffic = [{ type: 'pgbouncer', admin: ['pool'], database: 'app', databasesFile: pooler.databasesFile }];
  return {
    pool,
    plan: { traffic },
    connections: { pool: pooler.url('pgbouncer') },
    close: async () => {
      await pool.end();
      await pooler.stop();
    },
  };
}

/** What stands outside the schemas: who may come in (as it is in effect: no list at all means the default one), and what is set for whom. */
const accessOf = (database: FreshDatabase, role: string): Promise<Record<string, unknown>[]> =>
  database.query(
    `SELECT (SELECT array_agg(x::text ORDER BY x::text) FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x) AS access, d.datconnlimit, r.rolcanlogin, r.rolsuper, r.rolreplication, r.rolconfig::text,
            (SELECT count(*)::int FROM pg_auth_members WHERE member = r.oid) AS member,
            (SELECT count(*)::int FROM pg_db_role_setting WHERE setdatabase = d.oid) AS settings
       FROM pg_database AS d, pg_roles AS r WHERE d.datname = current_database() AND r.rolname = '${role}'`,
  );

/**
 * But for what replicates, the wall, and who may come into blue while green takes the writes. The key of a partition is built by itself and attached, by
 * pg_dump as by ours: it does not say that it is inherited, and no statement makes it say so.
 */
const comparable = (lines: readonly string[]): string[] =>
  lines
    .filter((line) => !/_?pgshift_/.test(line) && !line.startsWith('pg_database '))
    .map((line) => (/"contype":"[pu]"/.test(line) ? line.replace(',"connoinherit":true', '') : line));

const ROADS: readonly (readonly [RealName, ServerVersion, ServerVersion])[] = [
  ['pagila', 18, 18],
  ['pagila', 15, 18],
  ['chinook', 18, 18],
  ['chinook', 15, 18],
  ['chinook', 18, 15],
];

describe.each(drawn(ROADS))('%s from %i to %i', (name, from, to) => {
  const real = REAL[name];
  let world: PairWorld;
  let traffic: Traffic;
  let h: Harness;
  const possible = hasReal(name) && hasVersion(from) && hasVersion(to);
  beforeEach(async () => {
    if (!possible) return;
    world = await pairWorld('', [from, to]);
    await loadReal(real, world.blue, world.role);
    traffic = await (from === 15 && hasPgbouncer ? throughPgbouncer : throughRouter)(world);
    h = await harness(undefined, {}, { ...world.databases, ...traffic.connections });
  }, LONG);
  afterEach(async () => {
    if (!possible) return;
    await h.close();
    await traffic.close();
    await world.drop();
  });

  (possible ? test : test.skip)(
    'there, drilled, and back under writes: rows and catalogue are equal, and nothing is left',
    async () => {
      const before = { blue: await world.catalog('blue'), green: await world.catalog('green') };
      const access = { blue: await accessOf(world.blue, world.role), green: await accessOf(world.green, world.role) };
      const schema = await dumped(world.blue);
      const first = startRealWriters(real, traffic.pool);
      const handle: WorkflowHandle = await h.client.workflow.start('blueGreen', {
        workflowId: `test/${h.database.name}/real`,
        taskQueue: h.taskQueue,
        args: [world.plan({ ...traffic.plan, drill: true })],
      });
      await until(handle, ({ status, phase }) => status === 'holding' && phase === 'hold', 200_000);
      await sleep(500);
      await first.stop();
      expect(first.errors).toEqual([]);
      expect(await unlike(real, first.acknowledged, world.green)).toEqual([]);

      // Both sides hold the same: the way back carries what was written on green.
      await eventually(async () => (await unlike(real, first.acknowledged, world.blue)).length === 0);
      const rows = await digests(world.green);
      expect(await digests(world.blue)).toEqual(rows);
      expect(rows).toHaveLength(real.digests);
      // What can be granted grew from major to major: an older green has all of it that it knows.
      const known = (lines: readonly string[]) => lines.filter((line) => from <= to || !line.startsWith('GRANT '));
      expect(known(await dumped(world.green))).toEqual(known(await dumped(world.blue)));
      expect(known(schema)).toEqual(known(await dumped(world.green)));
      if (from === to) {
        const [blue, green] = [comparable(await world.catalog('blue')), comparable(await world.catalog('green'))];
        expect(diffCatalog(blue, green)).toEqual({ added: [], removed: [] });
      }

      const second = startRealWriters(real, traffic.pool, first.next());
      await sleep(300);
      await send(handle, 'rollback', { by: 'ann' });
      await expect(failure(handle)).resolves.toMatchObject({ type: 'RolledBack' });
      await sleep(300);
      await second.stop();
      expect(second.errors).toEqual([]);
      const all = new Set([...first.acknowledged, ...second.acknowledged]);
      expect(await unlike(real, all, world.blue)).toEqual([]);
      expect(all.size).toBeGreaterThan(100);

      const report = await reportOf(handle);
      const said = report.switches?.map(({ purpose, outcome, pausedMs }) => `${purpose} ${outcome} ${pausedMs} ms`);
      process.stderr.write(`${name} ${from} to ${to}: ${all.size} writes, ${said?.join(', ')}\n`);
      expect(report.switches?.map(({ purpose, outcome }) => `${purpose} ${outcome}`)).toEqual([
        'drill switched',
        'drill switched',
        'switch switched',
        'back switched',
      ]);
      expect(report).toMatchObject({ writableSide: 'blue', measured: { verified: { tables: real.tables } } });
      expect(await world.left()).toEqual([]);
      expect(diffCatalog(before.blue, await world.catalog('blue'))).toEqual({ added: [], removed: [] });
      expect(diffCatalog(before.green, await world.catalog('green'))).toEqual({ added: [], removed: [] });
      expect(await accessOf(world.blue, world.role)).toEqual(access.blue);
      expect(await accessOf(world.green, world.role)).toEqual(access.green);
    },
    LONG,
  );
});
