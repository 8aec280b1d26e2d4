/** A source of metrics over HTTP that tells the truth, or whatever a test makes it do. */
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const FAULTS = [
  'nan',
  'text',
  'empty',
  'nothing',
  'garbage',
  'hang',
  'half',
  'status',
  'redirect',
  'huge',
  'cut',
] as const;
export type Fault = (typeof FAULTS)[number];

export interface MetricServer {
  /** A number is told as it is. */
  says: number | Fault;
  readonly url: string;
  readonly asked: number;
  /** Nobody listens any more, until it is started again. */
  kill(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

const HUGE = 50 * 1024 * 1024;

function misbehave(fault: Fault, response: ServerResponse): void {
  switch (fault) {
    case 'nan':
      return void response.end('{"value": "NaN"}');
    case 'text':
      return void response.end('{"value": "very well, thank you"}');
    case 'empty':
      return void response.end('{"value": null}');
    case 'nothing':
      return void response.end('');
    case 'garbage':
      return void response.end('<html>502</html>');
    case 'hang':
      return; // closed with the server
    case 'half':
      return void response.write('{"value": 0');
    case 'status':
      return void response.writeHead(500).end('{"value": 0}');
    case 'redirect':
      return void response.writeHead(302, { location: '/elsewhere' }).end();
    case 'huge': {
      const part = Buffer.alloc(64 * 1024, ' ');
      let left = HUGE;
      response.write('{"value": 0, "rest": "');
      const more = (): void => {
        while (left > 0 && !response.destroyed) {
          left -= part.length;
          if (!response.write(part)) return void response.once('drain', more);
        }
        response.end('"}');
      };
      return more();
    }
    case 'cut':
      response.writeHead(200, { 'content-length': '100' });
      response.write('{"value": 0');
      return void setTimeout(() => response.destroy(), 10);
  }
}

export async function metricServer(): Promise<MetricServer> {
  let asked = 0;
  const make = () =>
    createServer((_, response) => {
      asked += 1;
      response.on('error', () => undefined);
      if (typeof self.says === 'number') response.end(JSON.stringify({ value: self.says }));
      else misbehave(self.says, response);
    });
  const listen = async (port: number) => {
    const made = make();
    await new Promise<void>((resolve) => made.listen(port, '127.0.0.1', resolve));
    return made;
  };
  let server = await listen(0);
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
  const self: MetricServer = {
    says: 0,
    url: `http://127.0.0.1:${port}/metric`,
    get asked() {
      return asked;
    },
    kill: close,
    start: async () => void (server = await listen(port)),
    close,
  };
  return self;
}
