import { adapterSchema, parseHostPort, parseServer } from '../../plan/model/traffic';

const good = (json: unknown) => adapterSchema.safeParse(json);

describe('adapters as a plan writes them', () => {
  test.each([
    [{ type: 'router', route: 'app' }],
    [
      {
        type: 'pgbouncer',
        admin: ['pool_a', 'pool_b'],
        database: 'app',
        databasesFile: '/etc/pgbouncer/databases.ini',
      },
    ],
    [
      {
        type: 'pgbouncer',
        admin: ['pool'],
        database: 'app',
        databasesFile: 'x.ini',
        servers: { blue: 'db1:5432', green: '[::1]:5432/app' },
      },
    ],
    [
      {
        type: 'haproxy',
        admin: ['127.0.0.1:9999', '/run/haproxy.sock'],
        backend: 'db',
        servers: { blue: 'b', green: 'g' },
      },
    ],
    [{ type: 'command', run: ['./move.sh', '--now'], timeout: '3s' }],
    [{ type: 'command', url: 'https://hooks.example.org/move', headers: { Authorization: 'env:TOKEN' } }],
  ])('%j is taken', (json) => expect(good(json).success).toBe(true));

  test.each([
    [{ type: 'router' }],
    [{ type: 'pgbouncer', admin: ['postgresql://u:secret@h/pgbouncer'], database: 'app', databasesFile: 'x' }],
    [{ type: 'pgbouncer', admin: [], database: 'app', databasesFile: 'x' }],
    [{ type: 'haproxy', admin: ['relative.sock'], backend: 'db', servers: { blue: 'b', green: 'g' } }],
    [{ type: 'haproxy', admin: ['h:99999'], backend: 'db', servers: { blue: 'b', green: 'g' } }],
    [{ type: 'command' }],
    [{ type: 'command', run: ['a'], url: 'http://b' }],
    [{ type: 'command', url: 'http://user:secret@b' }],
    [{ type: 'command', url: 'http://b', headers: { Authorization: 'secret' } }],
    [{ type: 'command', run: ['a'], timeout: '0s' }],
    [{ type: 'router', route: 'app', weight: 5 }],
    [{ type: 'dns' }],
  ])('%j is refused, and its values are not echoed', (json) => {
    const result = good(json);
    expect(result.success).toBe(false);
    expect(JSON.stringify(result.error?.issues)).not.toContain('secret');
  });

  test('places are host:port, never more', () => {
    expect(parseHostPort('127.0.0.1:5432')).toEqual({ host: '127.0.0.1', port: 5432 });
    expect(parseServer('[::1]:5432/app')).toEqual({ host: '::1', port: 5432, database: 'app' });
    for (const text of ['host', 'host:0', 'host:5432/', 'u@host:5432', 'host:5432/a b'])
      expect(parseServer(text)).toBeNull();
  });
});
