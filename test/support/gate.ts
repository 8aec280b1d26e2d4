/** An application that somebody's own tool moves: a gate in front of two pools, led by an HTTP hook as adapter `command` calls it. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';
import type { PoolClient } from 'pg';
import type { Side } from '../../plan/model/traffic';
import { SIDES } from '../../plan/model/traffic';
import type { Writable } from './blueGreen';

export interface Gate {
  /** For the plan: `{ type: 'command', url }`. */
  readonly url: string;
  /** What the application writes through: waits during a pause. */
  readonly pool: Writable;
  readonly state: () => { readonly target: Side; readonly paused: boolean };
  /** Called when the next pause is complete, before it is answered; once. */
  whenPaused(what: () => Promise<void>): void;
  /** Says of this pause that nobody is paused. */
  lie(): void;
  close(): Promise<void>;
}

interface Asked {
  readonly action: 'pause' | 'point' | 'resume' | 'status' | 'undo';
  readonly side: Side | null;
}

export async function startGate(urls: Readonly<Record<Side, string>>): Promise<Gate> {
  const open = (side: Side): Pool => {
    const one = new Pool({ connectionString: urls[side], max: 6 });
    one.on('error', () => undefined);
    return one;
  };
  const pools = { blue: open('blue'), green: open('green') };
  let target: Side = 'blue';
  let paused = false;
  let busy = 0;
  let then: (() => Promise<void>) | null = null;
  let lies = false;

  const enter = async (): Promise<Pool> => {
    while (paused) await sleep(5);
    busy += 1;
    return pools[target];
  };
  const pool = {
    async query(text: string, values?: unknown[]) {
      const through = await enter();
      try {
        return await through.query(text, values);
      } finally {
        busy -= 1;
      }
    },
    async connect(): Promise<PoolClient> {
      const through = await enter();
      try {
        const client = await through.connect();
        const release = client.release.bind(client);
        client.release = (error) => {
          busy -= 1;
          client.release = release;
          release(error);
        };
        return client;
      } catch (error) {
        busy -= 1;
        throw error;
      }
    },
  } as unknown as Writable;

  const pause = async (): Promise<void> => {
    paused = true;
    while (busy > 0) await sleep(2);
    // As a tool that is worth its name does: nothing stays open to the side that is left.
    for (const side of SIDES) {
      const old = pools[side];
      pools[side] = open(side);
      await old.end();
    }
    const what = then;
    then = null;
    await what?.();
  };
  const act = async ({ action, side }: Asked): Promise<void> => {
    if (action === 'pause' && !paused) await pause();
    if ((action === 'point' || action === 'undo') && side) target = side;
    if (action === 'resume' || action === 'undo') paused = lies = false;
  };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (piece: Buffer) => (body += piece.toString()));
    request.on('end', () => {
      void act(JSON.parse(body) as Asked).then(
        () => response.end(JSON.stringify({ target, paused: paused && !lies, drained: paused && busy === 0 })),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/move`,
    pool,
    state: () => ({ target, paused }),
    whenPaused: (what) => void (then = what),
    lie: () => void (lies = true),
    async close() {
      paused = false;
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await Promise.all(SIDES.map((side) => pools[side].end()));
    },
  };
}
