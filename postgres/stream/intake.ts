/**
 * What has come over the wire and is not applied yet. Keeps true: whole transactions are handed out in their order; a transaction that is larger than
 * half of the buffer is handed out in pieces; what waits here never grows beyond the buffer but by what the socket had read already.
 */
import type { Message } from './decode';
import type { Change, Tx } from './types';

export interface Batch {
  readonly changes: readonly Change[];
  /** Position behind the last whole transaction; null = this is a piece in the middle of one. */
  readonly upTo: bigint | null;
  readonly transactions: number;
  /** Epoch ms of the last commit in it, by the source's clock. */
  readonly at: number | null;
  /** Of captured changes: the snapshot behind the last of them. */
  readonly xids?: string;
}

/** What an object costs beside its text. */
const CHANGE_COST = 200;

export class Intake {
  private changes: Change[] = [];
  /** So many of `changes` belong to whole transactions, when `boundary` says that there is one. */
  private whole = 0;
  private boundary = false;
  private bytes = 0;
  private wholeBytes = 0;
  private upTo: bigint | null = null;
  private transactions = 0;
  private at: number | null = null;
  private tx: Tx | null = null;
  /** Pieces of the transaction that is coming in were handed out. */
  private begun = false;
  private inFlight = 0;
  private idle = 0n;
  private since: number | null = null;
  private waiter: (() => void) | null = null;
  /** Somebody waits for the end: nothing is collected. */
  urgent = false;

  constructor(
    private readonly bufferBytes: number,
    private readonly line: () => { pause(): void; resume(): void } | null,
  ) {}

  add(message: Message, bytes: number): void {
    switch (message.kind) {
      case 'begin':
        this.tx = { commitLsn: message.commitLsn, at: message.at };
        return;
      case 'commit':
        this.commit(message.endLsn);
        return;
      case 'other':
        return;
      default:
        if (this.tx === null) return;
        this.changes.push({ message, tx: this.tx });
        this.bytes += bytes + CHANGE_COST;
        this.since ??= performance.now();
        if (this.isFull()) this.wake();
        if (this.bytes + this.inFlight >= this.bufferBytes) this.line()?.pause();
    }
  }

  private commit(endLsn: bigint): void {
    this.at = this.tx?.at ?? this.at;
    this.tx = null;
    if (this.changes.length === 0 && !this.begun) return this.quiet(endLsn);
    this.boundary = true;
    this.whole = this.changes.length;
    this.wholeBytes = this.bytes;
    this.upTo = endLsn;
    this.transactions += 1;
    if (this.urgent || this.begun || this.isFull()) this.wake();
  }

  /** Nothing is to come before `walEnd`; counts only when nothing waits here. */
  quiet(walEnd: bigint): void {
    if (!this.isEmpty() || walEnd <= this.idle) return;
    this.idle = walEnd;
    this.wake();
  }

  private isEmpty = (): boolean => this.tx === null && this.changes.length === 0 && !this.boundary && !this.begun;
  private isFull = (): boolean => this.bytes >= this.bufferBytes / 2;

  /** Is it time to hand out? `flushMs`: the oldest change waits no longer than that. */
  isDue(flushMs: number): boolean {
    if (this.isFull() || (this.boundary && (this.begun || this.urgent))) return true;
    return this.boundary && this.since !== null && performance.now() - this.since >= flushMs;
  }

  /** Milliseconds until it will be time; null = nothing waits. */
  dueInMs(flushMs: number): number | null {
    return this.since === null ? null : Math.max(1, flushMs - (performance.now() - this.since));
  }

  /** When nothing waits: everything before it is handed out. */
  idleAt = (): bigint | null => (this.isEmpty() ? this.idle : null);

  /** Whole transactions, as many as there are; a piece of one only when it alone fills the buffer's half. */
  take(): Batch {
    if (!this.boundary) {
      const piece: Batch = { changes: this.changes, upTo: null, transactions: 0, at: null };
      this.keep([], this.bytes);
      this.begun = true;
      return piece;
    }
    const rest = this.changes.slice(this.whole);
    const batch: Batch = {
      changes: rest.length === 0 ? this.changes : this.changes.slice(0, this.whole),
      upTo: this.upTo,
      transactions: this.transactions,
      at: this.at,
    };
    this.keep(rest, this.wholeBytes);
    this.boundary = false;
    this.begun = false;
    this.whole = 0;
    this.wholeBytes = 0;
    this.transactions = 0;
    return batch;
  }

  private keep(rest: Change[], handedOut: number): void {
    this.changes = rest;
    this.bytes -= handedOut;
    this.inFlight += handedOut;
    this.since = rest.length === 0 ? null : performance.now();
  }

  /** What was handed out is applied. */
  applied(): void {
    this.inFlight = 0;
    if (this.bytes < this.bufferBytes / 2) this.line()?.resume();
  }

  wake(): void {
    this.waiter?.();
    this.waiter = null;
  }

  /** Until something may be done, or the time is over. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.wake(), Math.max(1, ms));
      this.waiter = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
