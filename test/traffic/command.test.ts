/** Somebody's own tool: a script that keeps its state in a file, and an HTTP hook. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandAdapter } from '../../plan/model/traffic';
import { commandTraffic } from '../../traffic/command/adapter';
import { parseAnswer } from '../../traffic/command/run';
import { together } from '../../traffic';
import type { TrafficAdapter, TrafficCall } from '../../traffic/types';
import { codeOf, until } from '../support/engine';

const call = (deadlineMs = 5_000): TrafficCall => ({
  idempotencyKey: 'w/r/switch',
  deadlineMs,
  signal: new AbortController().signal,
});

const TOOL = `#!/bin/sh
dir=$(dirname "$0")
target=$(cat $dir/target); paused=$(cat $dir/paused)
echo "$PGSHIFT_ACTION side=$PGSHIFT_SIDE key=$PGSHIFT_IDEMPOTENCY_KEY secret=$PGSHIFT_DATABASE_APP deadline=$PGSHIFT_DEADLINE_MS" >> $dir/log
[ -f $dir/do-$PGSHIFT_ACTION ] && . $dir/do-$PGSHIFT_ACTION
case $PGSHIFT_ACTION in
  pause) paused=true;;
  point) target=$PGSHIFT_SIDE;;
  resume) paused=false;;
  undo) paused=false; target=$PGSHIFT_SIDE;;
esac
printf %s $target > $dir/target; printf %s $paused > $dir/paused
echo "moving clients"
echo "{\\"target\\": \\"$target\\", \\"paused\\": $paused, \\"drained\\": $paused}"
`;

describe('a command', () => {
  let dir: string;
  const env = { PATH: process.env.PATH, PGSHIFT_DATABASE_APP: 'secret' };
  const tool = (more: Record<string, unknown> = {}): TrafficAdapter =>
    commandTraffic(commandAdapter.parse({ type: 'command', run: [join(dir, 'tool'), '--now'], ...more }), { env });
  const log = () => readFileSync(join(dir, 'log'), 'utf8').trim().split('\n');
  const actions = () => log().map((line) => line.split(' ')[0]);

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'pgshift-command-'));
    writeFileSync(join(dir, 'tool'), TOOL);
    chmodSync(join(dir, 'tool'), 0o755);
    writeFileSync(join(dir, 'target'), 'blue');
    writeFileSync(join(dir, 'paused'), 'false');
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test('is asked in words, with one key over all tries, and without our secrets', async () => {
    const traffic = tool();
    expect(await traffic.check(call())).toEqual([]);
    for (let again = 0; again < 2; again++) expect(await traffic.pause(call())).toMatchObject({ drained: true });
    expect(await traffic.point('green', call())).toMatchObject({ target: 'green', paused: true });
    expect(await traffic.resume(call())).toMatchObject({ target: 'green', paused: false });
    expect(await traffic.undo('blue', call())).toEqual({
      target: 'blue',
      paused: false,
      drained: false,
      because: null,
    });
    const pauses = log().filter((line) => line.startsWith('pause'));
    expect(pauses.map((line) => line.replace(/deadline=.*/, ''))).toEqual(
      Array(2).fill('pause side= key=w/r/switch/pause secret= '),
    );
    expect(log().find((line) => line.startsWith('point'))).toMatch(
      /side=green key=w\/r\/switch\/point\/green secret= deadline=\d+$/,
    );
  });

  test.each([
    ['ends with an error', 'exit 3', /pause ended with 3/],
    ['prints something else', 'echo done; exit 0', /did not answer/],
    ['hangs', 'sleep 30', /pause did not end in time/],
    ['prints without end', 'while :; do printf %01000d 0; done', /in time|64 kB/],
    ['lies about the pause', `echo '{"target": "blue", "paused": false, "drained": true}'; exit 0`, /taken back/],
    ['never drains', `echo '{"target": "blue", "paused": true, "drained": false}'; exit 0`, /taken back/],
  ])('that %s makes the pause fail, and is asked to undo it', async (_, script, message) => {
    writeFileSync(join(dir, 'do-pause'), script);
    await expect(tool({ timeout: '700ms' }).pause(call(1_500))).rejects.toThrow(message);
    expect(actions().at(-1)).toBe('undo');
  });

  test('that leads elsewhere, or stays paused, is not believed', async () => {
    writeFileSync(join(dir, 'do-point'), 'PGSHIFT_SIDE=blue');
    expect(await codeOf(tool().point('green', call()))).toBe('TrafficFailed');
    writeFileSync(join(dir, 'do-resume'), `echo '{"target": "blue", "paused": true, "drained": true}'; exit 0`);
    expect(await codeOf(tool().resume(call()))).toBe('TrafficFailed');
    expect(await codeOf(tool({ run: ['/nowhere/tool'] }).status(call()))).toBe('TrafficFailed');
    expect(await tool({ run: ['/nowhere/tool'] }).check(call())).toMatchObject([{ level: 'error' }]);
    expect(() => parseAnswer('{"target": "red", "paused": true, "drained": true}', 'x')).toThrow();
    expect(() => parseAnswer('', 'x')).toThrow();
  });

  test('its children end with it', async () => {
    writeFileSync(join(dir, 'do-status'), `sleep 60 & echo $! > ${dir}/child; wait`);
    expect(await codeOf(tool({ timeout: '500ms' }).status(call()))).toBe('TrafficFailed');
    const child = Number(readFileSync(join(dir, 'child'), 'utf8'));
    await until(async () => {
      try {
        process.kill(child, 0);
        return readFileSync(`/proc/${child}/stat`, 'utf8').includes(') Z ');
      } catch {
        return true;
      }
    }, 3_000);
  });

  test('several adapters: one that fails lets the others go on', async () => {
    const broken = commandTraffic(commandAdapter.parse({ type: 'command', run: ['/bin/false'] }), { env });
    const both = together([tool(), broken]);
    expect(await codeOf(both.pause(call()))).toBe('TrafficFailed');
    expect(actions().slice(-2)).toEqual(['pause', 'undo']);
    expect(await both.status(call())).toMatchObject({ target: null, paused: false, drained: false });
    const one = together([tool()]);
    expect(await one.pause(call())).toMatchObject({ target: 'blue', drained: true });
    expect(await one.point('green', call())).toMatchObject({ target: 'green' });
    expect(await one.resume(call())).toMatchObject({ target: 'green', paused: false, because: null });
  });
});

