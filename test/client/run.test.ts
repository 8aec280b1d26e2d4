/** The built command against a real Temporal, a real worker and real Postgres: a person's whole way through changes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPostgresBin } from '../../worker/embedded/tools';
import { runCli } from '../support/cli';
import type { CliResult } from '../support/cli';
import { freshDatabase } from '../support/database';
import type { FreshDatabase } from '../support/database';
import { temporalAddress } from '../support/temporal';
import { startWorkerProcess } from '../support/workerProcess';
import type { WorkerProcess } from '../support/workerProcess';

const SETUP = `CREATE TABLE payment (payment_id bigint PRIMARY KEY, amount numeric(10,2) NOT NULL, secret text);
  INSERT INTO payment SELECT i, i, 'row-value-' || i FROM generate_series(1, 5000) AS i; CREATE INDEX ON payment (amount); ANALYZE payment`;

// Names of connections are this file's own: workflow ids hold them, and the server is shared by all test files.
const tag = randomBytes(3).toString('hex');
const APP = `app_${tag}`;
const SHOP = `shop_${tag}`;
const taskQueue = `cli-${tag}`;

let folder: string;
let app: FreshDatabase;
let shop: FreshDatabase;
let worker: WorkerProcess | null = null;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-run-'));
  [app, shop] = await Promise.all([freshDatabase(18, SETUP), freshDatabase(18, SETUP)]);
});

afterAll(async () => {
  await worker?.stop();
  await Promise.all([app.drop(), shop.drop()]);
  rmSync(folder, { recursive: true, force: true });
});

const startWorker = (): void => {
  worker = startWorkerProcess({
    taskQueue,
    temporalAddress: temporalAddress(),
    databases: { [APP]: app.url, [SHOP]: shop.url },
  });
};

const said: string[] = [];

/** Everything that the CLI ever printed is searched for secrets at the end. */
async function pgshift(
  args: readonly string[],
  more: { interruptAt?: RegExp; env?: Record<string, string> } = {},
): Promise<CliResult> {
  const result = await runCli(args, {
    env: {
      TEMPORAL_ADDRESS: temporalAddress(),
      PGSHIFT_TASK_QUEUE: taskQueue,
      PGSHIFT_HOME: join(folder, 'home'),
      PGSHIFT_USER: 'ann@example.org',
      [`PGSHIFT_DATABASE_${APP.toUpperCase()}`]: app.url,
      [`PGSHIFT_DATABASE_${SHOP.toUpperCase()}`]: shop.url,
      ...more.env,
    },
    ...(more.interruptAt === undefined ? {} : { interruptAt: more.interruptAt }),
    timeoutMs: 90_000,
  });
  said.push(result.stdout, result.stderr);
  return result;
}

const write = (name: string, sql: string, keys: Readonly<Record<string, unknown>> = {}): string => {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify({ kind: 'schema-migration', name, database: APP, sql, ...keys }));
  return path;
};

const PRECISION = 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4);';
const id = (name: string, database = APP): string => `migration/${database}/${name}`;

test('without a worker: start warns, status and list answer from visibility, an update says that nobody answers', async () => {
  const started = await pgshift(['start', write('precision', PRECISION, { gates: { contract: 'manual' } }), '--json']);
  expect(started.code).toBe(0);
  expect(started.json()).toEqual({
    id: id('precision'),
    runId: expect.any(String),
    database: APP,
    name: 'precision',
    url: null,
    next: 'pgshift watch precision',
  });
  expect(started.stderr).toMatch(/warning: no worker polls task queue/);
  const status = await pgshift(['status', `${APP}/precision`, '--json']);
  expect(status.json()).toMatchObject({
    id: id('precision'),
    name: 'precision',
    database: APP,
    status: 'pending',
    live: false,
  });
  const list = await pgshift(['list', '--database', APP, '--json']);
  expect(list.json()).toMatchObject({ live: false, next: null, items: [{ id: id('precision'), status: 'pending' }] });
  const again = await pgshift(['start', join(folder, 'precision.json'), '--json']);
  expect(again.code).toBe(3);
  expect(again.error().code).toBe('NameInUse');
});

