import fc from 'fast-check';
import { BUCKETS, bucket, inShare, murmur3 } from '../../plan/model/bucket';
import type { Flag, Route } from '../../plan/model/routing';
import { flagIsOn, homeOf, newer, parseShare, readSideOf, shadowSideOf } from '../../plan/model/routing';

const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const percent = fc.integer({ min: 0, max: 10_000 }).map((n) => n / 100);

/** The same hash another way: of bytes, in 64-bit integers, a word at a time as the reference describes it. */
function ofBytes(bytes: Buffer): number {
  const cut = (n: bigint): bigint => n & 0xffffffffn;
  const rotl = (n: bigint, by: bigint): bigint => cut(n << by) | (n >> (32n - by));
  const mixed = (n: bigint): bigint => cut(rotl(cut(n * 0xcc9e2d51n), 15n) * 0x1b873593n);
  let h = 0n;
  for (let at = 0; at < bytes.length; at += 4) {
    const word = bytes.subarray(at, at + 4);
    h ^= mixed(BigInt(word.length === 0 ? 0 : word.readUIntLE(0, word.length)));
    if (word.length === 4) h = cut(rotl(h, 13n) * 5n + 0xe6546b64n);
  }
  h ^= BigInt(bytes.length);
  h = cut((h ^ (h >> 16n)) * 0x85ebca6bn);
  h = cut((h ^ (h >> 13n)) * 0xc2b2ae35n);
  return Number(h ^ (h >> 16n));
}

describe('the hash of keys', () => {
  test.each([
    ['s', '1', 3541],
    ['s', '42', 3706],
    ['checkout', 'cust-7', 317],
    ['é', 'ü', 3500],
  ])("gives the contract's bucket for %s:%s", (salt, key, expected) => expect(bucket(salt, key)).toBe(expected));

  // Published with the reference implementation, seed 0.
  test.each([
    ['', 0],
    ['test', 0xba6bd213],
    ['Hello, world!', 0xc0363e43],
    ['The quick brown fox jumps over the lazy dog', 0x2e4ff723],
  ])('is murmur3 of %j', (input, expected) => expect(murmur3(input)).toBe(expected));

  test('reads text as UTF-8, also half surrogates and long keys', () => {
    // Any UTF-16 at all: every plane, and halves of pairs that stand alone.
    const unit = fc.oneof(
      fc.nat(0xffff),
      fc.integer({ min: 0xd800, max: 0xdfff }),
      fc.integer({ min: 0x20, max: 0x7e }),
    );
    const any = fc.array(unit, { maxLength: 400 }).map((units) => String.fromCharCode(...units));
    fc.assert(fc.property(any, (s) => murmur3(s) === ofBytes(Buffer.from(s, 'utf8'))));
    expect(murmur3('\u{1f600} \u{10ffff}')).toBe(ofBytes(Buffer.from('\u{1f600} \u{10ffff}', 'utf8')));
    expect(murmur3('\ud800')).toBe(murmur3('\ufffd'));
    expect(murmur3('\ud83d\ude00')).not.toBe(murmur3('\ufffd\ufffd'));
    expect(murmur3('x'.repeat(100_000))).toBe(murmur3('x'.repeat(100_000)));
  });

  test('is a bucket, and the same for a number and its text', () => {
    fc.assert(
      fc.property(text, fc.integer(), (salt, n) => {
        const found = bucket(salt, n);
        return Number.isInteger(found) && found >= 0 && found < BUCKETS && found === bucket(salt, String(n));
      }),
    );
  });

  test('is monotone: a greater share keeps every key of a smaller one', () => {
    fc.assert(
      fc.property(text, text, percent, percent, (salt, key, a, b) => {
        const [less, more] = a < b ? [a, b] : [b, a];
        return !inShare(salt, key, less) || inShare(salt, key, more);
      }),
      { numRuns: 2_000 },
    );
    expect(inShare('s', '1', 35.41)).toBe(false);
    expect(inShare('s', '1', 35.42)).toBe(true);
  });

  test.each(['s', 'checkout', 'é'])('is uniform within 1 % over 100,000 keys, salt %s', (salt) => {
    const keys = Array.from({ length: 100_000 }, (_, i) => `cust-${i}`);
    for (const share of [1, 5, 20, 50, 90])
      expect(Math.abs(keys.filter((key) => inShare(salt, key, share)).length / 1_000 - share)).toBeLessThan(1);
  });

  test('is off without a key, and on for every key at 100 %', () => {
    for (const none of [null, undefined, '']) expect(inShare('s', none, 100)).toBe(false);
    fc.assert(fc.property(text, text, (salt, key) => key === '' || inShare(salt, key, 100)));
    fc.assert(fc.property(text, text, (salt, key) => !inShare(salt, key, 0)));
  });

  test('costs under 5 microseconds a decision', () => {
    const flag = flagOf({ percent: 20, allow: new Set(['a']), deny: new Set(['b']) });
    // The best of many short rounds: what the machine gives to others is not ours.
    let best = Infinity;
    for (let round = 0; round < 300; round++) {
      const from = performance.now();
      for (let i = 0; i < 500; i++) flagIsOn(flag, `customer-${i}`);
      best = Math.min(best, ((performance.now() - from) * 1_000) / 500);
    }
    expect(best).toBeLessThan(5);
  });
});

