import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Problem } from '../../plan/model/errors';
import { databaseConfig, environmentDefaults, loadConfig, resolveTarget } from '../../worker/config';
import type { Config } from '../../worker/config';
import { writeDevFile } from '../../worker/devFile';
import { markOf } from '../../worker/embedded/process';
import { temporalOptions } from '../../worker/temporal';

const SECRET = 'hunter2';
const url = (name: string): string => `postgresql://u:${SECRET}@127.0.0.1:1/${name}`;
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pgshift-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const load = (yaml: string | null, env: NodeJS.ProcessEnv = {}): Config => {
  if (yaml !== null) writeFileSync(join(folder, 'pgshift.config.yaml'), yaml);
  return loadConfig({ env: { PGSHIFT_HOME: join(folder, 'home'), ...env }, cwd: folder });
};

const refusal = (work: () => unknown): Problem => {
  try {
    work();
  } catch (error) {
    if (error instanceof Problem) {
      expect(inspect(error, { depth: 9 }) + JSON.stringify(error)).not.toContain(SECRET);
      return error;
    }
    throw error;
  }
  throw new Error('was not refused');
};

it('reads the file: short form, env:, file:, environment, replicas, direct and peer URLs', () => {
  writeFileSync(join(folder, 'secret'), `${url('shop')}\n`);
  const config = load(
    `databases:
  app: env:APP_URL
  shop_ro: ${url('ro')}
  shop: { url: file:secret, environment: production, replicas: [shop_ro], applicationRoles: [web], poolMax: 3, peerUrl: env:PEER }
  pooled: { url: ${url('pooler')}, directUrl: ${url('direct')} }
prometheus: { url: env:PROM }
defaults: { production: { gates: { contract: manual }, hold: 72h } }
control: app
`,
    { APP_URL: url('app'), PEER: url('peer'), PROM: 'http://127.0.0.1:9090' },
  );
  expect(resolveTarget(config, 'app').url).toBe(url('app'));
  const shop = resolveTarget(config, 'shop');
  expect([shop.url, shop.replicas.map((replica) => replica.url)]).toEqual([url('shop'), [url('ro')]]);
  expect(databaseConfig(config, 'shop')).toMatchObject({
    environment: 'production',
    poolMax: 3,
    applicationRoles: ['web'],
  });
  expect(databaseConfig(config, 'shop').peerUrl()).toBe(url('peer'));
  expect(resolveTarget(config, 'pooled').url).toBe(url('direct'));
  expect(config).toMatchObject({ prometheusUrl: 'http://127.0.0.1:9090', control: 'app', environment: 'development' });
  expect(environmentDefaults(config, 'shop')).toEqual({ gates: { contract: 'manual' }, hold: '72h' });
  expect(environmentDefaults(config, 'app')).toEqual({});
  // Printing shows no secret.
  expect(inspect(config, { depth: 9 }) + JSON.stringify([...config.databases]) + JSON.stringify(shop)).not.toContain(
    SECRET,
  );
});

it('lets variables win over the file, and a running dev come last', () => {
  const home = join(folder, 'home');
  rmSync(home, { recursive: true, force: true });
  const mark = markOf(process.pid);
  const nobody = { dev: null, temporal: null, postgres: null, worker: null };
  const live = {
    home,
    temporalAddress: '127.0.0.1:7999',
    uiUrl: 'http://127.0.0.1:8999',
    apiUrl: null,
    metricsUrl: null,
    databases: { app: url('dev-app'), other: url('dev-other') },
    pids: { ...nobody, dev: process.pid },
    started: { ...nobody, dev: mark?.started ?? null },
    ports: { temporal: null, ui: null, postgres: null, metrics: null },
  };
  const yaml = `databases: { shop: { url: ${url('file')}, directUrl: ${url('direct')} } }`;
  const env = {
    PGSHIFT_DATABASE_SHOP: url('variable'),
    PGSHIFT_DATABASE_OTHER_FROM_PEER: url('peer'),
    PGSHIFT_HOME: home,
  };
  expect(() => load(yaml, env)).not.toThrow();

  mkdirSync(home);
  writeDevFile(home, live);
  const config = load(yaml, env);
  expect([...config.databases.keys()].sort()).toEqual(['app', 'other', 'shop']);
  expect(resolveTarget(config, 'shop').url).toBe(url('variable'));
  expect(resolveTarget(config, 'app').url).toBe(url('dev-app'));
  expect(databaseConfig(config, 'other').url()).toBe(url('dev-other'));
  expect(databaseConfig(config, 'other').peerUrl()).toBe(url('peer'));

  const none = { TEMPORAL_CONFIG_FILE: join(folder, 'none.toml') };
  writeFileSync(none.TEMPORAL_CONFIG_FILE, '[profile.default]\n');
  expect(temporalOptions({ env: { PGSHIFT_HOME: home, ...none } })).toMatchObject({
    address: '127.0.0.1:7999',
    namespace: 'default',
    from: 'dev',
  });
  // The process of that pid is another one: dev.json is a leftover.
  writeDevFile(home, { ...live, started: { ...nobody, dev: 'another' } });
  expect(temporalOptions({ env: { PGSHIFT_HOME: home, ...none } })).toMatchObject({
    address: '127.0.0.1:7233',
    from: 'default',
  });
  expect([...load(yaml, env).databases.keys()]).not.toContain('app');
});