test('with a worker: watch ends at the gate when told so, and says what to type', async () => {
  startWorker();
  const watched = await pgshift(['watch', 'precision', '--until', 'contract']);
  expect(watched.code).toBe(0);
  // It looks three times a second: a phase that is over sooner may not be among its lines.
  expect(watched.stderr).toMatch(/(expand|backfill|build|validate)/);
  expect(watched.stdout).toMatch(/waits for +gate contract/);
  expect(watched.stdout).toContain(`pgshift approve ${id('precision')} --gate contract`);
  // Half done, the change would be refused for its own trigger; the name is what matters.
  const again = await pgshift(['start', join(folder, 'precision.json'), '--json']);
  expect(again.error().code).toBe('NameInUse');
});

test('Ctrl-C leaves the run alone, exit 130', async () => {
  const watched = await pgshift(['watch', 'precision'], { interruptAt: /waits for gate contract/ });
  expect(watched.code).toBe(130);
  expect((await pgshift(['status', 'precision', '--json'])).json()).toMatchObject({ status: 'waiting' });
});

test('pause, resume and tune are answered; a message that makes no sense is refused', async () => {
  const paused = await pgshift(['pause', 'precision', '--reason', 'lunch', '--json']);
  expect(paused.json()).toMatchObject({ accepted: true, duplicate: false });
  expect((await pgshift(['resume', 'precision', '--json'])).json()).toMatchObject({ accepted: true });
  const tuned = await pgshift(['tune', 'precision', '--set', 'throttle.parallel=2', '--set', 'hold=48h', '--json']);
  expect(tuned.json()).toMatchObject({ accepted: true });
  const bad = await pgshift(['tune', 'precision', '--set', 'hold=long', '--json']);
  expect(bad.code).toBe(2);
  expect(bad.error().code).toBe('InvalidMessage');
  const gate = await pgshift(['approve', 'precision', '--gate', 'lunch', '--json']);
  expect(gate.code).toBe(2);
  expect(gate.error().code).toBe('NoSuchGate');
  const nobody = await pgshift(['approve', 'nobody-knows-it', '--json']);
  expect(nobody.code).toBe(2);
  expect(nobody.error().code).toBe('NoSuchRun');
});

test('approve, a duplicate of it, and the hold as JSON lines whose last is the report', async () => {
  const approve = ['approve', 'precision', '--gate', 'contract', '--reason', 'looked', '--request-id', 'r-1', '--json'];
  expect((await pgshift(approve)).json()).toMatchObject({ accepted: true, duplicate: false, requestId: 'r-1' });
  const again = await pgshift(approve);
  expect(again.code).toBe(0);
  expect(again.json()).toMatchObject({ accepted: true, duplicate: true });
  const watched = await pgshift(['watch', 'precision', '--json']);
  expect(watched.code).toBe(0);
  const lines = watched.lines<Record<string, unknown>>();
  for (const line of lines.slice(0, -1))
    expect(line).toMatchObject({ at: expect.any(String), phase: expect.any(String), percent: expect.any(Number) });
  expect(lines.at(-1)).toMatchObject({
    status: 'holding',
    approvals: [{ gate: 'contract', by: 'ann@example.org', verdict: 'approved', reason: 'looked' }],
    proof: [{ equal: true, differing: 0, remaining: 0 }],
    live: true,
  });
});