describe('an HTTP hook', () => {
  let url: string;
  let answer: (request: IncomingMessage, response: ServerResponse, body: string) => void;
  const seen: { body: Record<string, unknown>; headers: IncomingMessage['headers'] }[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (piece: Buffer) => (body += piece.toString()));
    request.on('end', () => {
      seen.push({ body: JSON.parse(body) as Record<string, unknown>, headers: request.headers });
      answer(request, response, body);
    });
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/move`;
  });
  afterAll(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const hook = (more: Record<string, unknown> = {}): TrafficAdapter =>
    commandTraffic(commandAdapter.parse({ type: 'command', url, headers: { Authorization: 'env:TOKEN' }, ...more }), {
      env: { TOKEN: 'Bearer secret' },
    });

  test('gets the same as JSON, with headers from the environment', async () => {
    answer = (_, response) => response.end('{"target": "green", "paused": true, "drained": true}');
    expect(await hook().point('green', call())).toMatchObject({ target: 'green' });
    expect(seen.at(-1)).toMatchObject({
      body: {
        action: 'point',
        side: 'green',
        idempotencyKey: 'w/r/switch/point/green',
        deadlineMs: expect.any(Number),
      },
      headers: { authorization: 'Bearer secret', 'idempotency-key': 'w/r/switch/point/green' },
    });
  });

  test.each([
    ['an error', (_: IncomingMessage, response: ServerResponse) => response.writeHead(503).end('secret'), /HTTP 503/],
    ['nothing', () => undefined, /in time/],
    ['too much', (_: IncomingMessage, r: ServerResponse) => r.end('x'.repeat(1_000_000)), /64 kB/],
    [
      'a redirect',
      (_: IncomingMessage, r: ServerResponse) => r.writeHead(302, { location: url }).end(),
      /was not answered/,
    ],
    ['rubbish', (_: IncomingMessage, r: ServerResponse) => r.end('<html>secret'), /did not answer/],
  ])('%s is no answer', async (_, reply, message) => {
    answer = reply;
    const error = await hook({ timeout: '500ms' })
      .status(call())
      .then(
        () => null,
        (thrown: Error) => thrown,
      );
    expect(error?.message).toMatch(message);
    expect(`${error?.message} ${JSON.stringify(error)}`).not.toMatch(/secret|http:/);
  });
});
