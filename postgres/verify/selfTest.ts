/**
 * Before anything is compared both servers print and hash the same known values. Keeps true: a type is compared by its bytes only when both
 * sides make the same bytes of the same values; servers that hash differently are compared by md5, which is the same everywhere.
 */
import { literal } from '../ident';
import type { HashMethod } from '../rowHash';
import type { Session } from '../session';
import type { SessionPair } from './session';

export interface SelfTest {
  readonly method: HashMethod;
  /** Type oids whose bytes both sides agree about. All below 10,000: those are the same on every server. */
  readonly byBytes: ReadonlySet<number>;
}

/** Type -> values whose bytes are worth looking at. `from`: the first version that has it. */
const SAMPLES: readonly { readonly type: string; readonly values: readonly string[]; readonly from?: number }[] = [
  { type: 'bool', values: ['t'] },
  { type: '"char"', values: ['x'] },
  { type: 'name', values: ['é'] },
  { type: 'int2', values: ['-2'] },
  { type: 'int4', values: ['70000'] },
  { type: 'int8', values: ['-9007199254740993'] },
  { type: 'oid', values: ['4000000000'] },
  { type: 'float4', values: ['1.1', '-0', 'NaN', 'Infinity'] },
  { type: 'float8', values: ['0.1', '-0', 'NaN', '-Infinity', '1e-310'] },
  { type: 'numeric', values: ['1.00', '-0.000010', 'NaN', '12345678901234567890.5'] },
  { type: 'money', values: ['-12.34'] },
  { type: 'text', values: ['', 'é€😀'] },
  { type: 'varchar', values: ['ß'] },
  { type: 'bpchar', values: ['a  '] },
  { type: 'bytea', values: ['\\x00ff'] },
  { type: 'uuid', values: ['00000000-0000-4000-8000-0000000000ff'] },
  { type: 'date', values: ['0044-03-15 BC', 'infinity', '2026-11-21'] },
  { type: 'time', values: ['24:00', '12:34:56.789012'] },
  { type: 'timetz', values: ['12:34:56.789012+05:30'] },
  { type: 'timestamp', values: ['1899-12-31 23:59:59.999999', '-infinity'] },
  { type: 'timestamptz', values: ['1899-12-31 23:59:59.999999+00', 'infinity'] },
  { type: 'interval', values: ['1 mon', '30 days', '-1 year 2 mons 3 days 04:05:06.7'] },
  { type: 'json', values: ['{"b": 1.0, "a": null}'] },
  { type: 'jsonb', values: ['{"bb": 1.00, "a": [null, "x"]}'] },
  { type: 'jsonpath', values: ['$.a[*] ? (@ > 1)'] },
  { type: 'inet', values: ['10.0.0.1/24', '::1'] },
  { type: 'cidr', values: ['10.0.0.0/8'] },
  { type: 'macaddr', values: ['08:00:2b:01:02:03'] },
  { type: 'macaddr8', values: ['08:00:2b:01:02:03:04:05'] },
  { type: 'bit', values: ['1'] },
  { type: 'varbit', values: ['10101', ''] },
  { type: 'point', values: ['(1.5,-0)'] },
  { type: 'lseg', values: ['[(0,0),(1,2)]'] },
  { type: 'box', values: ['(1,2),(0,0)'] },
  { type: 'path', values: ['[(0,0),(1,1)]'] },
  { type: 'polygon', values: ['((0,0),(1,1),(1,0))'] },
  { type: 'circle', values: ['<(1,2),3>'] },
  { type: 'line', values: ['{1,-1,0}'] },
  { type: 'tsvector', values: ["'a':1A 'b':2"] },
  { type: 'tsquery', values: ["'a' & !'b'"] },
  { type: 'pg_lsn', values: ['1/2F'] },
  { type: 'int4range', values: ['[1,5)', 'empty'] },
  { type: 'int8range', values: ['(,5)'] },
  { type: 'numrange', values: ['[1.0,2.00]'] },
  { type: 'daterange', values: ['[2026-01-01,)'] },
  { type: 'tsrange', values: ['[2026-01-01,2026-01-02)'] },
  { type: 'tstzrange', values: ['[2026-01-01 00:00+00,)'] },
  { type: 'int4multirange', values: ['{[1,3),[5,7)}'], from: 140000 },
  { type: 'int8multirange', values: ['{[1,3)}'], from: 140000 },
  { type: 'nummultirange', values: ['{[1.0,2)}'], from: 140000 },
  { type: 'datemultirange', values: ['{[2026-01-01,)}'], from: 140000 },
  { type: 'tsmultirange', values: ['{[2026-01-01,)}'], from: 140000 },
  { type: 'tstzmultirange', values: ['{[2026-01-01 00:00+00,)}'], from: 140000 },
];

/** From here on numbers of types are each server's own. */
const FIRST_UNSTABLE_OID = 10_000;

interface Printed extends Record<string, unknown> {
  readonly oid: number;
  readonly bytes: string;
}

function printSql(version: number): string {
  const rows = SAMPLES.filter(({ from = 0 }) => version >= from).flatMap(({ type, values }) => {
    const typed = values.map((value) => `${literal(value)}::${type}`);
    const array = `ARRAY[${typed.join(', ')}, NULL]`;
    return [typed.join(', '), array].map(
      (list, index) =>
        `SELECT pg_typeof(${index === 0 ? typed[0] : array})::oid::int8 AS oid, encode(record_send(ROW(${list})), 'hex') AS bytes`,
    );
  });
  return `SELECT u.oid::float8 AS oid, u.bytes FROM (${rows.join(' UNION ALL ')}) AS u`;
}

const print = async (session: Session, version: number): Promise<Map<number, string>> =>
  new Map((await session.rows<Printed>(printSql(version))).map(({ oid, bytes }) => [oid, bytes]));

/** hash_record_extended came with 14. */
const hashOf = async (session: Session): Promise<string | null> => {
  if (session.serverVersion < 140000) return null;
  const row = await session.one<{ hash: string }>(
    `SELECT hash_record_extended(ROW(record_send(ROW(1, 'é'::text, NULL::int, repeat('x', 5000)))), 0)::text AS hash`,
  );
  return row?.hash ?? null;
};

/** Asks both sides. Nothing is assumed of a type that was not asked about. */
export async function selfTest({ source, target }: SessionPair): Promise<SelfTest> {
  const version = Math.min(source.serverVersion, target.serverVersion);
  const [here, there] = await Promise.all([print(source, version), print(target, version)]);
  const [hashHere, hashThere] = await Promise.all([hashOf(source), hashOf(target)]);
  const byBytes = [...here].filter(([oid, bytes]) => oid < FIRST_UNSTABLE_OID && there.get(oid) === bytes);
  return {
    method: hashHere !== null && hashHere === hashThere ? 'hash' : 'md5',
    byBytes: new Set(byBytes.map(([oid]) => oid)),
  };
}