test('status and the report in every format', async () => {
  const status = await pgshift(['status', 'precision']);
  expect(status.stdout).toMatch(/status +holding {2}\(phase hold/);
  expect(status.stdout).toMatch(/way back +.*lossless until /);
  expect((await pgshift(['report', 'precision'])).stdout).toMatch(
    /Proof\n[\s\S]*payment\.amount +5,000 +0 +0 +\S+ +equal/,
  );
  expect((await pgshift(['report', 'precision', '--format', 'markdown'])).stdout).toMatch(/^# precision on /);
  expect((await pgshift(['report', 'precision', '--format', 'html'])).stdout).toMatch(/^<!doctype html>/);
  expect((await pgshift(['report', 'precision', '--json'])).json()).toMatchObject({
    status: 'holding',
    catalogDiff: { other: [] },
  });
});

test('uninstall is refused while something is in hold', async () => {
  const refused = await pgshift(['uninstall', '--database', APP, '--json']);
  expect(refused.code).toBe(3);
  expect(refused.error().code).toBe('NotNow');
});

test('rollback inside the hold takes everything back, exit 0: it is what was asked for', async () => {
  await app.query('INSERT INTO payment (payment_id, amount) VALUES (9001, 17.25)');
  const back = await pgshift(['rollback', 'precision', '--reason', 'wrong rounding', '--wait']);
  expect(back.code).toBe(0);
  expect(back.stdout).toMatch(/rolled_back/);
  const [column] = await app.query<{ type: string }>(
    `SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'amount'`,
  );
  expect(column).toEqual({ type: 'numeric(10,2)' });
  expect(await app.query('SELECT amount::text FROM payment WHERE payment_id = 9001')).toEqual([{ amount: '17.25' }]);
  const late = await pgshift(['approve', 'precision', '--json']);
  expect(late.code).toBe(3);
  expect(late.error().code).toBe('NotNow');
});

test('start --watch of a change with nothing old to keep runs to its end', async () => {
  const file = write('note', 'ALTER TABLE payment ADD COLUMN note text; CREATE INDEX ON payment (note);');
  const run = await pgshift(['start', file, '--watch']);
  expect(run).toMatchObject({ code: 0 });
  expect(run.stdout).toMatch(/^note on \S+: completed/);
});

test('a name that is used: AlreadyApplied, ChecksumMismatch, and --if-needed', async () => {
  const again = await pgshift(['start', join(folder, 'note.json'), '--json']);
  expect(again.code).toBe(3);
  expect(again.stderr).toContain('"AlreadyApplied"');
  const needed = await pgshift(['start', join(folder, 'note.json'), '--if-needed']);
  expect(needed.code).toBe(0);
  expect(needed.stdout).toMatch(/already applied/);
  const other = await pgshift([
    'start',
    write('note', 'ALTER TABLE payment ADD COLUMN remark text'),
    '--watch',
    '--json',
  ]);
  expect(other.code).toBe(3);
  expect(other.stderr).toContain('"ChecksumMismatch"');
});

test('a refused plan is exit 3 before anything starts, with its place', async () => {
  const refused = await pgshift(['start', write('full', 'VACUUM FULL payment'), '--json']);
  expect(refused.code).toBe(3);
  expect(refused.error()).toMatchObject({ code: 'Refused', where: { line: 1 } });
  expect((await pgshift(['status', 'full', '--json'])).code).toBe(2);
});

test('a dry run changes nothing and shows the plan in its report', async () => {
  const file = write('dry', 'ALTER TABLE payment ADD COLUMN dry text');
  const run = await pgshift(['start', file, '--dry-run', '--watch', '--json']);
  expect(run.code).toBe(0);
  const last = run.lines<{ plan: { steps: { action: string }[] }; mode: string }>().at(-1)!;
  expect(last.mode).toBe('dry-run');
  expect(last.plan.steps.length).toBeGreaterThan(0);
  expect(await app.query(`SELECT 1 FROM pgshift.migrations WHERE name = 'dry'`)).toEqual([]);
});

test('one name in two databases: several matches are listed and refused', async () => {
  const sql = 'ALTER TABLE payment ADD COLUMN twin text';
  const results = [APP, SHOP].map((database) =>
    pgshift(['start', write(`both_${database}`, sql, { name: 'both', database })]),
  );
  for (const result of await Promise.all(results)) expect(result.code).toBe(0);
  const which = await pgshift(['status', 'both', '--json']);
  expect(which.code).toBe(2);
  expect(which.error().hint).toContain(id('both', SHOP));
  expect((await pgshift(['status', `${SHOP}/both`, '--json'])).json()).toMatchObject({ id: id('both', SHOP) });
});

test('after the end a rollback is a run of its own that waits for approval', async () => {
  const started = await pgshift(['rollback', `${APP}/note`, '--reason', 'not needed', '--json']);
  expect(started.code).toBe(0);
  expect(started.json()).toMatchObject({ id: `rollback/${APP}/note`, name: 'note', database: APP });
  const waiting = await pgshift(['watch', `rollback/${APP}/note`, '--until', 'contract'], {
    interruptAt: /waits for gate/,
  });
  expect([0, 130]).toContain(waiting.code);
  const done = await pgshift(['approve', `rollback/${APP}/note`, '--wait']);
  expect(done.stdout + done.stderr).toMatch(/approved/);
  expect((await pgshift(['watch', `rollback/${APP}/note`, '--until', 'end'])).code).toBe(0);
  expect(
    await app.query(`SELECT 1 FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'note'`),
  ).toEqual([]);
});

test('cancel takes back what was added', async () => {
  await pgshift(['start', write('cancelled', PRECISION, { gates: { contract: 'manual' } })]);
  await pgshift(['watch', 'cancelled', '--until', 'contract']);
  expect((await pgshift(['cancel', 'cancelled', '--json'])).json()).toEqual({ id: id('cancelled'), requested: true });
  const ended = await pgshift(['watch', 'cancelled', '--until', 'end']);
  expect(ended.code).toBe(1);
  expect((await pgshift(['status', 'cancelled', '--json'])).json()).toMatchObject({ status: 'cancelled' });
  expect(
    await app.query(
      `SELECT attname::text FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname LIKE '%pgshift%' AND NOT attisdropped`,
    ),
  ).toEqual([]);
});

test('a plan larger than 128 kB goes through pgshift.plans; as a dry run it is refused', async () => {
  const comments = `-- ${'x'.repeat(100)}\n`.repeat(1_500);
  const file = write('large', `${comments}ALTER TABLE payment ADD COLUMN large text`);
  const dry = await pgshift(['start', file, '--dry-run', '--json']);
  expect(dry.code).toBe(2);
  expect(dry.error().code).toBe('InvalidPlan');
  const run = await pgshift(['start', file, '--watch']);
  expect(run.code).toBe(0);
  expect(
    await app.query(`SELECT 1 AS there FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'large'`),
  ).toHaveLength(1);
});

test('the way back as a script needs no Temporal, and may be run twice', async () => {
  await pgshift([
    'start',
    write('scripted', `${PRECISION} ALTER TABLE payment ADD COLUMN scripted text NOT NULL DEFAULT 'a'`),
    '--watch',
  ]);
  const script = await pgshift(['rollback', 'scripted', '--script'], { env: { TEMPORAL_ADDRESS: '127.0.0.1:9' } });
  expect(script.code).toBe(0);
  const file = join(folder, 'back.sql');
  writeFileSync(file, script.stdout);
  const psql = join((await findPostgresBin()).path, 'psql');
  for (let run = 0; run < 2; run += 1) {
    const result = spawnSync(psql, ['--no-psqlrc', '--quiet', '--file', file, app.url], { encoding: 'utf8' });
    expect(result).toMatchObject({ status: 0, stderr: '' });
  }
  const columns = await app.query<{ name: string }>(
    `SELECT attname || ' ' || format_type(atttypid, atttypmod) AS name FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1`,
  );
  expect(columns.map((column) => column.name)).toEqual(expect.arrayContaining(['amount numeric(10,2)']));
  expect(columns.map((column) => column.name).join()).not.toMatch(/scripted|pgshift/);
  // The run is still in its hold and learns of it at its end.
  await pgshift(['approve', 'scripted', '--gate', 'cleanup']);
  const end = await pgshift(['watch', 'scripted', '--until', 'end']);
  expect(end.code).toBe(1);
  expect((await pgshift(['status', 'scripted', '--json'])).json()).toMatchObject({ status: 'rolled_back' });
  expect(await app.query(`SELECT status FROM pgshift.migrations WHERE name = 'scripted'`)).toEqual([
    { status: 'rolled_back' },
  ]);
});

test('nothing that was printed holds a URL of a database or a row', () => {
  const all = said.join('\n');
  expect(all).not.toMatch(/postgres(ql)?:\/\//);
  expect(all).not.toContain('row-value-');
});
