/** The worker's memory over its own idle, and the history's length, for a small and a very large table: neither may grow with rows. */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatBytes, formatCount } from '../plan/model/values';
import type { Line } from './line';
import { migrate, residentBytes, settle } from './stack';
import type { Bench } from './stack';

const MB = 1024 * 1024;

interface Size {
  readonly most: number;
  readonly events: number;
}

/** A type change of `rows` rows; the most memory that was seen while it ran, and all events of its history and its children's. */
async function changeOf(bench: Bench, rows: number): Promise<Size> {
  const table = `bench_size_${rows}`;
  await bench.client.query(`CREATE TABLE ${table} (id bigint PRIMARY KEY, amount integer NOT NULL)`);
  await bench.client.query(`INSERT INTO ${table} SELECT n, n % 1000 FROM generate_series(1, ${rows}) n`);
  await bench.client.query(`VACUUM ANALYZE ${table}`);
  let most = 0;
  const look = (): void => {
    const pid = bench.stack.pid('worker');
    if (pid !== null) most = Math.max(most, residentBytes(pid));
  };
  const { id } = await migrate(bench, {
    name: table,
    sql: `ALTER TABLE ${table} ALTER COLUMN amount TYPE bigint`,
    keys: { hold: '1h' },
    onLook: look,
  });
  await settle(bench, id, 'cleanup');
  const events = await historyEvents(bench, id);
  await bench.client.query(`DROP TABLE ${table}`);
  return { most, events };
}

/** Over every run of the id (continue-as-new) and of its children, as Temporal counts them. */
async function historyEvents(bench: Bench, id: string): Promise<number> {
  const cli = bench.stack.temporalCli?.path ?? 'temporal';
  const at = ['--address', bench.stack.temporalAddress, '--namespace', bench.stack.namespace, '--output', 'json'];
  await sleep(2_000); // visibility follows the run by a moment
  const query = `WorkflowId = '${id}' OR WorkflowId STARTS_WITH '${id}/'`;
  const found = JSON.parse(execFileSync(cli, ['workflow', 'list', '--query', query, ...at]).toString()) as {
    execution: { workflowId: string; runId: string };
  }[];
  let events = 0;
  for (const { execution } of found) {
    const args = ['workflow', 'describe', '--workflow-id', execution.workflowId, '--run-id', execution.runId, ...at];
    const described = JSON.parse(execFileSync(cli, args).toString()) as {
      workflowExecutionInfo: { historyLength: string };
    };
    events += Number(described.workflowExecutionInfo.historyLength);
  }
  return events;
}

export async function memory(bench: Bench, size: { readonly small: number; readonly large: number }): Promise<Line[]> {
  const idle = bench.idleBytes;
  const small = await changeOf(bench, size.small);
  const large = await changeOf(bench, size.large);
  const over = Math.max(small.most, large.most) - idle;
  return [
    {
      what: `worker's memory during changes of ${formatCount(size.small)} and ${formatCount(size.large)} rows`,
      measured: `${formatBytes(small.most)} and ${formatBytes(large.most)}`,
      against: `its own idle ${formatBytes(idle)}`,
      ratio: Math.max(small.most, large.most) / idle,
      asked: 'under 400 MB, at most 60 MB over idle',
      met: Math.max(small.most, large.most) < 400 * MB && over <= 60 * MB,
    },
    {
      what: `history events of a change of ${formatCount(size.large)} rows`,
      measured: formatCount(large.events),
      against: `${formatCount(size.small)} rows: ${formatCount(small.events)}`,
      ratio: large.events / small.events,
      asked: 'under 500',
      met: large.events < 500,
    },
  ];
}
