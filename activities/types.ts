/**
 * What workflows may ask of activities: names, arguments and answers. Every argument is a reference, a count or an option; the only large one is
 * the plan as it was given. Workflows import this file as types alone.
 */
import type { ConditionState, HealthEvent, Watched } from '../plan/model/health';
import type { AuditEntry } from '../plan/model/inbox';
import type { PartDone } from '../plan/model/pairState';
import type { Side } from '../plan/model/traffic';
import type { Control, PlanFacts, Settings, StepsOutcome } from '../plan/model/state';
import type { StepOptionsText } from '../plan/model/options';
import type { CatalogDiff } from '../plan/model/status';
import type { Hook, SchemaMigrationPlan } from '../plan/model/plan';
import type { RunPhase } from '../plan/model/steps';
import type { VerifyResult } from '../plan/model/validation';
import type {
  CloseArgs,
  CopyWatched,
  CopyArgs,
  CopyCounts,
  CopyVerified,
  DataFacts,
  DataOpened,
  FollowArgs,
  FollowDone,
  PassDone,
  PieceArgs,
  PieceDone,
  SettleArgs,
  SnapshotOpened,
  StreamDone,
  StreamVerified,
  WatchCopyArgs,
} from './dataTypes';
import type {
  AfterSwitchArgs,
  CaughtUp,
  Decommissioned,
  KeepReadsArgs,
  OpenSyncArgs,
  PairArgs,
  PairFacts,
  PairOpened,
  PairTakenBack,
  PairVerified,
  PairWatched,
  ReadsKept,
  SetShareArgs,
  ShareSet,
  SwitchArgs,
  SwitchOutcome,
  SwitchReady,
  UnusedWatched,
  VerifyPairArgs,
  WatchPairArgs,
  WatchUnusedArgs,
} from './pairTypes';

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

export interface WatchArgs extends Subject, PairPlaces {
  readonly purpose: 'health' | 'gate';
  readonly conditions: readonly Watched[];
  readonly states: Readonly<Record<string, ConditionState>>;
  readonly baselines: Readonly<Record<string, number | null>>;
  readonly maxMs: number;
}

export type PairSides = { readonly [side in Side]: string };

/** What a route calls the two sides. */
export interface WatchedRoute {
  readonly route: string;
  readonly sides: PairSides;
}

/** Of a pair: where `blue` and `green` of a condition are read. */
export interface PairPlaces {
  /** Connections. */
  readonly sides?: PairSides;
  readonly routes?: readonly WatchedRoute[];
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

export type * from './dataTypes';
export type * from './pairTypes';

export interface Activities {
  /** Reads what the worker's configuration adds to the plan (and the plan itself, when it was started by reference). */
  open(args: { readonly start: unknown }): Promise<Opened>;
  /** Preflight: catalogue, steps, findings, checks, dependencies; then, unless it is a dry run, claims the name and stores the plan. */
  prepare(args: { readonly start: unknown }): Promise<PlanFacts>;
  backup(
    args: Subject & { readonly backup: SchemaMigrationPlan['backup'] },
  ): Promise<{ readonly bytes: number; readonly reference: string }>;
  baseline(
    args: Subject & { readonly conditions: readonly Watched[]; readonly appP95: boolean } & PairPlaces,
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
  /** Ends hourly, when nothing is left to copy, when the snapshot is lost, or when there is something to hear of. */
  watchCopy(args: WatchCopyArgs): Promise<CopyWatched>;
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
  /** Of a canary: who is sent to green before the writes are. */
  setShare(args: SetShareArgs): Promise<ShareSet>;
  /** Beside it: reads go over only while green is proven to be near. */
  keepReads(args: KeepReadsArgs): Promise<ReadsKept>;
  recordParts(args: PairArgs & { readonly parts: readonly PartDone[] }): Promise<void>;
  /** Everything that the run made goes; blue must be the side that takes the writes. */
  takeBackPair(args: PairArgs & CopyArgs): Promise<PairTakenBack>;
  /** Of a run that was cancelled before it was sure of its claim. */
  abandonPair(args: PairArgs & CopyArgs): Promise<void>;
  /** The end of the way back: replication from green, walls and guard rows go; the record of green is completed. */
  decommission(args: PairArgs): Promise<Decommissioned>;
  /** Answers when blue was quiet for long enough, when who uses it has changed, or hourly. */
  watchUnused(args: WatchUnusedArgs): Promise<UnusedWatched>;
  /** A dump of blue, as it was at the end of its way back. */
  archiveBlue(args: PairArgs): Promise<{ readonly bytes: number; readonly reference: string }>;
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
