/** What activities of two databases that are switched are asked and answer. Types alone, as in types.ts. */
import type { PairControl } from '../plan/model/blueGreen';
import type { CanaryControl } from '../plan/model/canary';
import type { CopyControl } from '../plan/model/dataMigration';
import type { PartDone, SwitchPurpose } from '../plan/model/pairState';
import type { Side } from '../plan/model/traffic';
import type { StepOptionsText } from '../plan/model/options';
import type { Opened, Subject } from './types';
import type { CopyArgs } from './dataTypes';

export interface PairArgs extends Subject {
  readonly pair: PairControl;
  readonly options: StepOptionsText;
}

export interface PairOpened extends Opened {
  readonly pair: PairControl;
  readonly copy: CopyControl;
  readonly canary?: CanaryControl;
}

export interface PairFacts {
  readonly checksum: string;
  readonly serverVersions: Readonly<Record<Side, number>>;
  readonly tables: number;
  readonly guardrails: { readonly passed: number; readonly warnings: readonly string[] };
  readonly traffic: readonly string[];
}

/** Both what a copy and what a pair needs. */
export interface OpenSyncArgs extends CopyArgs, PairArgs {
  /** The epoch from which the schema was read; those after it belong to slots. */
  readonly schemaEpoch: number;
}

export interface CaughtUp {
  readonly lagBytes: number;
  readonly lagMs: number | null;
  readonly ms: number;
}

export interface WatchPairArgs extends PairArgs {
  readonly direction: 'forward' | 'reverse';
  readonly step: string;
  /** What is wrong already. */
  readonly known: readonly string[];
  readonly maxMs: number;
}

export interface PairWatched {
  readonly problems: readonly string[];
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  /** The slot is gone, or has lost WAL: what it carried cannot be made up. */
  readonly lost: boolean;
}

export interface VerifyPairArgs extends PairArgs {
  /** The side that takes the writes. */
  readonly from: Side;
  readonly what: 'verify' | 'performance';
  /** Counts verifications of one run: each is a new one. */
  readonly number: number;
}

export interface PairVerified {
  readonly passed: boolean;
  readonly tables: number;
  readonly rows: number;
  readonly differing: number;
  readonly seconds: number;
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

export interface SwitchArgs extends PairArgs {
  readonly from: Side;
  readonly purpose: SwitchPurpose;
  /** Counts every try of the run. */
  readonly number: number;
  /** Of the parts' ids in the record: empty for the switch that stays. */
  readonly prefix: string;
}

export interface SwitchReady {
  readonly guardrails: PairFacts['guardrails'];
  readonly traffic: readonly string[];
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  /** Rows that changed since every row was compared, and were compared again; null = they are not known one by one. */
  readonly compared: number | null;
  /** Tables whose wall has to go up inside the pause. */
  readonly unwalled: number;
}

export interface SwitchOutcome {
  readonly outcome: 'switched' | 'undone';
  readonly pausedMs: number;
  readonly fenceLsn: string | null;
  readonly appliedLsn: string | null;
  readonly clientErrors: number | null;
  readonly because: string | null;
  readonly code?: string;
  readonly parts: readonly PartDone[];
}

export interface AfterSwitchArgs extends PairArgs {
  /** false = it was undone. */
  readonly switched: boolean;
}

export interface SetShareArgs extends PairArgs {
  /** null = everybody is where the writes are. */
  readonly share: {
    readonly salt: string;
    readonly percent: number;
    readonly keys: readonly string[];
    readonly moves: CanaryControl['moves'];
  } | null;
  /** Counts the changes of one run. */
  readonly number: number;
  readonly stage: string;
}

/** Routers that live, and those of them that have heard. */
export interface ShareSet {
  readonly alive: number;
  readonly heard: number;
}

export interface KeepReadsArgs extends PairArgs {
  readonly maxReadLagMs: number;
  /** What is known already. */
  readonly known: boolean;
  readonly maxMs: number;
}

export interface ReadsKept {
  /** Green is near enough to be read. */
  readonly fresh: boolean;
  readonly lagMs: number | null;
}

export interface PairTakenBack {
  /** What is still there, for people; empty = nothing. */
  readonly left: readonly string[];
}

export interface WatchUnusedArgs extends PairArgs {
  /** Blue must be quiet for so long. */
  readonly quietMs: number;
  /** Sessions that come and go between two looks count, too: when nothing of ours connects there any more. */
  readonly counted: boolean;
  /** Those who were told of already: that they come and go is no news. */
  readonly known: readonly string[];
  /** What the look before this one ended with. */
  readonly quiet: Quiet | null;
  readonly maxMs: number;
}

export interface Quiet {
  readonly forMs: number;
  /** As the server has counted them. */
  readonly sessions: number;
}

export interface UnusedWatched {
  /** Nobody was there for the whole time. */
  readonly unused: boolean;
  readonly quiet: Quiet;
  /** Who uses it, for people: roles and applications, no queries. null = nobody now. */
  readonly usedBy: string | null;
  readonly who: readonly string[];
}

export interface Decommissioned {
  /** What became of blue. */
  readonly blue: string;
}
