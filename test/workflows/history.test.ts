import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from '@temporalio/worker';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';
import { ERRORS, isErrorCode } from '../../plan/model/errors';
import { DEFAULT_SETTINGS } from '../../plan/model/state';
import { CLASS_OF, optionsOf } from '../../workflows/proxies';
import { workflowBundle } from '../support/temporal';
import type { Harness } from './harness';
import { failure, harness, reportOf, send, statusOf, until } from './harness';

const STORED = join(__dirname, '..', 'histories');
const SECRET_ROW = 'row-value-9f27c';

let h: Harness;
beforeAll(async () => {
  h = await harness(
    `CREATE TABLE pay (id serial PRIMARY KEY, amount numeric(10,2) NOT NULL DEFAULT 0, note text);
     INSERT INTO pay (amount, note) SELECT i / 100.0, '${SECRET_ROW}-' || i FROM generate_series(1, 2000) i;
     CREATE TABLE other (id serial PRIMARY KEY, note text);
     INSERT INTO other (note) VALUES ('${SECRET_ROW}-twice'), ('${SECRET_ROW}-twice'); ANALYZE;`,
  );
});
afterAll(async () => h.close());

const historyOf = async (handle: Awaited<ReturnType<Harness['start']>>): Promise<string> =>
  JSON.stringify(JSON.parse(historyToJSON(await handle.fetchHistory())));

const retype = (from: number): Record<string, unknown> => ({
  sql: `ALTER TABLE pay ALTER COLUMN amount TYPE numeric(${from},${from - 10}); ALTER TABLE pay ADD COLUMN t${from} uuid NOT NULL DEFAULT gen_random_uuid();`,
  gates: { contract: 'manual' },
  hold: '1h',
});

async function wholeRun(from: number, id?: string) {
  const handle = await h.start(retype(from), id === undefined ? {} : { id });
  await until(handle, (s) => s.status === 'waiting');
  await send(handle, 'approve', { by: 'ann', gate: 'contract' });
  await until(handle, (s) => s.status === 'holding');
  await send(handle, 'approve', { by: 'ann', gate: 'cleanup' });
  await handle.result();
  return handle;
}

test('a run survives continue-as-new at every boundary, with all that it knows', async () => {
  await h.stopWorker();
  await h.startWorker({ continueAsNewEvents: 12 });
  const handle = await wholeRun(14);
  await h.stopWorker();
  await h.startWorker();
  const report = await reportOf(handle);
  expect(report).toMatchObject({ status: 'completed', approvals: [{ gate: 'contract' }, { gate: 'cleanup' }] });
  expect(report.steps.every((step) => step.status === 'done')).toBe(true);
  expect(report.catalogDiff.other).toEqual([]);
  const description = await handle.describe();
  expect(description.raw.workflowExecutionInfo?.firstRunId).not.toBe(description.runId);
  expect(description.historyLength).toBeLessThan(60);
});

test('histories hold no secret and no row value, and every failure has a code', async () => {
  const failing = await h.start({ sql: 'CREATE UNIQUE INDEX other_note ON other (note)' });
  await failure(failing);
  const bad = await h.start({ sql: `ALTER TABLE other ALTER COLUMN note TYPE int USING note::int` });
  await failure(bad);
  const good = await wholeRun(15);
  const url = new URL(h.database.url);
  for (const handle of [failing, bad, good]) {
    const text = await historyOf(handle);
    const decoded = [...text.matchAll(/"data":"([A-Za-z0-9+/=]+)"/g)]
      .map((m) => Buffer.from(m[1] ?? '', 'base64').toString())
      .join('\n');
    for (const secret of [SECRET_ROW, url.password, `${url.host}/`, 'postgres://', 'postgresql://'].filter(
      (s) => s !== '',
    ))
      expect([secret, (text + decoded).includes(secret)]).toEqual([secret, false]);
    for (const [, type] of text.matchAll(/"applicationFailureInfo":\{"type":"([^"]+)"/g)) {
      expect([type, isErrorCode(type)]).toEqual([type, true]);
      expect(ERRORS[type as keyof typeof ERRORS]).toBeDefined();
    }
  }
});

interface StoredHistory {
  readonly events: readonly { readonly workflowExecutionStartedEventAttributes?: { readonly workflowId?: string } }[];
}

