/**
 * Ports on 127.0.0.1. A default that is taken moves to the next free one; a port that was asked for and is taken is an error. Keeps true: of two
 * processes of ours that choose at the same moment, no port is chosen by both, although nobody listens there yet.
 */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { Problem } from '../../plan/model/errors';

const HOST = '127.0.0.1';

export function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen({ port, host: HOST, exclusive: true }, () => server.close(() => done(true)));
  });
}

/** Any free port: below those that systems give to connections that go out, one of which may take a port that was just found free. */
export async function anyFreePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    if (await isFree(port)) return port;
  }
}

/** Of this process. */
const claimed = new Set<number>();

/** Says to our other processes that the port is ours, until it is released or this process ends; null when another one said so before. */
async function claim(port: number): Promise<(() => void) | null> {
  // Names that live as long as a process, and no longer, are Linux' own: elsewhere one process alone knows.
  if (process.platform !== 'linux') {
    if (claimed.has(port)) return null;
    claimed.add(port);
    return () => void claimed.delete(port);
  }
  const server = createServer().unref();
  const first = await new Promise<boolean>((done) => {
    server.once('error', () => done(false));
    server.listen({ path: `\0pgshift-port-${port}` }, () => done(true));
  });
  return first ? () => void server.close() : null;
}

export interface ClaimedPort {
  readonly port: number;
  readonly release: () => void;
}

async function take(port: number): Promise<ClaimedPort | null> {
  const release = await claim(port);
  if (release === null) return null;
  if (await isFree(port)) return { port, release };
  release();
  return null;
}

/** `wanted` when it is free, else the next free one. `given` = by flag: then PortInUse instead. */
export async function choosePort(what: string, wanted: number, given: boolean): Promise<ClaimedPort> {
  if (given) {
    const taken = await take(wanted);
    if (taken) return taken;
    throw new Problem('PortInUse', `${what}: port ${wanted} on ${HOST} is taken`, { value: String(wanted) });
  }
  for (let port = wanted; port < Math.min(wanted + 500, 65_536); port += 1) {
    const taken = await take(port);
    if (taken) return taken;
  }
  throw new Problem('PortInUse', `${what}: no free port from ${wanted} on`);
}
