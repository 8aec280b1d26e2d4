/** What a run of `blueGreen` knows beyond what every run knows: plain JSON, carried through continue-as-new. Counts, positions and names; no rows. */
import type { PairControl } from './blueGreen';
import type { BlueGreenPhase } from './steps';
import type { Side } from './traffic';

/** One part of the road as it was done, for pgshift.steps and the report. */
export interface PartDone {
  readonly id: string;
  readonly phase: BlueGreenPhase;
  readonly status: 'done' | 'undone' | 'failed';
  readonly startedAt: string;
  readonly endedAt: string;
  readonly attempts: number;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** switch = the one that stays; drill = there and back before it; back = the way back after it. */
export type SwitchPurpose = 'switch' | 'drill' | 'back';

/** What one switch measured. */
export interface SwitchMeasured {
  readonly purpose: SwitchPurpose;
  /** forward = from blue to green. */
  readonly direction: 'forward' | 'reverse';
  /** From the first client blocked to the first client served; of one that was undone: until they were served again. */
  readonly pausedMs: number;
  readonly fenceLsn: string | null;
  readonly appliedLsn: string | null;
  /** Transactions of clients that the fence had to end. null = not known, the worker died in the middle. */
  readonly clientErrors: number | null;
  readonly at: string;
  readonly attempts: number;
  readonly outcome: 'switched' | 'undone';
  /** Why it was undone. */
  readonly because: string | null;
}

export interface PairState {
  control: PairControl;
  /** As the guard rows said last. */
  writable: Side | 'none' | null;
  /** The direction that replicates; null = none does. */
  direction: 'forward' | 'reverse' | null;
  tables: number;
  /** Snapshot from which green's schema was read; those after it belong to slots. */
  schemaEpoch: number;
  /** Switches so far, undone ones too: part of every idempotency key. */
  tries: number;
  switches: SwitchMeasured[];
  /** What a person sees at a gate. */
  evidence: Record<string, unknown>;
  /** When the hold began; null = not yet. */
  heldSince: string | null;
  /** What is wrong with the replication that runs; empty = nothing. */
  trouble: readonly string[];
  /** As the watch said last. */
  lag: { readonly bytes: number | null; readonly ms: number | null };
  /** Why there is no way back any more; null = there is. */
  noWayBack: string | null;
  /** Done, and written down together with what is done next. */
  unrecorded?: readonly PartDone[];
  /** For how long nobody was seen on blue, where a history ended in the middle of looking. */
  quiet?: { readonly forMs: number; readonly sessions: number } | null;
}

export const newPairState = (control: PairControl): PairState => ({
  control,
  writable: 'blue',
  direction: null,
  tables: 0,
  schemaEpoch: 0,
  tries: 0,
  switches: [],
  evidence: {},
  heldSince: null,
  trouble: [],
  lag: { bytes: null, ms: null },
  noWayBack: null,
});

/** The switch that the report shows: the last one that came to its end. */
export const lastSwitch = (pair: PairState): SwitchMeasured | null =>
  [...pair.switches].reverse().find(({ outcome }) => outcome === 'switched') ?? null;