test('stored histories replay; a workflow that was broken does not', async () => {
  const bundle = await workflowBundle();
  if (process.env.PGSHIFT_STORE_HISTORIES || !existsSync(STORED)) {
    mkdirSync(STORED, { recursive: true });
    const completed = await wholeRun(16, `migration/app/stored-${randomUUID().slice(0, 8)}`);
    const back = await h.start(retype(17));
    await until(back, (s) => s.status === 'waiting');
    await back.cancel();
    await failure(back);
    for (const [name, handle] of [
      ['completed', completed],
      ['cancelled', back],
    ] as const)
      writeFileSync(
        join(STORED, `schemaMigration-${name}.json`),
        `${(await historyOf(handle)).replaceAll(/\d+@[\w.-]+/g, 'pgshift')}\n`,
      );
  }
  const options = { workflowBundle: { codePath: bundle }, replayName: 'stored' };
  const files = readdirSync(STORED).filter((file) => file.endsWith('.json'));
  expect(files.length).toBeGreaterThanOrEqual(2);
  for (const file of files) {
    const history = JSON.parse(readFileSync(join(STORED, file), 'utf8')) as StoredHistory;
    // Ids of children are made of the run's own.
    const id = history.events[0]?.workflowExecutionStartedEventAttributes?.workflowId;
    await Worker.runReplayHistory(options, history, id);
  }
  const code = readFileSync(bundle, 'utf8');
  // Another activity in the place of the first one: what a careless change does.
  const broken = code.replaceAll(/\.ask\(\s*'open'/g, ".ask('record'").replaceAll(/\.ask\(\s*"open"/g, '.ask("record"');
  expect(broken).not.toBe(code);
  const path = join(process.env.PGSHIFT_TEST_HOME ?? '.', 'broken-bundle.js');
  writeFileSync(path, broken);
  const history: unknown = JSON.parse(
    readFileSync(join(STORED, files.find((file) => file.startsWith('schemaMigration')) ?? ''), 'utf8'),
  );
  await expect(Worker.runReplayHistory({ ...options, workflowBundle: { codePath: path } }, history)).rejects.toThrow(
    /[Nn]ondeterminism/,
  );
});

test('the bundle holds nothing that is not deterministic', async () => {
  const code = readFileSync(await workflowBundle(), 'utf8');
  for (const foreign of [
    'node_modules/pg/',
    'node_modules/pino/',
    'node_modules/libpg-query',
    './postgres/',
    './activities/',
    './plan/sql/',
  ])
    expect([foreign, code.includes(`"${foreign}`) || code.includes(`"./${foreign}`)]).toEqual([foreign, false]);
  expect(/require\(["']node:/.test(code)).toBe(false);
});

test('every activity has a deadline, a heartbeat and a list of what is not tried again', () => {
  for (const kind of new Set(Object.values(CLASS_OF))) {
    const options = optionsOf(kind, DEFAULT_SETTINGS);
    expect(options.startToCloseTimeout).toBeDefined();
    expect(options.heartbeatTimeout).toBeLessThanOrEqual(10_000);
    expect(options.retry?.nonRetryableErrorTypes).toContain('ProofFailed');
    expect(options.retry?.nonRetryableErrorTypes).not.toContain('Unreachable');
  }
});

test('a person can do it all with what Temporal shows', async () => {
  const handle = await h.start(retype(18));
  await until(handle, (s) => s.status === 'waiting');
  const metadata = await handle.query<{ currentDetails?: string; definition?: Record<string, unknown> }>(
    '__temporal_workflow_metadata',
  );
  expect(metadata.currentDetails).toContain('### Waits for gate **contract**');
  expect(metadata.currentDetails).toContain('temporal workflow signal --workflow-id');
  const signals = (metadata.definition?.['signalDefinitions'] ?? []) as { name: string; description: string }[];
  expect(signals.find((s) => s.name === 'approve')?.description).toContain('"by"');
  const { searchAttributes } = await handle.describe();
  expect(searchAttributes).toMatchObject({
    MigrationStatus: ['waiting'],
    MigrationPhase: ['gate'],
    NeedsApproval: [true],
    MigrationDatabase: ['app'],
  });
  await handle.cancel();
  await failure(handle);
  expect((await statusOf(handle)).status).toBe('cancelled');
});
