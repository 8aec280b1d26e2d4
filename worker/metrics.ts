/**
 * Metrics of the worker, prefix `pgshift_`, and one page for Prometheus that joins Temporal's own. Labels hold kinds, phases, modes and
 * connection names: never an id and never a value.
 */
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { Problem } from '../plan/model/errors';

export interface Metrics {
  readonly registry: Registry;
  /** Migrations that this worker saw in each status. */
  readonly migrations: Gauge<'kind' | 'status'>;
  readonly stepDuration: Histogram<'phase' | 'action'>;
  readonly rows: Counter<'operation'>;
  readonly lockWait: Histogram<'mode'>;
  readonly lockHeld: Histogram<'mode'>;
  readonly throttled: Counter<'reason'>;
  readonly replicationLag: Gauge<'database'>;
  readonly switchPause: Histogram<'direction'>;
  readonly gateWaiting: Gauge<'gate'>;
  readonly differingRows: Counter;
}

const LOCK_SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5, 30, 120];
const STEP_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400];

/** A registry of its own each time: two workers in one test process do not share counters. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'pgshift_' });
  return {
    registry,
    migrations: new Gauge({
      name: 'pgshift_migrations',
      help: 'Migrations by kind and status, as this worker saw them',
      labelNames: ['kind', 'status'],
      registers,
    }),
    stepDuration: new Histogram({
      name: 'pgshift_step_duration_seconds',
      help: 'How long a step took',
      labelNames: ['phase', 'action'],
      buckets: STEP_SECONDS,
      registers,
    }),
    rows: new Counter({
      name: 'pgshift_rows_total',
      help: 'Rows written or compared, by operation',
      labelNames: ['operation'],
      registers,
    }),
    lockWait: new Histogram({
      name: 'pgshift_lock_wait_seconds',
      help: 'How long a lock was waited for, by mode',
      labelNames: ['mode'],
      buckets: LOCK_SECONDS,
      registers,
    }),
    lockHeld: new Histogram({
      name: 'pgshift_lock_held_seconds',
      help: 'How long a lock was held, by mode',
      labelNames: ['mode'],
      buckets: LOCK_SECONDS,
      registers,
    }),
    throttled: new Counter({
      name: 'pgshift_throttled_seconds_total',
      help: 'Time that a brake kept the work waiting, by reason',
      labelNames: ['reason'],
      registers,
    }),
    replicationLag: new Gauge({
      name: 'pgshift_replication_lag_bytes',
      help: 'Bytes that a standby or subscriber is behind',
      labelNames: ['database'],
      registers,
    }),
    switchPause: new Histogram({
      name: 'pgshift_switch_pause_seconds',
      help: 'First client blocked to first client served',
      labelNames: ['direction'],
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10],
      registers,
    }),
    gateWaiting: new Gauge({
      name: 'pgshift_gate_waiting_seconds',
      help: 'How long the longest open gate has waited, by phase',
      labelNames: ['gate'],
      registers,
    }),
    differingRows: new Counter({
      name: 'pgshift_differing_rows_total',
      help: 'Rows that a proof found different',
      registers,
    }),
  };
}

export interface MetricsPage {
  readonly url: string;
  readonly port: number;
  readonly close: () => Promise<void>;
}

/**
 * Serves GET /metrics (and /healthz). `temporal` is the URL of the Temporal Runtime's own page, which is joined; when it does not
 * answer, a comment and pgshift_temporal_metrics_up 0 say so. Throws PortInUse.
 */
export async function serveMetrics(
  metrics: Metrics,
  at: { readonly host: string; readonly port: number },
  temporal: string | null,
): Promise<MetricsPage> {
  const server: Server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?')[0];
    if (request.method !== 'GET' || (path !== '/metrics' && path !== '/healthz')) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('try /metrics\n');
      return;
    }
    if (path === '/healthz') {
      response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
      return;
    }
    page(metrics, temporal).then(
      (text) => response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      fail(
        error.code === 'EADDRINUSE'
          ? new Problem('PortInUse', `metrics: port ${at.port} on ${at.host} is taken`, {
              value: String(at.port),
              hint: 'set PGSHIFT_METRICS_ADDRESS to another host:port, or to none',
            })
          : error,
      ),
    );
    server.listen(at.port, at.host, () => done());
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : at.port;
  const host = at.host.includes(':') ? `[${at.host}]` : at.host;
  return {
    url: `http://${host}:${port}/metrics`,
    port,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

async function page(metrics: Metrics, temporal: string | null): Promise<string> {
  const own = await metrics.registry.metrics();
  if (temporal === null) return own;
  const help = '# HELP pgshift_temporal_metrics_up Whether the Temporal Runtime gave its own metrics\n';
  const up = (value: 0 | 1): string =>
    `${help}# TYPE pgshift_temporal_metrics_up gauge\npgshift_temporal_metrics_up ${value}\n`;
  try {
    const answer = await fetch(temporal, { signal: AbortSignal.timeout(2_000) });
    if (answer.ok) return `${own}\n${up(1)}${await answer.text()}`;
  } catch {
    // said in the page
  }
  return `${own}\n# the Temporal Runtime's own metrics could not be read\n${up(0)}`;
}
