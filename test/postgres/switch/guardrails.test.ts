import { randomBytes } from 'node:crypto';
import { wallOff } from '../../../postgres/switch/fence';
import { CHECKS, refuseUnsafe, runGuardrails, stopping } from '../../../postgres/switch/guardrails';
import type { Guardrail, GuardrailInput } from '../../../postgres/switch/guardrails';
import { setIdentities } from '../../../postgres/switch/identity';
import { openSession } from '../../../postgres/session';
import { ensurePublication } from '../../../postgres/switch/publication';
import { activate, deactivate, endsOf, namesOf } from '../../../postgres/switch/replicate';
import { waitReached } from '../../../postgres/switch/progress';
import { ensureSlot } from '../../../postgres/switch/slot';
import { ensureSubscription } from '../../../postgres/switch/subscription';
import { replicated, userTables } from '../../../postgres/switch/tables';
import { target } from '../../../postgres/types';
import { needPostgresTools } from '../../support/copy';
import { until } from '../../support/engine';
import type { TestPair } from '../../support/pair';
import { describePairs, SWITCH, testPair } from '../../support/pair';

const signal = new AbortController().signal;
const patience = { lockTimeoutMs: 200, budgetMs: 10_000, signal };

describePairs('guardrails', (from, to) => {
  let t: TestPair;
  beforeAll(needPostgresTools);
  afterEach(() => t.drop());
  const input = (more: Partial<GuardrailInput> = {}): GuardrailInput => ({
    both: t.both,
    pair: t.pair,
    peers: { blue: t.pair.blue, green: t.pair.green },
    stage: 'before',
    direction: 'forward',
    limits: { maxTransactionAgeMs: 30_000, maxLagBytes: 1024 ** 2 },
    applicationRoles: [],
    ...more,
  });
  const bad = (found: readonly Guardrail[]) => [
    ...new Set(stopping(found).map(({ check, side }) => `${check} ${side}`)),
  ];

  test('a clean pair passes; green empty; each finding has evidence and a remedy', async () => {
    t = await testPair([from, to], '');
    await t.blue.query('CREATE TABLE a (id bigint PRIMARY KEY, v text)');
    const found = await runGuardrails(input());
    expect(bad(found)).toEqual([]);
    refuseUnsafe(found);
    for (const one of found) {
      expect(one.evidence).not.toBe('');
      expect(one.remedy === '').toBe(one.verdict === 'pass');
    }
    expect(found.filter(({ verdict }) => verdict === 'unknown')).toEqual([]);
  });

  test('everything that stops it, by name', async () => {
    t = await testPair([from, to], '');
    await t.blue.query(`
      CREATE TABLE nokey (j json); CREATE UNLOGGED TABLE fast (id int); CREATE TABLE a (id int PRIMARY KEY);
      CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
      CREATE TRIGGER always BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE a ENABLE ALWAYS TRIGGER always;
      SELECT lo_create(0); CREATE TABLE full_one (x int); CREATE PUBLICATION theirs FOR TABLE a;
      INSERT INTO a VALUES (1), (2); `);
    await t.blue.query(`SELECT pg_create_logical_replication_slot('their_${t.blue.name}', 'pgoutput')`);
    await t.green.query('CREATE TABLE here (id int)');
    const client = await t.blue.client();
    await client.query(`BEGIN; INSERT INTO a VALUES (3); PREPARE TRANSACTION '${t.blue.name}'`);
    await client.query('BEGIN; SELECT 1');
    const long = await t.blue.client();
    await long.query('BEGIN; SELECT 1');
    await new Promise((resolve) => setTimeout(resolve, 60));
    const found = await runGuardrails(input({ limits: { maxTransactionAgeMs: 50, maxLagBytes: 0 } }));
    expect(bad(found)).toEqual(
      expect.arrayContaining([
        'green_empty green',
        'replica_identity blue',
        'unlogged_tables blue',
        'triggers_always blue',
        'prepared_transactions blue',
        'long_transactions blue',
      ]),
    );
    const warned = found
      .filter(({ verdict, severity }) => verdict === 'fail' && severity === 'warning')
      .map(({ check }) => check);
    expect(warned).toEqual(
      expect.arrayContaining(['identity_full', 'large_objects', 'other_slots', 'other_publications']),
    );
    expect(() => refuseUnsafe(found)).toThrow(expect.objectContaining({ code: 'GuardrailFailed' }) as Error);
    expect(() =>
      refuseUnsafe(
        found,
        CHECKS.map(({ id }) => id),
      ),
    ).not.toThrow();
    expect(found.find(({ check }) => check === 'replica_identity')?.evidence).toBe(
      'no key, and types without equality: public.nokey (json)',
    );
    await client.query('ROLLBACK');
    await client.query(`ROLLBACK PREPARED '${t.blue.name}'`);
  });

  test('a role that lacks rights is told which, for the way back too; what it cannot see is unknown and stops it', async () => {
    t = await testPair([from, to], '');
    await t.blue.query('CREATE TABLE a (id int PRIMARY KEY); CREATE SEQUENCE hidden');
    const role = `weak_${randomBytes(4).toString('hex')}`;
    await t.blue.query(`CREATE ROLE ${role} LOGIN`);
    await t.green.query(`DO $$BEGIN CREATE ROLE ${role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END$$`);
    const as = (url: string) => url.replace('postgres@', `${role}@`);
    const long = await t.blue.client();
    await long.query('BEGIN; SELECT 1');
    const blue = await openSession(target('blue', as(t.blue.url)), { purpose: 'test' });
    const green = await openSession(target('green', as(t.green.url)), { purpose: 'test' });
    try {
      const found = await runGuardrails(
        input({
          both: { blue, green },
          peers: { blue: target('blue', as(t.blue.url)), green: target('green', as(t.green.url)) },
        }),
      );
      const rights = found.filter(({ check }) => check === 'privileges');
      expect(rights.map(({ side, verdict }) => `${side} ${verdict}`)).toEqual(['blue fail', 'green fail']);
      expect(rights[0]?.remedy).toContain(`ALTER ROLE "${role}" REPLICATION`);
      expect(rights[0]?.remedy).toContain(from === 15 ? 'SUPERUSER' : 'pg_create_subscription');
      expect(rights[0]?.remedy).toContain('owner of public.a');
      const unknown = found.filter(({ verdict }) => verdict === 'unknown').map(({ check }) => check);
      expect(unknown).toEqual(expect.arrayContaining(['long_transactions', 'sequences_readable']));
      expect(bad(found)).toEqual(expect.arrayContaining(['reachable_from_peer blue', 'reachable_from_peer green']));
    } finally {
      await Promise.all([blue.close(), green.close()]);
      await t.blue.query(`DROP ROLE ${role}`);
      if (from !== to) await t.green.query(`DROP ROLE ${role}`);
    }
  });

  test('before the switch: replication, lag, the wall, one writable side', async () => {
    t = await testPair([from, to], 'CREATE TABLE a (id int PRIMARY KEY); CREATE SEQUENCE s');
    const names = namesOf(t.pair, 'forward');
    await setIdentities(t.both.blue, SWITCH, patience);
    await wallOff(t.both.green, SWITCH, { lockTimeoutMs: 200, deadlineMs: 3_000, signal });
    await ensurePublication(t.both.blue, names.publication, replicated(await userTables(t.both.blue)), patience);
    await ensureSlot(t.both.blue, names.slot, 5_000);
    await ensureSubscription(t.both.green, { names, publisher: t.pair.blue, origin: 'any' });
    const look = async () => bad(await runGuardrails(input({ stage: 'switch' })));
    expect(await look()).toEqual(expect.arrayContaining(['replication_well green', 'replication_lag both']));
    await activate(t.both, t.pair, 'forward');
    const at = await t.both.blue.one<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    await waitReached(endsOf(t.both, 'forward'), names, at?.lsn ?? '', 10_000, signal);
    // Other tests write to the same servers, and a lag is counted in bytes of all their WAL.
    await until(async () => (await look()).length === 0);
    // A table and a sequence that came since, a wall with a hole.
    await t.blue.query('CREATE TABLE fresh (id int PRIMARY KEY); CREATE SEQUENCE fresh_seq');
    await t.green.query('ALTER TABLE a DISABLE TRIGGER USER');
    expect(await look()).toEqual(
      expect.arrayContaining([
        'all_published blue',
        'sequences_there both',
        'other_side_fenced green',
        'replication_well green',
      ]),
    );
    await deactivate(t.both, t.pair, 'forward');
  });
});
