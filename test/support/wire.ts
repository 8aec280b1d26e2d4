/** A TCP relay between two of a test's processes: it may cut what is open, refuse what comes, slow down or fall silent. */
import { createServer, connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface Wire {
  readonly port: number;
  /** The same URL through the relay. */
  through(url: string): string;
  /** Ends every connection; new ones are refused until `mend`. */
  cut(): void;
  /** Bytes are kept back in both directions, no connection ends: what a lost network looks like. */
  freeze(): void;
  /** So many bytes a second over all connections, until `mend`. */
  slow(bytesPerSecond: number): void;
  /** New connections go to another server. */
  lead(to: number): void;
  mend(): void;
  close(): Promise<void>;
}

export async function wireTo(port: number): Promise<Wire> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let refuses = false;
  let frozen = false;
  let rate = Infinity;
  let upTo = port;
  /** When the link is free again, by the clock of performance.now(). */
  let free = 0;
  const laden = (bytes: number): number => {
    const now = performance.now();
    free = Math.max(now, free) + (1_000 * bytes) / rate;
    return rate === Infinity ? 0 : free - now;
  };
  const server = createServer((client) => {
    if (refuses) return void client.destroy();
    const upstream = connect(upTo, '127.0.0.1');
    const pair = [client, upstream] as const;
    pairs.add(pair);
    for (const [from, to] of [pair, [upstream, client] as const]) {
      from.on('data', (chunk) => {
        if (!to.write(chunk)) from.pause();
        const busyMs = laden(chunk.length);
        if (busyMs <= 1) return;
        from.pause();
        setTimeout(() => {
          if (!frozen && !to.writableNeedDrain) from.resume();
        }, busyMs);
      });
      to.on('drain', () => {
        if (!frozen) from.resume();
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        to.destroy();
        pairs.delete(pair);
      });
    }
    if (frozen) for (const socket of pair) socket.pause();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const own = (server.address() as AddressInfo).port;
  const all = (): Socket[] => [...pairs].flat();
  return {
    port: own,
    through(url) {
      const changed = new URL(url);
      changed.host = `127.0.0.1:${own}`;
      return changed.toString();
    },
    cut() {
      refuses = true;
      for (const socket of all()) socket.destroy();
    },
    freeze() {
      frozen = true;
      for (const socket of all()) socket.pause();
    },
    slow(bytesPerSecond) {
      rate = bytesPerSecond;
    },
    lead(to) {
      upTo = to;
    },
    mend() {
      refuses = false;
      frozen = false;
      rate = Infinity;
      free = 0;
      for (const socket of all()) socket.resume();
    },
    async close() {
      for (const socket of all()) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
