import type { Claim } from '../../postgres/state/migrations';
import {
  claimName,
  completeAtContract,
  findMigration,
  setStatus,
  standingDependents,
} from '../../postgres/state/migrations';
import { install, installedVersion, uninstall } from '../../postgres/state/install';
import { releaseLease, takeLease, writeAudit, writeLog } from '../../postgres/state/journal';
import { UPGRADES } from '../../postgres/state/schema';
import type { Session } from '../../postgres/session';
import { openSession } from '../../postgres/session';
import { target } from '../../postgres/types';
import type { FreshDatabase } from '../support/database';
import { describeVersions, freshDatabase } from '../support/database';
import { codeOf } from '../support/engine';

const claim = (name: string, more: Partial<Claim> = {}): Claim => ({
  name,
  kind: 'schema-migration',
  checksum: 'c1',
  dependencies: [],
  workflowId: `migration/app/${name}`,
  runId: 'r1',
  appliedBy: 'me',
  ...more,
});

describeVersions('schema pgshift', (version) => {
  let db: FreshDatabase;
  let session: Session;
  beforeEach(async () => {
    db = await freshDatabase(version);
    session = await openSession(target('app', db.url), { purpose: 'test' });
  });
  afterEach(async () => {
    await session.close();
    await db.drop();
  });

  test('is installed by many at once, again, and removed whole', async () => {
    const others = await Promise.all([1, 2, 3].map(() => openSession(target('app', db.url), { purpose: 'test' })));
    await Promise.all([session, ...others].map((one) => install(one)));
    await install(session);
    expect(await installedVersion(session)).toBe(UPGRADES.length);
    const tables = await db.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class WHERE relnamespace = 'pgshift'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1`,
    );
    expect(tables.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'audit',
        'chunks',
        'copy_epochs',
        'copy_items',
        'copy_tables',
        'differences',
        'feature_flags',
        'guard',
        'leases',
        'locks_held',
        'migration_log',
        'migration_progress',
        'migrations',
        'plans',
        'quarantine',
        'routers',
        'routes',
        'steps',
      ]),
    );
    const health = await db.query(`SELECT check_name, status FROM pgshift.check_migration_health()`);
    expect(health.every(({ status }) => status === 'ok')).toBe(true);
    await Promise.all(others.map((one) => one.close()));
    await claimName(session, claim('a'));
    expect(await codeOf(uninstall(session))).toBe('NotNow');
    await setStatus(session, 'a', 'failed');
    expect(
      (await db.query(`SELECT status FROM pgshift.check_migration_health() WHERE check_name = 'failed_migrations'`))[0],
    ).toEqual({ status: 'critical' });
    await uninstall(session);
    expect(await installedVersion(session)).toBeNull();
    await uninstall(session);
  });

  test('needs no superuser, and names the GRANT when it may not', async () => {
    const role = `r_${db.name}`;
    await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
    const url = new URL(db.url);
    url.username = role;
    url.password = 'x';
    const plain = await openSession(target('app', url.toString()), { purpose: 'test' });
    await expect(install(plain)).rejects.toMatchObject({
      code: 'PrivilegeMissing',
      hint: `GRANT CREATE ON DATABASE "${db.name}" TO "${role}";`,
    });
    await db.query(`GRANT CREATE ON DATABASE ${db.name} TO ${role}`);
    await install(plain);
    expect(await claimName(plain, claim('a'))).toBe('claimed');
    await plain.close();
    await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  describe('a name', () => {
    beforeEach(() => install(session));

    test('is used by one run at a time', async () => {
      expect(await claimName(session, claim('a'))).toBe('claimed');
      expect(await claimName(session, claim('a'))).toBe('adopted');
      await expect(claimName(session, claim('a', { workflowId: 'other' }))).rejects.toMatchObject({
        code: 'NameInUse',
        details: { workflowId: 'migration/app/a', runId: 'r1' },
      });
      expect(await codeOf(claimName(session, claim('a', { runId: 'r2' })))).toBe('NameInUse');
      expect(await claimName(session, claim('a', { runId: 'r2', takeOverFrom: 'r1' }))).toBe('claimed');
    });

    test('is claimed by one of many at the same moment', async () => {
      const sessions = await Promise.all(
        [1, 2, 3, 4].map(() => openSession(target('app', db.url), { purpose: 'test' })),
      );
      const codes = await Promise.all(
        sessions.map((one, index) => codeOf(claimName(one, claim('a', { workflowId: `w${index}` })))),
      );
      await Promise.all(sessions.map((one) => one.close()));
      expect(codes.sort()).toEqual(['NameInUse', 'NameInUse', 'NameInUse', 'none']);
    });

    test('is not waited for while somebody holds its row', async () => {
      await claimName(session, claim('a'));
      const holder = await db.client();
      await holder.query(`BEGIN; SELECT * FROM pgshift.migrations FOR UPDATE`);
      const from = performance.now();
      expect(await codeOf(claimName(session, claim('a')))).toBe('LockTimeout');
      expect(performance.now() - from).toBeLessThan(5_000);
      await holder.query('ROLLBACK');
    });

    test('is spent once completed, and free again after failed or rolled back, also changed', async () => {
      await claimName(session, claim('a'));
      await completeAtContract(session, 'a');
      expect(await findMigration(session, 'a')).toMatchObject({ status: 'completed', appliedAt: expect.any(String) });
      expect(await claimName(session, claim('a'))).toBe('adopted');
      expect(await codeOf(claimName(session, claim('a', { runId: 'r2' })))).toBe('AlreadyApplied');
      expect(await codeOf(claimName(session, claim('a', { runId: 'r2', checksum: 'c2' })))).toBe('ChecksumMismatch');
      await setStatus(session, 'a', 'rolled_back');
      expect(await claimName(session, claim('a', { runId: 'r2', checksum: 'c2' }))).toBe('claimed');
      expect(await findMigration(session, 'a')).toMatchObject({ status: 'running', checksum: 'c2', appliedAt: null });
    });

    test('depends on completed ones alone, and never on itself', async () => {
      await expect(claimName(session, claim('b', { dependencies: ['a'] }))).rejects.toMatchObject({
        code: 'DependencyMissing',
        message: 'b depends on a (never run)',
      });
      expect(await codeOf(claimName(session, claim('a', { dependencies: ['a'] })))).toBe('DependencyCycle');
      await claimName(session, claim('a'));
      await completeAtContract(session, 'a');
      await claimName(session, claim('b', { dependencies: ['a'] }));
      await completeAtContract(session, 'b');
      await claimName(session, claim('c', { dependencies: ['b'] }));
      await setStatus(session, 'a', 'rolled_back');
      await expect(claimName(session, claim('a', { runId: 'r2', dependencies: ['c'] }))).rejects.toMatchObject({
        code: 'DependencyCycle',
        details: { path: ['a', 'c', 'b', 'a'] },
      });
      expect(await standingDependents(session, 'a')).toEqual(['b']);
    });
  });

  test('keeps log, audit and leases', async () => {
    await install(session);
    await writeLog(session, {
      migration: 'a',
      level: 'info',
      phase: null,
      step: null,
      message: 'hello',
      details: { x: 1 },
    });
    const entry = {
      by: 'me',
      via: 'cli' as const,
      action: 'approve',
      gate: 'contract',
      reason: null,
      requestId: 'q',
      workflowId: 'w',
    };
    await writeAudit(session, entry);
    await writeAudit(session, entry);
    expect(await db.query(`SELECT count(*)::int AS n FROM pgshift.audit`)).toEqual([{ n: 1 }]);
    expect(await takeLease(session, 'r', 'one')).toBe(1);
    expect(await takeLease(session, 'r', 'one')).toBe(1);
    expect(await takeLease(session, 'r', 'two')).toBeNull();
    await releaseLease(session, 'r', 'two');
    expect(await takeLease(session, 'r', 'two')).toBeNull();
    await releaseLease(session, 'r', 'one');
    expect(await takeLease(session, 'r', 'two')).toBe(1);
  });
});
