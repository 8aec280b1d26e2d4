/**
 * Each class of activity with its timeouts and retries. Only codes that the catalogue calls retryable are tried again; a worker that died is
 * noticed by its heartbeat. Bulk work has no deadline of its own: the plan's `timeout` decides that.
 */
import type { ActivityOptions } from '@temporalio/workflow';
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { Activities } from '../activities/types';
import { NON_RETRYABLE } from '../plan/model/errors';
import { clampSummary } from '../plan/model/render';
import type { Settings } from '../plan/model/state';

const nonRetryableErrorTypes = [...NON_RETRYABLE];
const FOR_EVER = {
  // One activity runs all steps of a phase: a worker that dies in each of them must not make the later ones wait for minutes.
  initialInterval: '1s',
  backoffCoefficient: 1.3,
  maximumInterval: '3s',
  nonRetryableErrorTypes,
} as const;
/** A server that cannot be reached before anything was begun is an answer, not a reason to wait. */
const A_FEW = { initialInterval: '500ms', backoffCoefficient: 2, maximumAttempts: 4, nonRetryableErrorTypes } as const;

type Class = 'door' | 'bulk' | 'undo' | 'quick' | 'external' | 'watch' | 'once' | 'settle';

/** Clients wait while nobody knows that the worker died: looked for sooner than elsewhere. */
const SWITCH_HEARTBEAT_MS = 3_000;

/** Which class each activity belongs to; a test walks this table. */
export const CLASS_OF = {
  open: 'door',
  prepare: 'door',
  prepareRollback: 'door',
  backup: 'external',
  baseline: 'external',
  runSteps: 'bulk',
  previewUndo: 'bulk',
  undoSteps: 'undo',
  watch: 'watch',
  runHook: 'external',
  record: 'quick',
  finish: 'quick',
  openValidation: 'door',
  verifyPhase: 'bulk',
  finishValidation: 'quick',
  openData: 'door',
  prepareData: 'door',
  openSnapshot: 'quick',
  makeSchema: 'bulk',
  copyTables: 'bulk',
  watchCopy: 'watch',
  settleTable: 'quick',
  buildRest: 'bulk',
  verifyCopy: 'bulk',
  closeSnapshot: 'quick',
  takeBackCopy: 'undo',
  openBlueGreen: 'door',
  prepareBlueGreen: 'door',
  noteSchemas: 'quick',
  wallGreen: 'bulk',
  applyChange: 'bulk',
  openSync: 'bulk',
  subscribe: 'bulk',
  watchPair: 'watch',
  verifyPair: 'bulk',
  prepareSwitch: 'quick',
  switchOver: 'once',
  settleSwitch: 'settle',
  afterSwitch: 'quick',
  setShare: 'quick',
  keepReads: 'watch',
  recordParts: 'quick',
  takeBackPair: 'undo',
  abandonPair: 'door',
  decommission: 'quick',
  watchUnused: 'watch',
  archiveBlue: 'external',
  removeBlue: 'quick',
  finishGreen: 'quick',
  observeBounds: 'bulk',
  incrementPass: 'bulk',
  followStream: 'watch',
  verifyStream: 'bulk',
  skipChange: 'quick',
  endStream: 'undo',
} as const satisfies Record<keyof Activities, Class>;

export function optionsOf(kind: Class, settings: Settings): ActivityOptions {
  const heartbeatTimeout = settings.heartbeatMs;
  const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED;
  switch (kind) {
    case 'door':
      return { startToCloseTimeout: '15m', heartbeatTimeout, retry: A_FEW, cancellationType };
    case 'bulk':
    case 'undo':
      return { startToCloseTimeout: '365d', heartbeatTimeout, retry: FOR_EVER, cancellationType };
    case 'quick':
      return { startToCloseTimeout: '10m', heartbeatTimeout, retry: FOR_EVER, cancellationType };
    case 'external':
      return { startToCloseTimeout: '24h', heartbeatTimeout, retry: A_FEW, cancellationType };
    case 'once': {
      // What died in the middle of a switch is settled by what the guard rows say, never by running it again.
      const beat = Math.min(Number(heartbeatTimeout), SWITCH_HEARTBEAT_MS);
      return {
        startToCloseTimeout: '10m',
        heartbeatTimeout: beat,
        retry: { maximumAttempts: 1, nonRetryableErrorTypes },
        cancellationType,
      };
    }
    case 'settle': {
      const retry = { ...FOR_EVER, initialInterval: '200ms', maximumInterval: '2s' } as const;
      const beat = Math.min(Number(heartbeatTimeout), SWITCH_HEARTBEAT_MS);
      return { startToCloseTimeout: '10m', heartbeatTimeout: beat, retry, cancellationType };
    }
    case 'watch':
      return { startToCloseTimeout: '2h', heartbeatTimeout, retry: FOR_EVER, cancellationType };
  }
}

export type Ask = <K extends keyof Activities>(
  name: K,
  argument: Parameters<Activities[K]>[0],
  summary: string,
) => ReturnType<Activities[K]>;

/** Runs an activity under the options of its class, with a line for the Web UI's timeline. */
export const asking =
  (settings: () => Settings): Ask =>
  (name, argument, summary) => {
    const options = optionsOf(CLASS_OF[name], settings());
    const proxy = proxyActivities<Activities>(options)[name] as unknown as {
      executeWithOptions(o: ActivityOptions, args: unknown[]): ReturnType<Activities[typeof name]>;
    };
    return proxy.executeWithOptions({ ...options, summary: clampSummary(summary) }, [argument]);
  };
