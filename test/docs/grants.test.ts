/** docs/grants.md is exact: a role with these grants and no other runs the example that does most, and takes it back. */
import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { readStatus } from '../../client/commands/status';
import { makeSample } from '../../client/demo/sample';
import { SAMPLE_ROLE } from '../../client/demo/sampleSql';
import { Temporal } from '../../client/temporal';
import { temporalOptions } from '../../worker/temporal';
import { freshDatabase } from '../support/database';
import type { FreshDatabase } from '../support/database';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';

const root = resolve(__dirname, '..', '..');
const page = readFileSync(join(root, 'docs/grants.md'), 'utf8');
const sql = /```sql\n([^]*?)```/.exec(page)?.[1] ?? '';

describe('docs/grants.md', () => {
  const suffix = randomBytes(4).toString('hex');
  const role = `pgshift_${suffix}`;
  const owner = `shop_${suffix}`;
  let database: FreshDatabase;

  beforeAll(async () => {
    database = await freshDatabase(18);
    await database.query(SAMPLE_ROLE);
    await database.query(`CREATE ROLE ${owner}; GRANT USAGE, CREATE ON SCHEMA public TO ${owner}`);
    const client = await database.client();
    await client.query(`SET ROLE ${owner}`);
    await makeSample(client, { payments: 2_000 });
    await database.query(
      sql
        .replace(/\bpgshift\b(?=[^']*(;|LOGIN))/g, role)
        .replace(/\bshop\b/g, owner)
        .replace(/\bDATABASE app\b/, `DATABASE ${database.name}`)
        .replace("'...'", "'secret'"),
    );
  });
  afterAll(async () => {
    await database.query(`DROP OWNED BY ${role}, ${owner} CASCADE`);
    await database.query(`REVOKE SET ON PARAMETER session_replication_role FROM ${role}`);
    await database.drop();
    const admin = await freshDatabase(18, `DROP ROLE ${role}; DROP ROLE ${owner}`);
    await admin.drop();
  });

  test('is enough for a type change, a NOT NULL column, a foreign key, indexes, and the way back', async () => {
    const [row] = await database.query<{ super: boolean }>(
      `SELECT rolsuper AS super FROM pg_roles WHERE rolname = '${role}'`,
    );
    expect(row?.super).toBe(false);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'secret';
    const taskQueue = `grants-${suffix}`;
    const worker = startWorkerProcess({
      taskQueue,
      databases: { app: url.toString() },
      temporalAddress: temporalAddress(),
    });
    const env = { ...process.env, TEMPORAL_ADDRESS: temporalAddress() };
    const temporal = await Temporal.connect({ ...temporalOptions({ env, useDev: false }), uiUrl: null, taskQueue });
    try {
      const plan = parse(readFileSync(join(root, 'examples/04_payment_precision.yaml'), 'utf8')) as { name: string };
      const id = `grants/${randomUUID()}`;
      await temporal.start({
        type: 'schemaMigration',
        id,
        argument: { ...plan, gates: {} },
        by: 'test',
        attributes: { name: plan.name, database: 'app', kind: 'schema-migration' },
      });
      for (;;) {
        const seen = await temporal.describe(id);
        if (seen?.execution === 'FAILED') throw (await temporal.failure(id)) ?? new Error('failed');
        if (seen && (await readStatus(temporal, seen)).status === 'holding') break;
        await sleep(200);
      }
      await temporal.update(id, 'rollback', { by: 'test' });
      while ((await temporal.describe(id))?.endedAt === null) await sleep(200);
      expect((await temporal.failure(id))?.code).toBe('RolledBack');
    } finally {
      await temporal.close();
      await worker.stop();
    }
  });
});