it('takes TEMPORAL_* from the environment and from its own file', () => {
  const toml = join(folder, 'temporal.toml');
  writeFileSync(toml, '[profile.default]\naddress = "toml:7233"\nnamespace = "ns"\n');
  const env = { TEMPORAL_CONFIG_FILE: toml };
  expect(temporalOptions({ env })).toMatchObject({ address: 'toml:7233', namespace: 'ns', from: 'configuration' });
  expect(temporalOptions({ env: { ...env, TEMPORAL_ADDRESS: 'env:1' } })).toMatchObject({
    address: 'env:1',
    namespace: 'ns',
  });
  writeFileSync(toml, 'not toml =');
  expect(refusal(() => temporalOptions({ env })).code).toBe('InvalidConfig');
});

it.each([
  ['an unknown key', `databases:\n  app: ${url('a')}\nextra: 1\n`, 3, 1, 'unknown key extra'],
  [
    'an unknown key of a database',
    `databases:\n  app:\n    url: ${url('a')}\n    pool: 3\n`,
    4,
    5,
    'unknown key databases.app.pool',
  ],
  ['an unknown key of defaults', 'defaults:\n  production: { sql: x }\n', 2, 17, 'unknown key defaults.production.sql'],
  ['a wrong value of defaults', 'defaults:\n  production:\n    hold: 72\n', 3, 11, 'defaults.production.hold'],
  ['a wrong type', `databases:\n  app: { url: ${url('a')}, poolMax: many }\n`, 2, undefined, 'databases.app.poolMax'],
  ['a name that is none', `databases:\n  App: ${url('a')}\n`, 2, 3, 'a connection name is'],
  ['a replica that is not there', `databases:\n  app: { url: ${url('a')}, replicas: [b] }\n`, 2, undefined, 'named b'],
  ['a control that is not there', 'control: b\n', 1, 10, 'named b'],
  ['a duplicate key', `databases:\n  app: ${url('a')}\n  app: ${url('b')}\n`, 3, undefined, 'not YAML'],
  ['no YAML', `databases: { app: "${url('a')}\n`, undefined, undefined, 'not YAML'],
])('refuses %s with its place', (_, yaml, line, column, message) => {
  const problem = refusal(() => load(yaml));
  expect(problem.code).toBe('InvalidConfig');
  expect(problem.message).toContain(message);
  expect(problem.where?.file).toBe(join(folder, 'pgshift.config.yaml'));
  if (line !== undefined) expect(problem.where?.line).toBe(line);
  if (column !== undefined) expect(problem.where?.column).toBe(column);
});

it('refuses a secret that cannot be read only when it is used, with its place', () => {
  const config = load(
    `databases:\n  a: env:NOT_SET\n  b: file:not-there\n  c: mysql://u:${SECRET}@x/y\n  d: { peerUrl: x }\n`,
  );
  for (const [name, message] of [
    ['a', 'variable NOT_SET is not set'],
    ['b', 'file not-there is empty or cannot be read'],
    ['c', 'not a postgresql:// URL'],
    ['d', 'has no url'],
  ] as const) {
    const problem = refusal(() => resolveTarget(config, name));
    expect([problem.code, problem.message]).toEqual(['InvalidConfig', expect.stringContaining(message) as string]);
    expect(problem.where?.line).toBe('abcd'.indexOf(name) + 2);
  }
});

it('names the known databases when one is not known', () => {
  const config = load(null, { PGSHIFT_DATABASE_APP: url('a'), PGSHIFT_DATABASE_SHOP: url('b') });
  const problem = refusal(() => resolveTarget(config, 'spelled'));
  expect(problem.code).toBe('UnknownDatabase');
  expect(problem.hint).toContain('PGSHIFT_DATABASE_SPELLED');
  expect(problem.hint).toContain('known: app, shop');
  expect(refusal(() => resolveTarget(config, url('x'))).code).toBe('UnknownDatabase');
});

it.each([
  [{ PGSHIFT_LOG_LEVEL: 'loud' }],
  [{ PGSHIFT_MAX_ACTIVITIES: '0' }],
  [{ PGSHIFT_POOL_MAX: 'many' }],
  [{ PGSHIFT_METRICS_ADDRESS: '9464' }],
  [{ PGSHIFT_DATABASE_1: url('a') }],
])('refuses a wrong variable: %j', (env) => {
  expect(refusal(() => load(null, env)).code).toBe('InvalidConfig');
});

it('has the contract’s defaults, and NoSuchFile for a file that was named', () => {
  expect(load(null)).toMatchObject({
    taskQueue: 'pgshift',
    logLevel: 'info',
    metrics: { host: '127.0.0.1', port: 9464 },
    maxActivities: 8,
    poolMax: 10,
    prometheusUrl: null,
  });
  expect(refusal(() => loadConfig({ file: join(folder, 'none.yaml'), env: {} })).code).toBe('NoSuchFile');
  expect(refusal(() => load(null, { PGSHIFT_CONFIG: 'none.yaml' })).code).toBe('NoSuchFile');
});
