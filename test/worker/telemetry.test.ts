import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Problem } from '../../plan/model/errors';
import { createLogger, temporalLogger } from '../../worker/logger';
import { createMetrics, serveMetrics } from '../../worker/metrics';

const collect = () => {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger('debug', { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  return { lines, log };
};

it('writes one JSON object a line with the contract’s fields', () => {
  const { lines, log } = collect();
  log.child({ migrationId: 'migration/app/a' }).info({ phase: 'backfill', step: 'backfill.1', durationMs: 5 }, 'done');
  expect(lines).toEqual([
    {
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string,
      msg: 'done',
      migrationId: 'migration/app/a',
      phase: 'backfill',
      step: 'backfill.1',
      durationMs: 5,
    },
  ]);
});

it('lets no URL, password or row value pass', () => {
  const { lines, log } = collect();
  const failure = Object.assign(new Error('cannot reach postgresql://u:hunter2@db/x'), {
    code: '23505',
    detail: 'Key (email)=(hunter2) exists',
  });
  log.error(
    { err: failure, url: 'postgres://hunter2', nested: { password: 'hunter2' } },
    'at postgresql://u:hunter2@db',
  );
  log.warn({ error: new Problem('Unreachable', 'password=hunter2') }, 'again');
  expect(JSON.stringify(lines)).not.toContain('hunter2');
  expect(lines[0]?.err).toMatchObject({ code: '23505' });
  expect(lines[1]?.error).toMatchObject({ code: 'Unreachable' });
});

it('speaks Temporal’s logger', () => {
  const { lines, log } = collect();
  temporalLogger(log).warn('slow', { workflowId: 'migration/app/a', activityType: 'runStep', attempt: 2 });
  expect(lines).toMatchObject([
    { level: 'warn', msg: 'slow', migrationId: 'migration/app/a', operation: 'runStep', attempt: 2 },
  ]);
});

it('serves its metrics joined with Temporal’s, and says when those are missing', async () => {
  const temporal = createServer((_, response) => response.end('temporal_request 3\n'));
  await new Promise<void>((done) => temporal.listen(0, '127.0.0.1', done));
  const metrics = createMetrics();
  metrics.rows.inc({ operation: 'backfill' }, 7);
  const at = { host: '127.0.0.1', port: 0 };
  const page = await serveMetrics(metrics, at, `http://127.0.0.1:${(temporal.address() as AddressInfo).port}/metrics`);
  try {
    const read = async (): Promise<string> => (await fetch(page.url)).text();
    expect(await read()).toMatch(
      /pgshift_rows_total\{operation="backfill"\} 7[^]*temporal_metrics_up 1[^]*temporal_request 3/,
    );
    expect((await fetch(new URL('/healthz', page.url))).status).toBe(200);
    expect((await fetch(new URL('/other', page.url))).status).toBe(404);
    await expect(serveMetrics(metrics, { ...at, port: page.port }, null)).rejects.toMatchObject({ code: 'PortInUse' });
    temporal.close();
    temporal.closeAllConnections();
    expect(await read()).toMatch(/could not be read[^]*temporal_metrics_up 0/);
  } finally {
    await page.close();
  }
});
