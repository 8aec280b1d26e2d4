/**
 * Messages of pgoutput (protocol 1: whole transactions, in commit order) as values. Keeps true: a value is the text that the source printed, null is
 * NULL, and a TOAST value that was not sent because it did not change is told apart from both. Pure; what it was given is copied, never kept.
 */
import { Problem } from '../../plan/model/errors';

/** A TOAST value that the source did not send: it is as it was. */
export const UNCHANGED: unique symbol = Symbol('unchanged');
export type Value = string | null | typeof UNCHANGED;
export type Tuple = readonly Value[];

export interface WireColumn {
  readonly name: string;
  /** Belongs to the replica identity. */
  readonly key: boolean;
  readonly typeOid: number;
}

/** As the source described it last; a new description is a new object. */
export interface WireRelation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** d = primary key, n = nothing, f = whole row, i = an index. */
  readonly identity: string;
  readonly columns: readonly WireColumn[];
}

export type Message =
  | { readonly kind: 'begin'; readonly commitLsn: bigint; readonly at: number; readonly xid: number }
  | { readonly kind: 'commit'; readonly commitLsn: bigint; readonly endLsn: bigint }
  | { readonly kind: 'insert'; readonly relation: WireRelation; readonly row: Tuple }
  | { readonly kind: 'update'; readonly relation: WireRelation; readonly old: Tuple | null; readonly row: Tuple }
  | { readonly kind: 'delete'; readonly relation: WireRelation; readonly old: Tuple }
  | { readonly kind: 'truncate'; readonly relations: readonly WireRelation[]; readonly restart: boolean }
  | { readonly kind: 'other' };

const OTHER: Message = { kind: 'other' };
/** Microseconds between Unix' epoch and Postgres'. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

export const timeOf = (micros: bigint): number => POSTGRES_EPOCH_MS + Number(micros / 1_000n);

class Reader {
  constructor(
    private readonly bytes: Buffer,
    private at: number,
  ) {}

  byte(): number {
    return this.bytes.readUInt8(this.at++);
  }

  int16(): number {
    this.at += 2;
    return this.bytes.readInt16BE(this.at - 2);
  }

  uint32(): number {
    this.at += 4;
    return this.bytes.readUInt32BE(this.at - 4);
  }

  int64(): bigint {
    this.at += 8;
    return this.bytes.readBigUInt64BE(this.at - 8);
  }

  text(): string {
    const end = this.bytes.indexOf(0, this.at);
    const text = this.bytes.toString('utf8', this.at, end);
    this.at = end + 1;
    return text;
  }

  skip(bytes: number): void {
    this.at += bytes;
  }

  tuple(): Value[] {
    const count = this.int16();
    const values = new Array<Value>(count);
    for (let i = 0; i < count; i += 1) values[i] = this.value();
    return values;
  }

  private value(): Value {
    const kind = this.byte();
    if (kind === 0x6e) return null; // n
    if (kind === 0x75) return UNCHANGED; // u
    const length = this.uint32();
    this.at += length;
    if (kind !== 0x74) throw new Problem('Bug', 'a value came in a form that was not asked for');
    return this.bytes.toString('utf8', this.at - length, this.at);
  }
}

/** Remembers what relations look like, as the protocol wants it: one for each connection. */
export class Decoder {
  private readonly relations = new Map<number, WireRelation>();

  /** `from`: where the message begins in `bytes`. Throws Problem Bug for what protocol 1 does not have. */
  decode(bytes: Buffer, from: number): Message {
    const reader = new Reader(bytes, from);
    switch (reader.byte()) {
      case 0x42: // B
        return { kind: 'begin', commitLsn: reader.int64(), at: timeOf(reader.int64()), xid: reader.uint32() };
      case 0x43: // C
        reader.skip(1);
        return { kind: 'commit', commitLsn: reader.int64(), endLsn: reader.int64() };
      case 0x52: // R
        this.relation(reader);
        return OTHER;
      case 0x49: {
        // I
        const relation = this.known(reader.uint32());
        reader.skip(1);
        return { kind: 'insert', relation, row: reader.tuple() };
      }
      case 0x55:
        return this.update(reader); // U
      case 0x44: {
        // D
        const relation = this.known(reader.uint32());
        reader.skip(1);
        return { kind: 'delete', relation, old: reader.tuple() };
      }
      case 0x54: {
        // T
        const count = reader.uint32();
        const restart = (reader.byte() & 2) !== 0;
        const relations = Array.from({ length: count }, () => this.known(reader.uint32()));
        return { kind: 'truncate', relations, restart };
      }
      // Y, O, M: types by name, where a change came from, messages of applications.
      case 0x59:
      case 0x4f:
      case 0x4d:
        return OTHER;
      default:
        throw new Problem('Bug', 'the source sent a message that was not asked for');
    }
  }

  private update(reader: Reader): Message {
    const relation = this.known(reader.uint32());
    let kind = reader.byte();
    let old: Tuple | null = null;
    // K = the key as it was, O = the whole row as it was.
    if (kind === 0x4b || kind === 0x4f) {
      old = reader.tuple();
      kind = reader.byte();
    }
    return { kind: 'update', relation, old, row: reader.tuple() };
  }

  private relation(reader: Reader): void {
    const oid = reader.uint32();
    const schema = reader.text();
    const name = reader.text();
    const identity = String.fromCharCode(reader.byte());
    const columns = Array.from({ length: reader.int16() }, (): WireColumn => {
      const key = (reader.byte() & 1) !== 0;
      const column = { name: reader.text(), key, typeOid: reader.uint32() };
      reader.skip(4);
      return column;
    });
    // An empty name stands for pg_catalog.
    this.relations.set(oid, { oid, schema: schema === '' ? 'pg_catalog' : schema, name, identity, columns });
  }

  private known(oid: number): WireRelation {
    const relation = this.relations.get(oid);
    if (!relation) throw new Problem('Bug', 'the source sent rows of a table that it did not describe');
    return relation;
  }
}
