/** Ports on 127.0.0.1. A default that is taken moves to the next free one; a port that was asked for and is taken is an error. */
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

/** `wanted` when it is free, else the next free one that is not in `reserved`. `given` = by flag: then PortInUse instead. */
export async function choosePort(
  what: string,
  wanted: number,
  given: boolean,
  reserved: ReadonlySet<number> = new Set(),
): Promise<number> {
  if (given) {
    if (!reserved.has(wanted) && (await isFree(wanted))) return wanted;
    throw new Problem('PortInUse', `${what}: port ${wanted} on ${HOST} is taken`, { value: String(wanted) });
  }
  for (let port = wanted; port < Math.min(wanted + 500, 65_536); port += 1) {
    if (!reserved.has(port) && (await isFree(port))) return port;
  }
  throw new Problem('PortInUse', `${what}: no free port from ${wanted} on`);
}
