/**
 * One run as Temporal sees it: its state, its messages, what it shows, and the one way in which work is done so that a pause, a tuning, a
 * rollback or a cancel can come at any moment. Keeps true: a decision to take the change back is never lost, and work that was interrupted is
 * over (cancelled and waited for) before anything else begins.
 */
import {
  CancellationScope,
  CancelledFailure,
  allHandlersFinished,
  condition,
  setCurrentDetails,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { GateRules, MessageName, Moment, Outcome } from '../plan/model/inbox';
import { openStage } from '../plan/model/canary';
import { reduce } from '../plan/model/messages';
import { clampSummary, commandsFor, renderDetails } from '../plan/model/render';
import type { Cause, Live, RunState } from '../plan/model/state';
import type { Approval, RunStatus, WaitingFor } from '../plan/model/status';
import { tunedOptions } from '../plan/model/tuning';
import { parseDuration } from '../plan/model/values';
import { reportOf, statusOf, wayBackOf } from '../plan/model/view';
import { attributesOf, changedAttributes } from './attributes';
import { Back, causeOf } from './failure';
import { manualGate } from './gateRules';
import { drainDecisions } from './recorder';
import type { Ask } from './proxies';
import { asking } from './proxies';

export const nowIso = (): string => new Date(Date.now()).toISOString();

export class Run {
  /** Gates that are waited for just now, with their rules. */
  readonly open = new Map<string, GateRules>();
  awaiting: Moment['awaiting'] = null;
  /** Set by the watch of health: a condition that failed for good. */
  tripped: Cause | null = null;
  /** From here on nothing interrupts: the change is being taken back or is over. */
  settled = false;
  /** What is left after that may last for weeks all the same: it continues as new, too. */
  lasting = false;
  /** Nothing is left to decide. */
  ended = false;
  /** A continue-as-new is near: what runs beside the phases ends. */
  draining = false;
  /** The plan is known: messages can be judged. */
  ready = false;
  watching = false;
  /** How often the watch was asked to say what it has seen, and how often it did. */
  looks = 0;
  looked = 0;
  /** Other activities that run beside the phases. */
  beside = 0;
  /** Of a blue-green: its replication is watched. */
  watchesPair = false;
  /** An activity of the stream runs beside the phases. */
  following = false;
  readonly ask: Ask;
  private readonly early: { name: MessageName; argument: unknown }[] = [];
  private shownAttributes: ReadonlyMap<string, string | boolean> = new Map();
  /** Waits between checks of continue-as-new. */
  readonly root = CancellationScope.current();

  constructor(
    readonly state: RunState,
    private readonly again: (state: RunState) => Promise<never>,
  ) {
    this.ask = asking(() => this.state.settings);
    this.ready = state.marks.includes('opened');
    // Of a switch: the way back was given up in an earlier history.
    this.settled = state.pair !== undefined && state.marks.includes('finished');
  }

  // What is shown ------------------------------------------------------------------------------------------------------

  /** Epoch ms at which the hold ends; null = there is none. */
  holdEnds(): number | null {
    const { contractedAt, facts, pair } = this.state;
    if (pair)
      return pair.heldSince === null ? null : Date.parse(pair.heldSince) + (parseDuration(this.options().hold) ?? 0);
    if (contractedAt === null || !facts?.keepsOld) return null;
    return Date.parse(contractedAt) + (parseDuration(this.options().hold) ?? 0);
  }

  options() {
    const { control, inbox } = this.state;
    if (!control) throw causeError('options before the plan is known');
    return tunedOptions(control, inbox.tuning);
  }

  show(status?: RunStatus): void {
    const s = this.state;
    if (status !== undefined) s.status = status;
    const stopped = this.isPaused() && ['running', 'waiting', 'holding'].includes(s.status);
    if (stopped) s.status = 'paused';
    s.updatedAt = nowIso();
    this.details();
    const attributes = attributesOf(s, this.open.size > 0);
    const changed = changedAttributes(this.shownAttributes, attributes);
    if (changed.length > 0) upsertSearchAttributes(changed);
    this.shownAttributes = attributes;
  }

  details = (): void => setCurrentDetails(renderDetails(this.state, this.holdEnds()));
  status = () => statusOf(this.state, this.holdEnds());
  report = () => reportOf(this.state, this.holdEnds());

  /** The running activity says how far it is. Ignored when it comes from a step that is over. */
  live(report: Live): void {
    const { pair } = this.state;
    if (pair && report.step === 'replication') {
      pair.lag = { bytes: report.lagBytes, ms: report.lagMs };
      return this.details();
    }
    if (this.state.step === null) return;
    this.state.live = report;
    this.state.step = report.step;
    this.details();
  }

  // Messages -----------------------------------------------------------------------------------------------------------

  moment(via: Approval['via']): Moment {
    const s = this.state;
    const gates: Record<string, GateRules> = {};
    for (const [name, gate] of Object.entries(s.control?.gates ?? {})) {
      const rules = manualGate(name, gate);
      if (rules) gates[name] = rules;
    }
    for (const [name, rules] of this.open) gates[name] = rules;
    const back = wayBackOf(s, null);
    return {
      now: nowIso(),
      via,
      status: this.ended ? 'completed' : s.status,
      gates,
      open: [...this.open.keys()],
      holding: s.phase === 'hold' && s.contractedAt !== null,
      unwell: s.unwell !== null,
      awaiting: this.awaiting,
      aside: [
        ...(s.copy?.quarantined ?? []).filter(({ skipped }) => !skipped).map(({ table }) => table),
        ...openStage(s.canary),
      ],
      starter: starter(),
      noRollback:
        s.kind === 'rollback'
          ? 'this run is the rollback; reject its gate to leave the change as it is'
          : s.control?.strategy === 'forward-only'
            ? 'the plan says forward-only'
            : back.possible
              ? null
              : back.how,
    };
  }

  /** A signal: what is refused is shown in status. */
  signal(name: MessageName, argument: unknown): void {
    if (!this.ready) this.early.push({ name, argument });
    else this.apply(name, argument, 'signal');
  }

  apply(name: MessageName, argument: unknown, via: Approval['via']): Outcome {
    const { inbox, outcome } = reduce(name, argument, this.state.inbox, this.moment(via));
    this.state.inbox = inbox;
    if (name === 'resume' && outcome.accepted && !outcome.duplicate) this.state.unwell = null;
    this.show(this.state.status === 'paused' && inbox.paused === null ? this.unpaused() : undefined);
    return outcome;
  }

  judge = (name: MessageName, argument: unknown): Outcome =>
    reduce(name, argument, this.state.inbox, this.moment('update')).outcome;

  /** The plan is known now: what came before is judged in its order. */
  becomeReady(): void {
    this.ready = true;
    for (const { name, argument } of this.early.splice(0)) this.apply(name, argument, 'signal');
  }

  refused(name: string, code: string, message: string): void {
    const s = this.state;
    s.inbox = { ...s.inbox, refused: [...s.inbox.refused, { at: nowIso(), name, code, message }].slice(-5) };
    this.show();
  }

  private unpaused(): RunStatus {
    if (this.awaiting) return 'paused';
    if (this.open.size > 0 || this.state.waiting) return 'waiting';
    return ['hold', 'monitor'].includes(this.state.phase) ? 'holding' : 'running';
  }

  // Work ---------------------------------------------------------------------------------------------------------------

  /** Why the change has to be taken back, if it has. */
  wantsBack(): Cause | null {
    if (this.settled) return null;
    const { rollback, gates, approvals } = this.state.inbox;
    if (rollback)
      return causeOf(
        'RolledBack',
        `asked by ${rollback.by}${rollback.reason ? `: ${rollback.reason}` : ''}`,
        rollback.by,
      );
    const rejected = Object.keys(gates).find((name) => name !== 'rollback' && gates[name]?.verdict === 'rejected');
    if (rejected !== undefined) {
      const vote = approvals.find((a) => a.gate === rejected && a.verdict === 'rejected');
      return causeOf(
        'Rejected',
        `gate ${rejected} was rejected by ${vote?.by ?? 'somebody'}${vote?.reason ? `: ${vote.reason}` : ''}`,
        vote?.by ?? null,
      );
    }
    return this.tripped;
  }

  isPaused = (): boolean => this.state.inbox.paused !== null || this.state.unwell !== null;

  /** What a paused run waits for, as people see it; null = it is not paused. */
  waitsForResume(): WaitingFor | null {
    const { inbox, unwell } = this.state;
    const paused = inbox.paused;
    if (paused === null && unwell === null) return null;
    const why = paused?.reason ? `: ${paused.reason}` : '';
    return {
      type: paused ? 'pause' : 'health',
      gate: null,
      since: paused?.at ?? nowIso(),
      until: null,
      reason: paused ? `paused by ${paused.by}${why}` : `${unwell ?? ''}`,
      evidence: {},
      commands: commandsFor(this.state, 'resume', {}),
    };
  }

  /** Waits out a pause. @throws Back. */
  async clear(): Promise<void> {
    this.throwIfBack();
    if (!this.isPaused()) return;
    const s = this.state;
    const before = s.status === 'paused' ? this.unpaused() : s.status;
    await this.wait({
      status: 'paused',
      waiting: this.waitsForResume(),
      until: () => !this.isPaused(),
    });
    this.show(before === 'paused' ? 'running' : before);
    this.throwIfBack();
  }

  throwIfBack(): void {
    if (this.root.consideredCancelled && !this.settled) throw new CancelledFailure('cancelled');
    const cause = this.wantsBack();
    if (cause) throw new Back(cause);
  }

  /**
   * Waits, shown to people, until `until` holds, the change must be taken back (@throws Back) or `timeoutMs` is over (answers false).
   * Weeks may pass: continues as new when the history grows.
   */
  async wait(of: {
    readonly status: RunStatus;
    readonly waiting: WaitingFor | null;
    readonly until: () => boolean;
    readonly timeoutMs?: number | null;
    readonly summary?: string;
  }): Promise<boolean> {
    const s = this.state;
    s.waiting = of.waiting;
    this.show(of.status);
    try {
      const wake = (): boolean => of.until() || this.wantsBack() !== null || this.mustContinue();
      const woken = await this.until(wake, of.timeoutMs ?? null, of.summary ?? of.status);
      if (!of.until() && this.wantsBack() === null && this.mustContinue()) await this.renew();
      this.throwIfBack();
      return woken && of.until();
    } finally {
      s.waiting = null;
    }
  }

  /** Waits for `fn`; without a timeout this costs no event. Answers false when the time was over. */
  async until(fn: () => boolean, timeoutMs: number | null, summary = ''): Promise<boolean> {
    if (timeoutMs === null) {
      await condition(fn);
      return true;
    }
    if (fn()) return true;
    return condition(fn, Math.max(1, Math.ceil(timeoutMs)), { summary: clampSummary(summary) });
  }

  // Continue as new ----------------------------------------------------------------------------------------------------

  mustContinue(): boolean {
    if (!this.state.marks.includes('prepared') || (this.settled && !this.lasting)) return false;
    const info = workflowInfo();
    const limit = this.state.settings.continueAsNewEvents;
    return info.continueAsNewSuggested || (limit !== null && info.historyLength >= limit);
  }

  /** Ends this run's history and goes on in a new one with the same state. Only between pieces of work. */
  async renew(): Promise<never> {
    this.draining = true; // the watch of health and the recorder end; messages are taken until the last moment
    const recorded = (): boolean => this.state.inbox.audit.length === 0;
    const over = (): boolean => allHandlersFinished() && !this.watching && !this.following && this.beside === 0;
    await condition(() => over() && (recorded() || this.settled));
    // The recorder has ended when the run was settled.
    while (!recorded()) {
      await drainDecisions(this);
      await condition(over);
    }
    return this.again({ ...this.state, waiting: null, live: null, step: null });
  }
}

const causeError = (what: string): Error => new Error(what);

function starter(): string | null {
  const by = workflowInfo().memo?.['startedBy'];
  return typeof by === 'string' ? by : null;
}
