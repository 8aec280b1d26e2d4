/** What HAProxy is told: the bytes of its question to green, and weights that say a share. */
import { noticesMs, readsLines, weightsFor } from '../../plan/model/readsCheck';

const plan = {
  backend: 'ro',
  servers: { blue: 'b', green: 'g' },
  check: { user: 'look', database: 'app', every: '200ms' },
};
const lines = readsLines(plan);
const sent = lines.flatMap((line) => {
  const hex = /send-binary ([0-9a-f]+)/.exec(line)?.[1];
  return hex === undefined ? [] : [Buffer.from(hex, 'hex')];
});

test('the messages have their own lengths, and say who asks and what', () => {
  const [startup, query] = sent;
  if (!startup || !query) throw new Error('two messages');
  expect([startup.readInt32BE(0), startup.readInt32BE(4)]).toEqual([startup.length, 196_608]);
  expect(startup.subarray(8).toString().split('\0')).toEqual([
    ...['user', 'look', 'database', 'app', 'application_name', 'pgshift-haproxy', '', ''],
  ]);
  expect([query.subarray(0, 1).toString(), query.readInt32BE(1), query.at(-1)]).toEqual(['Q', query.length - 1, 0]);
  expect(query.subarray(5).toString()).toContain("route = 'haproxy/ro' AND (side = 'g' OR ");
});

test('a green that hangs is down before the word that it is near is over', () => {
  const text = lines.join('\n');
  const waits = Number(/timeout check (\d+)ms/.exec(text)?.[1]);
  const every = Number(/check inter (\d+)ms/.exec(text)?.[1]);
  // Until the next look, for its connection, and for its answer.
  expect(noticesMs(plan)).toBeGreaterThanOrEqual(every + every + waits);
  const whole = readsLines({ ...plan, check: { ...plan.check, every: '1s' } }).join('\n');
  expect(whole).toContain('check inter 1000ms fall 1');
});

test.each([
  [0, { blue: 100, green: 0 }],
  [5, { blue: 95, green: 5 }],
  [50, { blue: 50, green: 50 }],
  [99, { blue: 1, green: 99 }],
  [100, { blue: 0, green: 100 }],
  [0.5, { blue: 199, green: 1 }],
  [12.5, { blue: 7, green: 1 }],
  [0.07, null],
  [99.9, null],
])('%d percent are weights %j', (percent, weights) => expect(weightsFor(percent)).toEqual(weights));

test('whatever the share, the weights say it to a fifth of a percent', () => {
  for (let percent = 0.4; percent <= 99.6; percent += 0.01) {
    const weights = weightsFor(percent);
    if (weights === null) throw new Error(String(percent));
    const { blue, green } = weights;
    expect([blue, green].every((one) => Number.isInteger(one) && one >= 1 && one <= 256)).toBe(true);
    expect(Math.abs((100 * green) / (blue + green) - percent)).toBeLessThan(0.2);
  }
});
