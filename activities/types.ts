/**
 * What workflows may ask of activities: names, arguments and answers. Every argument is a reference, a count or an option; the only large one is
 * the plan as it was given. Workflows import this file as types alone.
 */
import type { HealthEvent, ConditionState, Watched } from '../plan/model/health';
import type { AuditEntry } from '../plan/model/inbox';
import type { PairControl } from '../plan/model/blueGreen';
import type { CopyControl } from '../plan/model/dataMigration';
import type { PartDone, SwitchPurpose } from '../plan/model/pairState';
import type { Side } from '../plan/model/traffic';
import type { Control, Piece, PlanFacts, Settings, StepsOutcome } from '../plan/model/state';
import type { StepOptionsText } from '../plan/model/options';
import type { CatalogDiff } from '../plan/model/status';
import type { Hook, SchemaMigrationPlan } from '../plan/model/plan';
import type { RunPhase } from '../plan/model/steps';
import type { ShownTablesPlan } from '../plan/model/tablesPlan';
import type { VerifiedTable, VerifyResult } from '../plan/model/validation';

/** A migration in its database. */
export interface Subject {
  readonly database: string;
  readonly migration: string;
}

export interface Opened {
  readonly control: Control;
  readonly environment: string;
  readonly settings: Settings;
}

export interface RunStepsArgs extends Subject {
  readonly ids: readonly string[];
  readonly options: StepOptionsText;
  /** The application's p95 in ms before the first step. */
  readonly baselineMs: number | null;
}

export interface UndoArgs extends Subject {
  /** In the order in which they are taken back. */
  readonly ids: readonly string[];
  readonly options: StepOptionsText;
}

/** Rows that could not go back, by step; their keys lie in pgshift.differences. */
export interface UndoPreview {
  readonly rows: number;
  readonly steps: readonly { readonly id: string; readonly column: string; readonly rows: number }[];
}

export interface WatchArgs extends Subject {
  readonly purpose: 'health' | 'gate';
  readonly conditions: readonly Watched[];
  readonly states: Readonly<Record<string, ConditionState>>;
  readonly baselines: Readonly<Record<string, number | null>>;
  readonly maxMs: number;
}

export interface WatchResult {
  readonly states: Readonly<Record<string, ConditionState>>;
  readonly events: readonly HealthEvent[];
  /** `tripped` names the condition; `opened` is for gates; `changed` = what is inconclusive changed; `later` = nothing happened. */
  readonly verdict: 'tripped' | 'opened' | 'changed' | 'later';
  readonly name: string | null;
}

export interface HookArgs extends Subject {
  readonly hook: Hook;
  readonly at: string;
  readonly phase: RunPhase;
  readonly idempotencyKey: string;
}

export interface RecordArgs extends Subject {
  readonly audit: readonly AuditEntry[];
}

export interface FinishArgs extends Subject {
  readonly status: 'contracted' | 'completed' | 'failed' | 'rolled_back';
  /** Refuse (Drift) when the catalogue differs by more than was asked. */
  readonly strict: boolean;
  readonly cause: { readonly code: string; readonly message: string } | null;
  /** Whose row is written: this chain's own, or (workflow `rollback`) that of a run which has ended. */
  readonly of: 'own' | 'ended';
}

export interface Finished {
  readonly catalogDiff: CatalogDiff;
  readonly measured: Readonly<Record<string, unknown>>;
}

/** What stands of an ended migration: its steps in their order, as they were done. */
export interface RollbackFacts extends Opened {
  readonly facts: PlanFacts;
}

/** A validation in its target, where its plan and its checkpoints lie. */
export interface ValidationSubject {
  readonly target: string;
  readonly validation: string;
}

export interface ValidationOpened {
  readonly checksum: string;
  readonly repair: boolean;
  readonly environment: string;
  readonly settings: Settings;
}

export interface ValidationFinished {
  /** Null: it was given up. */
  readonly result: VerifyResult | null;
  /** False: what was too large for an answer lies in the target alone. */
  readonly whole: boolean;
}

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

