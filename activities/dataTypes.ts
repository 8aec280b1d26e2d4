/** What activities of data migrations are asked and answer: copies, streams and increments. Types alone, as in types.ts. */
import type { CopyControl } from '../plan/model/dataMigration';
import type { Piece } from '../plan/model/state';
import type { StepOptionsText } from '../plan/model/options';
import type { ShownTablesPlan } from '../plan/model/tablesPlan';
import type { VerifiedTable } from '../plan/model/validation';
import type { Opened, Subject } from './types';

// What the copy itself answers: one shape, for whoever makes it and whoever hears of it.
export type { ComparedTable, Verified as CopyVerified } from '../postgres/copy/verifyTables';
export type { BatchDone as PieceDone } from '../postgres/copy/run';
import type { Alert as CopyAlert } from '../postgres/map/alerts';

export type { CopyAlert };

export interface DataOpened extends Opened {
  readonly copy: CopyControl;
}

export interface DataFacts {
  readonly checksum: string;
  readonly serverVersion: number;
  readonly tables: number;
  /** Of a dry run alone. */
  readonly plan?: ShownTablesPlan;
}

export interface CopyArgs extends Subject {
  readonly copy: CopyControl;
  readonly options: StepOptionsText;
}

export interface PieceArgs extends CopyArgs {
  readonly from: number;
  readonly to: number;
}

export interface WatchCopyArgs extends CopyArgs {
  readonly epoch: number;
  readonly maxMs: number;
}

export interface CopyWatched {
  readonly lost: boolean;
  /** Every table is copied, or left out by a person. */
  readonly done?: boolean;
  readonly alerts?: readonly CopyAlert[];
}

export interface SettleArgs extends CopyArgs {
  readonly no: number;
  readonly verdict: 'retry' | 'skip';
}

export interface CloseArgs extends CopyArgs {
  /** The copy is complete: what was kept for its way back goes, too. */
  readonly finished?: boolean;
}

export interface SnapshotOpened {
  readonly epoch: number;
  readonly tables: number;
  readonly bytes: number;
  /** What is not done. */
  readonly pieces: readonly Piece[];
}

export interface CopyCounts {
  readonly read: number;
  readonly loaded: number;
  readonly filtered: number;
  readonly sampledOut: number;
  readonly deduplicated: number;
  readonly superseded: number;
  readonly ignored: number;
  readonly bad: number;
}

export interface FollowArgs extends CopyArgs {
  /** Until everything is there that the source had when it was asked. */
  readonly drain: boolean;
  readonly maxMs: number;
}

/** A change that the target refuses, by its transaction's place in the source's log. */
export interface HeldChange {
  readonly table: string;
  readonly code: string;
  readonly message: string;
  readonly lsn: string;
}

export interface FollowDone {
  readonly verdict: 'later' | 'reached' | 'held' | 'ended';
  readonly position: string;
  readonly held: HeldChange | null;
}

export interface StreamVerified {
  readonly tables: number;
  readonly rows: number;
  readonly differing: number;
  /** What is wrong, by table; empty = equal. */
  readonly problems: readonly string[];
  /** Those that differ, then the largest. */
  readonly shown: readonly VerifiedTable[];
  /** What the proof does not cover, in words. */
  readonly warnings?: readonly string[];
}

export interface StreamDone {
  readonly position: string;
  readonly transactions: number;
  readonly changes: number;
  readonly skipped: number;
  readonly sequences: number;
}

export interface PassDone {
  readonly rows: number;
  readonly tables: number;
  /** Tables whose new rows wait for transactions that are open on the source. */
  readonly behind: number;
  /** Rows that were set aside. */
  readonly bad?: number;
}