const flagOf = (more: Partial<Flag> = {}): Flag => ({
  name: 'new_checkout',
  enabled: true,
  percent: 0,
  salt: 'new_checkout',
  allow: new Set(),
  deny: new Set(),
  ...more,
});

describe('a flag', () => {
  test('is off when unknown, not enabled, without a key; deny comes before allow', () => {
    expect(flagIsOn(undefined, 'a')).toBe(false);
    expect(flagIsOn(flagOf({ percent: 100 }), 'a')).toBe(true);
    expect(flagIsOn(flagOf({ percent: 100, enabled: false, allow: new Set(['a']) }), 'a')).toBe(false);
    expect(flagIsOn(flagOf({ percent: 100 }), undefined)).toBe(false);
    expect(flagIsOn(flagOf({ allow: new Set(['7']) }), 7)).toBe(true);
    expect(flagIsOn(flagOf({ percent: 100, allow: new Set(['7']), deny: new Set(['7']) }), '7')).toBe(false);
  });
});

describe('a route', () => {
  const route = (more: Partial<Route> = {}): Route => ({
    side: 'blue',
    epoch: 1,
    paused: false,
    pauseMs: null,
    share: null,
    ...more,
  });
  const share = {
    to: 'green',
    salt: 's',
    percent: 36,
    keys: ['vip'],
    moves: 'keys' as const,
    moving: null,
    freshMs: null,
  };

  test('gives each key one home, and lets only those wait that are on their way', () => {
    const still = route({ share });
    expect(homeOf(still, '1')).toEqual({ side: 'green', held: false }); // bucket 3541
    expect(homeOf(still, '42')).toEqual({ side: 'blue', held: false }); // bucket 3706
    expect(homeOf(still, 'vip')).toEqual({ side: 'green', held: false });
    expect(homeOf(still, null)).toEqual({ side: 'blue', held: false });
    const moving = route({ share: { ...share, moving: { percent: 38, keys: ['vip'] } } });
    expect(homeOf(moving, '1')).toEqual({ side: 'green', held: false });
    expect(homeOf(moving, '42')).toEqual({ side: 'blue', held: true });
    expect(homeOf(route({ share, paused: true }), '1')).toEqual({ side: 'green', held: true });
  });

  test('sends reads over only while the lag is known to be small, and shadows beside them', () => {
    const reads = route({ share: { ...share, moves: 'reads', freshMs: 1_000 } });
    expect(homeOf(reads, '1').side).toBe('blue');
    expect(readSideOf(reads, '1', 0)).toBe('green');
    expect(readSideOf(reads, '1', 1_000)).toBe('blue');
    expect(readSideOf(route({ share: { ...share, moves: 'reads' } }), '1', 0)).toBe('blue');
    expect(shadowSideOf(reads, '1')).toBeNull();
    expect(shadowSideOf(route({ share: { ...share, moves: 'shadow-reads' } }), '1')).toBe('green');
  });

  test('is never believed back to a lower epoch, whatever order it is read in', () => {
    const any = fc.record({ epoch: fc.nat(20), side: fc.constantFrom('blue', 'green'), paused: fc.boolean() });
    fc.assert(
      fc.property(fc.array(any, { minLength: 1 }), (read) => {
        let known: Route | null = null;
        let highest = -1;
        for (const one of read) {
          known = newer(known, route(one));
          highest = Math.max(highest, one.epoch);
          if (known.epoch !== highest) return false;
        }
        return true;
      }),
    );
  });

  test('has no share where one is written that cannot be read', () => {
    for (const json of [null, 5, {}, { to: 'green' }, { to: 'green', salt: 's', moves: 'writes' }])
      expect(parseShare(json)).toBeNull();
    expect(parseShare({ to: 'green', salt: 's', moves: 'keys', percent: 'NaN' })).toMatchObject({ percent: 0 });
  });
});
