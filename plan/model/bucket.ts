/**
 * Which of 10,000 buckets a key falls into: the same answer in every process, language and version, since people are moved by it. The
 * contract fixes it: murmur3 (x86, 32 bits, seed 0) of the UTF-8 of `salt:key`, times 10,000, shifted right by 32. A share of p percent
 * takes the buckets below p * 100: raising it only adds keys, lowering it takes off the last ones. Pure, under a microsecond.
 */

export const BUCKETS = 10_000;

/** Keys longer than this grow it; kept between calls, since a fresh array for each decision would cost more than the hash. */
let scratch = new Uint8Array(256);

/** UTF-8 into `scratch`; answers the length. Half of a surrogate pair counts as U+FFFD, as everywhere on the web. */
function encode(text: string): number {
  if (scratch.length < text.length * 3) scratch = new Uint8Array(text.length * 6);
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    let point = text.charCodeAt(i);
    if (point < 0x80) {
      scratch[at++] = point;
      continue;
    }
    if (point >= 0xd800 && point <= 0xdfff) {
      const low = point < 0xdc00 ? text.charCodeAt(i + 1) : NaN;
      if (low >= 0xdc00 && low <= 0xdfff) {
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        i++;
      } else point = 0xfffd;
    }
    if (point < 0x800) scratch[at++] = 0xc0 | (point >> 6);
    else {
      if (point < 0x10000) scratch[at++] = 0xe0 | (point >> 12);
      else {
        scratch[at++] = 0xf0 | (point >> 18);
        scratch[at++] = 0x80 | ((point >> 12) & 0x3f);
      }
      scratch[at++] = 0x80 | ((point >> 6) & 0x3f);
    }
    scratch[at++] = 0x80 | (point & 0x3f);
  }
  return at;
}

const rotate = (x: number, by: number): number => (x << by) | (x >>> (32 - by));
const byte = (i: number): number => scratch[i] as number;
const scramble = (k: number): number => Math.imul(rotate(Math.imul(k, 0xcc9e2d51), 15), 0x1b873593);

/** murmur3, x86 variant, 32 bits, seed 0, of the text's UTF-8: 0..4,294,967,295. */
export function murmur3(text: string): number {
  const length = encode(text);
  const whole = length & ~3;
  let h = 0;
  for (let i = 0; i < whole; i += 4) {
    const k = byte(i) | (byte(i + 1) << 8) | (byte(i + 2) << 16) | (byte(i + 3) << 24);
    h = (Math.imul(rotate(h ^ scramble(k), 13), 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  for (let i = length - 1; i >= whole; i--) tail = (tail << 8) | byte(i);
  if (length > whole) h ^= scramble(tail);
  h ^= length;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** 0..9,999. */
export const bucket = (salt: string, key: string | number | bigint): number =>
  Math.floor((murmur3(`${salt}:${key}`) * BUCKETS) / 4_294_967_296);

/** Is this key within the first `percent` (0..100, two decimals count)? An absent key never is. */
export const inShare = (salt: string, key: string | number | bigint | null | undefined, percent: number): boolean =>
  // Rounded: 0.07 * 100 is 7.000000000000001.
  key !== null && key !== undefined && key !== '' && bucket(salt, key) < Math.round(percent * 100);
