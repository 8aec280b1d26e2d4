/** A real HAProxy with a backend for reads, as `pgshift plan` says that it is written, and clients that read through it. */
import { Client } from 'pg';
import { readsLines } from '../../plan/model/readsCheck';
import type { HaproxyReadsPlan } from '../../plan/model/traffic';
import type { PairWorld } from './blueGreen';
import type { Haproxy } from './haproxy';
import { startHaproxy } from './haproxy';

export interface Gateway {
  readonly proxy: Haproxy;
  /** The plan's adapter. */
  readonly traffic: Readonly<Record<string, unknown>>;
  /** A session at the frontend for reads, and the major version of the server that it came to. */
  reader(): Promise<{ readonly client: Client; readonly version: number }>;
  /** By version: where so many new readers come to. */
  spread(readers: number): Promise<Readonly<Record<number, number>>>;
  stop(): Promise<void>;
}

const address = ({ url }: { readonly url: string }): string => new URL(url).host;

/** @param green its server's line in the backend for reads, by somebody who did not write what the plan shows. */
export async function startGateway(world: PairWorld, green: string | null = null): Promise<Gateway> {
  const check = { user: world.role, database: world.blue.name, every: '100ms' };
  const reads: HaproxyReadsPlan = { backend: 'ro', servers: { blue: 'b', green: 'g' }, check };
  const lines =
    green === null ? readsLines(reads) : ['backend ro', '  server b BLUE:PORT weight 100', `  server g ${green}`];
  const proxy = await startHaproxy(
    [`b ${address(world.blue)}`, `g ${address(world.green)} disabled`],
    lines.map((line) => line.replace('BLUE:PORT', address(world.blue)).replace('GREEN:PORT', address(world.green))),
  );
  const open = new Set<Client>();
  const reader = async () => {
    const url = new URL(world.urls.blue);
    url.port = String(proxy.readsPort);
    const client = new Client({ connectionString: url.toString() });
    client.on('error', () => open.delete(client));
    await client.connect();
    open.add(client);
    const { rows } = await client.query<{ v: number }>(
      `SELECT current_setting('server_version_num')::int / 10000 AS v`,
    );
    return { client, version: rows[0]?.v ?? 0 };
  };
  return {
    proxy,
    traffic: {
      ...{
        type: 'haproxy',
        admin: [proxy.socket],
        backend: 'db',
        servers: { blue: 'b', green: 'g' },
        frontend: 'db_in',
      },
      reads,
    },
    reader,
    async spread(readers) {
      const found: Record<number, number> = {};
      for (let i = 0; i < readers; i += 1) {
        const { client, version } = await reader();
        found[version] = (found[version] ?? 0) + 1;
        await client.end();
        open.delete(client);
      }
      return found;
    },
    async stop() {
      await Promise.all([...open].map((one) => one.end().catch(() => undefined)));
      await proxy.stop();
    },
  };
}
