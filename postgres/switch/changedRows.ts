/**
 * What changed on a side since its rows were compared: read key by key from a slot of its own (made before the first row was compared), and compared
 * again. Keeps true: the slot never moves past a change whose row was not seen equal since, so whoever opens it next, after any crash, begins there;
 * whole transactions only, and memory stays small however large they are.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import type { Message, Tuple, WireRelation } from '../stream/decode';
import { UNCHANGED } from '../stream/decode';
import { lsnOf } from '../stream/lsn';
import type { Wire } from '../stream/wire';
import { openWire } from '../stream/wire';
import type { Target } from '../types';
import { findBarrier, positionOf } from '../verify/barrier';
import type { KeyValues } from '../verify/lookup';
import { keyId } from '../verify/lookup';
import type { Pair } from '../verify/pairs';
import type { SessionPair } from '../verify/session';
import { settle } from '../verify/settle';

export interface ChangedOptions {
  /** The side that takes the writes. */
  readonly source: Target;
  /** Stay the caller's. */
  readonly sessions: SessionPair;
  readonly pairs: readonly Pair[];
  readonly slot: string;
  readonly publication: string;
  /** Labels of tables of which keys do not tell everything (they were truncated), and where they are kept when there are more. */
  readonly unkeyed: readonly string[];
  readonly keepUnkeyed: (labels: readonly string[]) => Promise<void>;
}

export interface Turn {
  /** Rows that were compared. */
  readonly rows: number;
  /** Tables with rows that differ. */
  readonly different: readonly string[];
  /** Rows that were never seen alike, nor apart for good; they stay for the next turn. */
  readonly unsettled: number;
}

interface Keyed {
  readonly pair: Pair;
  /** Places of the key's columns in a row as it comes. */
  readonly at: readonly number[];
  /** Does a row as it was hold its whole key? */
  readonly inOld: boolean;
}

/** So many keys wait at most: then nothing is read until they are compared. */
const WAITING = 20_000;
/** Compared by one statement. */
const AT_ONCE = 2_000;
const LOOK_MS = 5;

export class ChangedRows {
  readonly #pending = new Map<string, Map<string, KeyValues>>();
  readonly #unkeyed: Set<string>;
  readonly #tables = new WeakMap<WireRelation, Keyed | null>();
  #waiting = 0;
  #rows = 0;
  /** Nothing that was committed before it is still to come. */
  #upTo = 0n;
  #inside = false;
  #wire: Wire | null = null;
  #broken: unknown = null;

  private constructor(
    readonly options: ChangedOptions,
    private readonly byName: ReadonlyMap<string, Pair>,
  ) {
    this.#unkeyed = new Set(options.unkeyed);
  }

  /** Begins where the slot is. Throws SlotLost, ServerRestarting (somebody else reads it), and what a connection throws. */
  static async open(options: ChangedOptions): Promise<ChangedRows> {
    const made = new ChangedRows(options, await pairsByName(options));
    const wire = await openWire(
      options.source,
      {
        slot: options.slot,
        publication: options.publication,
        from: 0n,
        name: 'pgshift/changed',
        onMessage: (message) => made.#note(message),
        onIdle: (walEnd) => {
          if (!made.#inside && walEnd > made.#upTo) made.#upTo = walEnd;
        },
      },
      () => undefined,
    );
    made.#wire = wire;
    wire.broken.catch((error: unknown) => (made.#broken = error));
    return made;
  }

  /** Rows compared so far. */
  get rows(): number {
    return this.#rows;
  }

  /** Are this table's changes known by their keys, all of them? */
  covers(pair: Pair): boolean {
    return isKeyed(pair) && !this.#unkeyed.has(pair.label);
  }

  #note(message: Message): void {
    switch (message.kind) {
      case 'begin':
        this.#inside = true;
        return;
      case 'commit':
        this.#inside = false;
        this.#upTo = message.endLsn;
        return;
      case 'insert':
        return this.#add(message.relation, message.row, false);
      case 'update':
        if (message.old) this.#add(message.relation, message.old, true);
        return this.#add(message.relation, message.row, false);
      case 'delete':
        return this.#add(message.relation, message.old, true);
      case 'truncate':
        for (const relation of message.relations) this.#leave(this.#keyed(relation));
        return;
      case 'other':
    }
  }

  #keyed(relation: WireRelation): Keyed | null {
    const known = this.#tables.get(relation);
    if (known !== undefined) return known;
    const pair = this.byName.get(nameOf(relation));
    const made = pair ? keyedOf(pair, relation) : null;
    this.#tables.set(relation, made);
    return made;
  }

  #add(relation: WireRelation, row: Tuple, old: boolean): void {
    const keyed = this.#keyed(relation);
    if (keyed === null) return;
    const values = keyed.at.map((place) => row[place]);
    if ((old && !keyed.inOld) || values.some((value) => value === undefined || value === UNCHANGED))
      return this.#leave(keyed);
    this.#put(keyed.pair.label, values as (string | null)[]);
    if (this.#waiting >= WAITING) this.#wire?.pause();
  }

  #leave(keyed: Keyed | null): void {
    if (keyed) this.#unkeyed.add(keyed.pair.label);
  }