export interface SettleArgs extends CopyArgs {
  readonly no: number;
  readonly verdict: 'retry' | 'skip';
}

export interface CloseArgs extends CopyArgs {
  /** The copy is complete: what was kept for its way back goes, too. */
  readonly finished?: boolean;
}

/** Fewer rows a second, or more bad ones, than people would like. */
export interface CopyAlert {
  readonly kind: 'throughput' | 'errors';
  readonly table: string;
  readonly value: number;
  readonly at: string;
}

export interface SnapshotOpened {
  readonly epoch: number;
  readonly tables: number;
  readonly bytes: number;
  /** What is not done. */
  readonly pieces: readonly Piece[];
}

export interface PieceDone {
  readonly copied: number;
  readonly rows: number;
  readonly bytes: number;
  /** Set aside: the others went on. */
  readonly failed: readonly {
    readonly no: number;
    readonly table: string;
    readonly code: string;
    readonly message: string;
  }[];
  readonly alerts?: readonly CopyAlert[];
}

export interface ComparedTable {
  readonly table: string;
  readonly sourceRows: number | null;
  readonly targetRows: number;
  readonly fingerprintSource: string | null;
  readonly fingerprintTarget: string;
  readonly equal: boolean;
}

export interface CopyVerified {
  readonly tables: number;
  readonly rows: number;
  readonly different: readonly ComparedTable[];
  readonly shown: readonly ComparedTable[];
  /** What the proof does not cover, in words. */
  readonly warnings?: readonly string[];
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

export interface PairArgs extends Subject {
  readonly pair: PairControl;
  readonly options: StepOptionsText;
}

export interface PairOpened extends Opened {
  readonly pair: PairControl;
  readonly copy: CopyControl;
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

export interface PairTakenBack {
  /** What is still there, for people; empty = nothing. */
  readonly left: readonly string[];
}

export interface Decommissioned {
  /** What became of blue. */
  readonly blue: string;
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

export interface Activities {
  /** Reads what the worker's configuration adds to the plan (and the plan itself, when it was started by reference). */
  open(args: { readonly start: unknown }): Promise<Opened>;
  /** Preflight: catalogue, steps, findings, checks, dependencies; then, unless it is a dry run, claims the name and stores the plan. */
  prepare(args: { readonly start: unknown }): Promise<PlanFacts>;
  backup(
    args: Subject & { readonly backup: SchemaMigrationPlan['backup'] },
  ): Promise<{ readonly bytes: number; readonly reference: string }>;
  baseline(
    args: Subject & { readonly conditions: readonly Watched[]; readonly appP95: boolean },
  ): Promise<Record<string, number | null>>;
  runSteps(args: RunStepsArgs): Promise<StepsOutcome>;
  previewUndo(args: UndoArgs): Promise<UndoPreview>;
  undoSteps(args: UndoArgs): Promise<StepsOutcome>;
  watch(args: WatchArgs): Promise<WatchResult>;
  runHook(args: HookArgs): Promise<void>;
  record(args: RecordArgs): Promise<void>;
  finish(args: FinishArgs): Promise<Finished>;
  openData(args: { readonly start: unknown }): Promise<DataOpened>;
  /** Preflight of a data migration; claims the name in the target unless it is a dry run. */
  prepareData(args: { readonly start: unknown }): Promise<DataFacts>;
  openSnapshot(args: CopyArgs): Promise<SnapshotOpened>;
  makeSchema(args: CopyArgs): Promise<{ readonly items: number }>;
  copyTables(args: PieceArgs): Promise<PieceDone>;
  /** Ends hourly, when the snapshot is lost, or when there is something to hear of. */
  watchCopy(args: WatchCopyArgs): Promise<{ readonly lost: boolean; readonly alerts?: readonly CopyAlert[] }>;
  settleTable(args: SettleArgs): Promise<void>;
  buildRest(args: CopyArgs): Promise<{
    readonly items: number;
    readonly sequences: number;
    readonly views: number;
    readonly largeObjects: number;
    /** How the rows of mapped and merged tables add up; left out when there are none. */
    readonly counts?: CopyCounts;
  }>;
  verifyCopy(args: CopyArgs): Promise<CopyVerified>;
  closeSnapshot(args: CloseArgs): Promise<void>;
  takeBackCopy(args: CopyArgs): Promise<void>;
  openBlueGreen(args: { readonly start: unknown }): Promise<PairOpened>;
  /** Guardrails; then, unless it is a dry run, claims the name in both databases and opens the guard rows. */
  prepareBlueGreen(args: PairArgs & { readonly start: unknown }): Promise<PairFacts>;
  noteSchemas(args: PairArgs): Promise<void>;
  wallGreen(args: PairArgs): Promise<{ readonly tables: number }>;
  applyChange(args: PairArgs & { readonly start: unknown }): Promise<{
    readonly addedTables: readonly string[];
    readonly addedColumns: Readonly<Record<string, readonly string[]>>;
    readonly changedTypes: readonly string[];
  }>;
  openSync(args: OpenSyncArgs): Promise<SnapshotOpened>;
  subscribe(args: PairArgs): Promise<CaughtUp>;
  watchPair(args: WatchPairArgs): Promise<PairWatched>;
  verifyPair(args: VerifyPairArgs): Promise<PairVerified>;
  prepareSwitch(args: SwitchArgs): Promise<SwitchReady>;
  /** Pause to resume. Run once: what died or failed half way is settled by `settleSwitch`. */
  switchOver(args: SwitchArgs): Promise<SwitchOutcome>;
  settleSwitch(args: SwitchArgs): Promise<SwitchOutcome>;
  afterSwitch(args: AfterSwitchArgs): Promise<{ readonly wallsLeft: number; readonly writable: Side | 'none' }>;
  recordParts(args: PairArgs & { readonly parts: readonly PartDone[] }): Promise<void>;
  /** Everything that the run made goes; blue must be the side that takes the writes. */
  takeBackPair(args: PairArgs & CopyArgs): Promise<PairTakenBack>;
  /** Of a run that was cancelled before it was sure of its claim. */
  abandonPair(args: PairArgs & CopyArgs): Promise<void>;
  /** The end of the way back: replication from green, walls and guard rows go; the record of green is completed. */
  decommission(args: PairArgs): Promise<Decommissioned>;
  /** Renames or drops blue. The record of the run lies there no more. */
  removeBlue(args: PairArgs): Promise<Decommissioned>;
  /** The run's status in green's own record. */
  finishGreen(args: PairArgs & { readonly status: 'completed' | 'failed' | 'rolled_back' }): Promise<void>;
  /** Of an increment: up to which value each table's rows will be in the copy that comes. */
  observeBounds(args: CopyArgs): Promise<void>;
  incrementPass(args: CopyArgs): Promise<PassDone>;
  /** Applies the source's changes; returns hourly, when it is drained, or when a change is held. */
  followStream(args: FollowArgs): Promise<FollowDone>;
  verifyStream(args: CopyArgs): Promise<StreamVerified>;
  skipChange(args: CopyArgs & { readonly lsn: string }): Promise<void>;
  endStream(args: CopyArgs): Promise<StreamDone>;
  /** Workflow `rollback`: what stands of an ended migration, or NotNow / NoSuchRun. */
  prepareRollback(args: Subject): Promise<RollbackFacts>;
  /** Workflow `validation`: reaches both sides and claims the name in the target. */
  openValidation(args: { readonly start: unknown }): Promise<ValidationOpened>;
  /** One phase, from where its checkpoints stand. */
  verifyPhase(args: ValidationSubject & { readonly phase: 'compare' | 'checks' | 'recheck' | 'repair' }): Promise<void>;
  finishValidation(args: ValidationSubject & { readonly ended: 'result' | 'given-up' }): Promise<ValidationFinished>;
}
