/**
 * The production-like stack cannot run in a test (no container engine); what can be checked without one is: its files exist, its
 * services refer to each other rightly, nothing is published to the world, and its entry scripts parse and do what they say.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { findTemporalCli } from '../../worker/embedded/tools';
import { createMetrics } from '../../worker/metrics';
import { SEARCH_ATTRIBUTES } from '../../worker/searchAttributes';
import { temporalAddress } from '../support/temporal';

interface Service {
  image?: string;
  build?: string;
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  networks?: string[];
  profiles?: string[];
  depends_on?: Record<string, { condition: string }> | string[];
  healthcheck?: unknown;
}
interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: Record<string, unknown>;
}

const root = resolve(__dirname, '..', '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const text = read('docker-compose.yml');
const compose = parse(text, { merge: true }) as Compose;
const services = Object.entries(compose.services);

describe('docker-compose.yml', () => {
  test('has every part of the stack', () => {
    expect(Object.keys(compose.services).sort()).toEqual(
      [
        'grafana',
        'pgbouncer',
        'postgres-blue',
        'postgres-green',
        'prometheus',
        'temporal',
        'temporal-namespace',
        'temporal-postgres',
        'temporal-schema',
        'temporal-ui',
        'worker',
      ].sort(),
    );
    expect(compose.services.temporal?.image).toBe('temporalio/server:1.32.0');
  });

  test.each(services)('%s: what it waits for, mounts and joins exists', (_name, service) => {
    expect(Boolean(service.image) || Boolean(service.build)).toBe(true);
    expect(service.image ?? '').not.toMatch(/:latest$|alpine/);
    for (const [dependency, { condition }] of Object.entries(
      Array.isArray(service.depends_on)
        ? Object.fromEntries(service.depends_on.map((d) => [d, { condition: 'service_started' }]))
        : (service.depends_on ?? {}),
    )) {
      const other = compose.services[dependency];
      expect(other).toBeDefined();
      if (condition === 'service_healthy') expect(other?.healthcheck).toBeDefined();
    }
    for (const volume of service.volumes ?? []) {
      const source = volume.split(':')[0] ?? '';
      if (source.startsWith('.')) expect([source, existsSync(join(root, source))]).toEqual([source, true]);
      else expect(Object.keys(compose.volumes)).toContain(source);
    }
    for (const network of service.networks ?? []) expect(Object.keys(compose.networks)).toContain(network);
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  test('every variable without a default is in the example, and no password stands in the file', () => {
    const asked = new Set([...text.matchAll(/\$\{([A-Z_]+):\?/g)].map((m) => m[1] ?? ''));
    const given = read('deploy/compose.env.example');
    for (const name of asked) expect(given).toMatch(new RegExp(`^${name}=`, 'm'));
    expect([...text.matchAll(/PASSWORD: (\S+)/g)].every((m) => (m[1] ?? '').startsWith('${'))).toBe(true);
  });

  test('Prometheus and Grafana run only in the profile observability', () => {
    const profiled = services.filter(([, s]) => s.profiles?.includes('observability')).map(([name]) => name);
    expect(profiled.sort()).toEqual(['grafana', 'prometheus']);
  });
});

describe('Dockerfile', () => {
  const file = read('Dockerfile');
  test('is no musl, has a health check and runs as nobody special', () => {
    const bases = [...file.matchAll(/^FROM (\S+)/gm)].map((m) => m[1]);
    expect(bases).toEqual(['node:20-bookworm-slim', 'node:20-bookworm-slim']);
    expect(file).toMatch(/^USER node$/m);
    expect(file).toMatch(/^HEALTHCHECK /m);
  });
});

describe('observability', () => {
  test('the dashboard and the alerts ask for metrics that the worker has', async () => {
    const known = (await createMetrics().registry.getMetricsAsJSON()).map((metric) => metric.name);
    const asked = [
      ...(read('deploy/grafana/dashboards/pgshift.json') + read('deploy/prometheus/alerts.yml')).matchAll(
        /pgshift_[a-z0-9_]+/g,
      ),
    ].map((m) => m[0].replace(/_bucket$/, ''));
    expect(asked.length).toBeGreaterThan(10);
    for (const name of new Set(asked)) expect(known).toContain(name);
  });
});

describe('entry scripts', () => {
  const scripts = ['deploy/temporal', 'deploy/postgres', 'deploy/pgbouncer'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.sh'))
      .map((name) => `${folder}/${name}`),
  );

  test.each(scripts)('%s parses and stops without what it needs', (script) => {
    execFileSync('sh', ['-n', join(root, script)]);
    expect(() =>
      execFileSync('sh', [join(root, script)], { env: { PATH: process.env.PATH }, stdio: 'pipe' }),
    ).toThrow();
  });

  test('namespace.sh makes exactly the search attributes that a worker asks for', () => {
    const script = read('deploy/temporal/namespace.sh');
    const keywords = (/for name in ([^;]+);/.exec(script)?.[1] ?? '').split(' ');
    const made = { ...Object.fromEntries(keywords.map((name) => [name, 'Keyword'])), NeedsApproval: 'Bool' };
    expect(made).toEqual(SEARCH_ATTRIBUTES);
    expect(script).toMatch(/^attribute NeedsApproval Bool$/m);
  });

  test('namespace.sh makes a namespace on a real server, and finds it made the second time', async () => {
    const { path } = await findTemporalCli();
    const env = {
      PATH: [dirname(path), process.env.PATH].join(delimiter),
      HOME: tmpdir(),
      TEMPORAL_ADDRESS: temporalAddress(),
      TEMPORAL_NAMESPACE: `deploy-${process.pid}`,
      RETENTION: '24h',
    };
    const run = (): string => execFileSync('sh', [join(root, 'deploy/temporal/namespace.sh')], { env }).toString();
    expect(run().match(/: made$/gm)).toHaveLength(9);
    expect(run().match(/: is there$/gm)).toHaveLength(9);
  });

  test("PgBouncer's entry writes its files and keeps the databases file of a switch", () => {
    const dir = mkdtempSync(join(tmpdir(), 'pgshift-bouncer-'));
    const env = {
      PATH: process.env.PATH,
      DIR: dir,
      START: 'no',
      SHOP_PASSWORD: 'one',
      PGBOUNCER_ADMIN_PASSWORD: 'two',
    };
    try {
      const entry = join(root, 'deploy/pgbouncer/entry.sh');
      execFileSync('sh', [entry], { env: { ...env, TARGET: 'host=blue' } });
      execFileSync('sh', [entry], { env: { ...env, TARGET: 'host=green' } });
      expect(readFileSync(join(dir, 'databases.ini'), 'utf8')).toBe('[databases]\napp = host=blue\n');
      expect(readFileSync(join(dir, 'pgbouncer.ini'), 'utf8')).toContain('pool_mode = transaction');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