  #put(label: string, key: KeyValues): void {
    const keys = this.#pending.get(label) ?? new Map<string, KeyValues>();
    this.#pending.set(label, keys);
    const id = keyId(key);
    if (!keys.has(id)) this.#waiting += 1;
    keys.set(id, key);
  }

  /** Compares what has come so far; when all of it is equal the slot moves on. `live`: both sides may change meanwhile. */
  async turn(live: boolean, signal: AbortSignal): Promise<Turn> {
    if (this.#broken !== null) throw this.#broken;
    const taken = [...this.#pending];
    const upTo = this.#upTo;
    const rows = this.#waiting;
    this.#pending.clear();
    this.#waiting = 0;
    this.#wire?.resume();
    const different = new Set<string>();
    let open = 0;
    const { sessions } = this.options;
    const barrier = live && rows > 0 ? await findBarrier(sessions) : null;
    for (const [label, keys] of taken) {
      const pair = this.options.pairs.find((one) => one.label === label);
      if (!pair) continue;
      const all = [...keys.values()];
      for (let from = 0; from < all.length; from += AT_ONCE) {
        const some = all.slice(from, from + AT_ONCE);
        const found = await settle({ sessions, pair, keys: some, signal, live, barrier });
        for (const key of [...found.different, ...found.unsettled]) this.#put(label, key);
        if (found.different.length > 0) different.add(label);
        open += found.unsettled.length;
      }
    }
    this.#rows += rows;
    if (different.size === 0 && open === 0) await this.#confirm(upTo);
    return { rows, different: [...different], unsettled: open };
  }

  /** First what its keys do not tell, then the position that passes over it. */
  async #confirm(upTo: bigint): Promise<void> {
    const labels = [...this.#unkeyed].sort();
    if (labels.some((label) => !this.options.unkeyed.includes(label))) await this.options.keepUnkeyed(labels);
    this.#wire?.confirm(upTo);
  }

  /** Until everything up to `lsn` has come; on the way turns are taken where too much waits. Throws SwitchOverran after `leftMs`. */
  async reach(lsn: string, leftMs: number, live: boolean, signal: AbortSignal): Promise<readonly string[]> {
    const wanted = lsnOf(lsn);
    const until = performance.now() + leftMs;
    const different = new Set<string>();
    while (this.#inside || this.#upTo < wanted) {
      if (this.#broken !== null) throw this.#broken;
      if (performance.now() >= until)
        throw new Problem('SwitchOverran', 'what changed since every row was compared had not come in time', {
          details: { wanted: lsn, rows: this.#rows + this.#waiting },
        });
      if (this.#waiting >= WAITING) for (const label of (await this.turn(live, signal)).different) different.add(label);
      this.#wire?.ask();
      await sleep(LOOK_MS, undefined, { signal });
    }
    for (const label of (await this.turn(live, signal)).different) different.add(label);
    return [...different];
  }

  /** While clients work: everything up to now is read and compared. Throws SwitchOverran, ProofFailed. */
  async catchUp(leftMs: number, signal: AbortSignal): Promise<void> {
    refuseDifferent(await this.reach(await positionOf(this.options.sessions.source), leftMs, true, signal));
  }

  /** Nobody writes any more: everything up to the fence. Throws SwitchOverran, ProofFailed. Answers the rows that were compared here. */
  async finish(lsn: string, leftMs: number, signal: AbortSignal): Promise<number> {
    const before = this.#rows;
    refuseDifferent(await this.reach(lsn, leftMs, false, signal));
    return this.#rows - before;
  }

  async close(): Promise<void> {
    await this.#wire?.close();
  }
}

function refuseDifferent(labels: readonly string[]): void {
  if (labels.length === 0) return;
  const named = labels.slice(0, 5).join(', ');
  throw new Problem('ProofFailed', `rows that changed since every row was compared differ: ${named}`, {
    hint: 'pgshift verify shows the rows that differ',
    details: { tables: labels.slice(0, 30) },
  });
}

const nameOf = (relation: { readonly schema: string; readonly name: string }): string => shownRelation(relation);

const isKeyed = ({ key }: Pair): boolean => key?.columns.every(({ from }) => from !== null) === true;

function keyedOf(pair: Pair, relation: WireRelation): Keyed | null {
  if (pair.key === null || !isKeyed(pair)) return null;
  const at = pair.key.columns.map(({ from }) => relation.columns.findIndex(({ name }) => name === from?.name));
  const inOld = relation.identity === 'f' || at.every((place) => relation.columns[place]?.key === true);
  return { pair, at, inOld };
}

/** Rows of a partition come under its own name, and are compared as rows of the whole. */
async function pairsByName({ sessions, pairs }: ChangedOptions): Promise<ReadonlyMap<string, Pair>> {
  const byLabel = new Map(pairs.map((pair) => [pair.label, pair]));
  const rows = await sessions.source.rows<{ schema: string; name: string; rootSchema: string; root: string }>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name, rn.nspname::text AS "rootSchema", r.relname::text AS root
       FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
       JOIN pg_catalog.pg_class AS r ON r.oid = pg_catalog.pg_partition_root(c.oid)
       JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.relnamespace
      WHERE c.relispartition AND c.relkind = 'r'`,
  );
  const leaves = rows.flatMap(({ schema, name, rootSchema, root }) => {
    const pair = byLabel.get(shownRelation({ schema: rootSchema, name: root }));
    return pair ? [[shownRelation({ schema, name }), pair] as const] : [];
  });
  return new Map([...byLabel, ...leaves]);
}
