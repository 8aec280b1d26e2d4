/**
 * What messages decided so far, as plain JSON that is carried through continue-as-new, and what the run was doing when one came.
 * Types and their empty value alone; messages.ts has the rules.
 */
import type { ErrorCode } from './errors';
import type { Approval, RunStatus } from './status';
import type { Tuning } from './tuning';

export const MESSAGE_NAMES = ['approve', 'reject', 'pause', 'resume', 'rollback', 'tune', 'skip', 'retry'] as const;
export type MessageName = (typeof MESSAGE_NAMES)[number];

/** Shown by `temporal workflow metadata` and in the Web UI. */
export const DESCRIPTIONS: Readonly<Record<MessageName, string>> = {
  approve:
    'Opens a gate: {"by": "ann@example.org", "gate": "contract", "reason": "..."}. --gate cleanup ends a hold early.',
  reject: 'Closes a gate for good: the change is taken back. {"by", "gate"?, "reason"?}',
  pause: 'Stops after the current batch; the hold clock runs on. {"by", "reason"?}',
  resume: 'Goes on after a pause. {"by", "reason"?}',
  rollback: 'Takes the change back, in any phase up to the end of the hold. {"by", "reason"?}',
  tune: 'Changes throttle, hold, lockTimeout, lockBudget, timeout or parallel (of a copy) while it runs. {"by", "throttle": {"parallel": 4}}',
  skip: 'Goes on without the hook or the way back that failed. {"by", "target": "<name shown by status>"}',
  retry: 'Tries again what failed. {"by", "target": "<step shown by status>"}',
};

/** A manual gate with every default filled in. */
export interface GateRules {
  readonly name: string;
  readonly expiresMs: number | null;
  readonly onExpiry: 'reject' | 'hold';
  readonly quorum: number;
  readonly roles: readonly string[];
  readonly notBy: 'starter' | 'none';
}

export interface Person {
  readonly by: string;
  readonly at: string;
  readonly reason: string | null;
}

export interface GateRecord {
  readonly verdict: 'approved' | 'rejected' | 'expired' | 'opened' | null;
  readonly votes: readonly Person[];
}

/** A row of pgshift.audit to be written. */
export interface AuditEntry extends Person {
  readonly via: Approval['via'];
  readonly action: string;
  readonly gate: string | null;
  readonly requestId: string | null;
}

export interface Refusal {
  readonly at: string;
  readonly name: string;
  readonly code: string;
  readonly message: string;
}

/** Everything that messages decided so far; plain JSON, carried through continue-as-new. */
export interface Inbox {
  readonly seen: readonly { readonly requestId: string; readonly name: MessageName }[];
  readonly gates: Readonly<Record<string, GateRecord>>;
  readonly paused: Person | null;
  readonly rollback: Person | null;
  readonly endHold: Person | null;
  /** One-shot answers to what waits for a person; taken by the run. */
  readonly answer: { readonly kind: 'retry' | 'skip'; readonly target: string; readonly by: string } | null;
  /** What people said about tables that were set aside; taken by the run. */
  readonly answers?: Readonly<Record<string, 'retry' | 'skip'>>;
  readonly tuning: Tuning;
  /** Counts tunings, so that a running step notices. */
  readonly tunings: number;
  readonly approvals: readonly Approval[];
  readonly refused: readonly Refusal[];
  readonly audit: readonly AuditEntry[];
}

export const emptyInbox: Inbox = {
  seen: [],
  gates: {},
  paused: null,
  rollback: null,
  endHold: null,
  answer: null,
  tuning: {},
  tunings: 0,
  approvals: [],
  refused: [],
  audit: [],
};

/** What the run is doing when the message comes. */
export interface Moment {
  readonly now: string;
  readonly via: Approval['via'];
  readonly status: RunStatus;
  readonly gates: Readonly<Record<string, GateRules>>;
  /** Gates (and `rollback`) that are being waited for. */
  readonly open: readonly string[];
  readonly holding: boolean;
  /** A health condition paused it; resume goes on. */
  readonly unwell: boolean;
  /** What waits for a person, and which answers it takes. */
  readonly awaiting: { readonly target: string; readonly takes: readonly ('retry' | 'skip')[] } | null;
  /** Tables that are set aside: each takes retry or skip at any time. */
  readonly aside?: readonly string[];
  /** Who started it, when known. */
  readonly starter: string | null;
  /** Why a rollback makes no sense now; null = it does. */
  readonly noRollback: string | null;
}

export type Outcome =
  | { readonly accepted: true; readonly duplicate: boolean; readonly requestId: string | null }
  | { readonly accepted: false; readonly code: ErrorCode; readonly message: string };

export interface Reduction {
  readonly inbox: Inbox;
  readonly outcome: Outcome;
}
