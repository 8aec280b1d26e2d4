import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BackfillRun, SchemaPlan, TransactionRun } from '../../plan/model/steps';
import { backUp } from '../../postgres/backup';
import type { PreflightCheck } from '../../postgres/preflight';
import { preflight, requireChecks } from '../../postgres/preflight';
import { openSession, withSession } from '../../postgres/session';
import { target } from '../../postgres/types';
import type { FreshDatabase } from '../support/database';
import { describeVersions, freshDatabase } from '../support/database';
import { codeOf, stepOf } from '../support/engine';

const run: TransactionRun = {
  kind: 'transaction',
  lockFirst: [{ relation: { schema: 'public', name: 't' }, mode: 'ACCESS EXCLUSIVE' }],
  statements: ['ALTER TABLE t ADD COLUMN _pgshift_new_a int'],
  long: false,
};
const plan: SchemaPlan = {
  kind: 'schema-migration',
  name: 'm1',
  database: 'app',
  mode: 'production',
  checksum: '',
  serverVersion: 180000,
  runnable: true,
  risk: { overall: 'low', dataLoss: 'low', downtime: 'low', performance: 'low', rollback: 'low' },
  estimate: { seconds: [0, 1], bytes: [0, 1_000_000] },
  steps: [stepOf(run)],
  findings: [],
  dependents: [],
  asked: [],
  keepsOld: false,
};

describeVersions('preflight', (version) => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase(version, `CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)`);
  });
  afterAll(() => db.drop());
  const check = (url = db.url, of = plan): Promise<PreflightCheck[]> =>
    withSession(target('app', url), { purpose: 'test' }, (session) => preflight(session, target('app', url), of));
  const named = (checks: PreflightCheck[], name: string): PreflightCheck | undefined =>
    checks.find((one) => one.check === name);

  test('passes on a quiet database, with evidence for each check', async () => {
    const checks = await check();
    requireChecks(checks);
    expect(checks.filter(({ ok }) => !ok)).toEqual([]);
    expect(named(checks, 'version')).toMatchObject({ level: 'ok' });
    expect(checks.every(({ evidence }) => evidence !== '')).toBe(true);
  });

  test('warns of long transactions and blockers, refuses what does not fit on the disk', async () => {
    const sitter = await db.client();
    await sitter.query(`BEGIN; SELECT * FROM t`);
    const huge = { ...plan, estimate: { seconds: [0, 1] as const, bytes: [0, 1e18] as const } };
    const checks = await check(db.url, huge);
    expect(named(checks, 'disk')?.ok).toBe(false);
    expect(() => requireChecks(checks)).toThrow(/disk/);
    await sitter.query('ROLLBACK');
  });

  test('finds what another run left under the same names', async () => {
    await db.query(`ALTER TABLE t ADD COLUMN _pgshift_new_a int`);
    expect(named(await check(), 'leftovers')).toMatchObject({ ok: false, evidence: 'column public.t._pgshift_new_a' });
    await db.query(`ALTER TABLE t DROP COLUMN _pgshift_new_a`);
  });

  test('names each GRANT that is missing', async () => {
    const role = `r_${db.name}`;
    await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'; REVOKE CREATE ON SCHEMA public FROM PUBLIC`);
    const url = new URL(db.url);
    url.username = role;
    url.password = 'x';
    const checks = await check(url.toString());
    expect(await codeOf((async () => requireChecks(checks))())).toBe('PrivilegeMissing');
    const remedies = checks.filter(({ ok }) => !ok).map(({ remedy }) => remedy);
    expect(remedies).toContain(`GRANT CREATE ON DATABASE "${db.name}" TO "${role}";`);
    expect(remedies).toContain(`GRANT USAGE, CREATE ON SCHEMA "public" TO "${role}";`);
    expect(remedies.some((remedy) => /^GRANT ".*" TO /.test(remedy ?? ''))).toBe(true);
    // A backfill that must not fire triggers: seen before anything runs, not in the middle.
    await db.query(`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$;
      CREATE TRIGGER f BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()`);
    const quiet: BackfillRun = {
      kind: 'backfill',
      table: { schema: 'public', name: 't' },
      set: [],
      pending: 'true',
      key: null,
      quiet: true,
      column: 't.a',
    };
    const silent = await check(url.toString(), { ...plan, steps: [stepOf(quiet)] });
    if (version >= 15)
      expect(silent.map(({ remedy }) => remedy)).toContain(
        `GRANT SET ON PARAMETER session_replication_role TO "${role}";`,
      );
    for (const remedy of remedies) if (remedy?.startsWith('GRANT')) await db.query(remedy);
    requireChecks(await check(url.toString()));
    await db.query(`REASSIGN OWNED BY ${role} TO CURRENT_USER; DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });
});

describeVersions('a backup', (version) => {
  // 18's pg_dump reads both.
  beforeAll(() => void (process.env.PGSHIFT_POSTGRES_BIN ??= process.env.PGSHIFT_TEST_PG18_BIN));

  test('is whole, readable by its owner alone, and verified; a failed one leaves nothing', async () => {
    const db = await freshDatabase(version, `CREATE TABLE t (id int PRIMARY KEY)`);
    const directory = mkdtempSync(join(tmpdir(), 'pgshift-backup-'));
    try {
      const made = await backUp({ target: target('app', db.url), directory, name: 'm1' });
      expect(made.entries).toBeGreaterThan(0);
      expect(statSync(made.file).mode & 0o777).toBe(0o600);
      const session = await openSession(target('app', db.url), { purpose: 'test' });
      await session.close();
      const gone = new URL(db.url);
      gone.pathname = '/no_such_database';
      expect(await codeOf(backUp({ target: target('app', gone.toString()), directory, name: 'm2' }))).toBe(
        'BackupFailed',
      );
      expect(readdirSync(directory)).toEqual(['m1.dump']);
    } finally {
      rmSync(directory, { recursive: true });
      await db.drop();
    }
  });
});
