/**
 * The person's part: what signals and updates do to a run. ONE pure reducer serves both, so that they cannot differ. Invariants: the first
 * verdict on a gate wins; the same request twice changes nothing; what is refused changes nothing but the list that status shows.
 */
import { z } from 'zod';
import type { ErrorCode } from './errors';
import { duration, throttleSchema } from './plan';
import type { AuditEntry, Inbox, MessageName, Moment, Person, Reduction } from './inbox';
import { DESCRIPTIONS } from './inbox';
import type { Approval, RunStatus } from './status';
import type { Tuning } from './tuning';
import { mergeTuning } from './tuning';

const text = (max: number) => z.string().trim().min(1).max(max);
const sender = { by: text(200), reason: z.string().max(2_000).optional(), requestId: text(100).optional() };
const decision = z.strictObject({ ...sender, gate: text(120).optional() });
const plain = z.strictObject(sender);
const aimed = z.strictObject({ ...sender, target: text(200).optional() });
const tune = z.strictObject({
  ...sender,
  throttle: z.unknown().optional(),
  hold: duration.optional(),
  lockTimeout: duration.optional(),
  lockBudget: duration.optional(),
  timeout: duration.optional(),
  parallel: z
    .strictObject({
      tables: z.int().min(1).max(32).optional(),
      rangesPerTable: z.int().min(1).max(16).optional(),
    })
    .optional(),
});

const SCHEMAS = {
  approve: decision,
  reject: decision,
  pause: plain,
  resume: plain,
  rollback: plain,
  tune,
  skip: aimed,
  retry: aimed,
} as const;

interface Sent {
  readonly by: string;
  readonly reason?: string | undefined;
  readonly requestId?: string | undefined;
  readonly gate?: string | undefined;
  readonly target?: string | undefined;
}

class Refused extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
  ) {
    super(message);
  }
}

const ENDED: readonly RunStatus[] = ['completed', 'failed', 'rolled_back', 'cancelled'];
const SEEN_MAX = 500;
const VOTES_MAX = 50;
type Change = Partial<Inbox> | 'duplicate';

/** A misplaced secret is not repeated. */
const keysText = (keys: readonly string[]): string =>
  keys
    .map((key) => (/^[A-Za-z0-9_.-]{1,40}$/.test(key) && !/password|secret/i.test(key) ? key : '(not shown)'))
    .join(', ');

function parseMessage(name: MessageName, argument: unknown): Sent & Record<string, unknown> {
  const result = SCHEMAS[name].safeParse(argument);
  if (result.success) return result.data as Sent & Record<string, unknown>;
  const issue = result.error.issues[0];
  if (issue?.code === 'unrecognized_keys')
    throw new Refused('InvalidMessage', `${name}: unknown key ${keysText(issue.keys)}; ${DESCRIPTIONS[name]}`);
  const path = issue?.path.join('.') ?? '';
  throw new Refused(
    'InvalidMessage',
    path === ''
      ? `${name}: takes one JSON object`
      : `${name}: ${path} ${path === 'by' ? 'is required' : 'is not valid'}`,
  );
}

/** `role:name` or the role itself. Temporal does not authenticate `by`: it is what the sender says, and status shows it as such. */
const hasRole = (by: string, roles: readonly string[]): boolean =>
  roles.length === 0 || roles.some((role) => by === role || by.startsWith(`${role}:`));

function pickGate(name: MessageName, sent: Sent, moment: Moment): string {
  if (sent.gate !== undefined) {
    const known = Object.hasOwn(moment.gates, sent.gate) || moment.open.includes(sent.gate);
    if (known || (sent.gate === 'cleanup' && moment.holding)) return sent.gate;
    const names = [...new Set([...Object.keys(moment.gates), ...moment.open])];
    throw new Refused(
      'NoSuchGate',
      `no gate ${sent.gate}; ${names.length ? `gates: ${names.join(', ')}` : 'there are none'}`,
    );
  }
  const [only, ...more] = moment.open;
  if (only === undefined) throw new Refused('NoSuchGate', `${name}: no gate is open; name one to decide early`);
  if (more.length > 0) throw new Refused('NoSuchGate', `${name}: several gates are open: ${moment.open.join(', ')}`);
  return only;
}

function decide(name: 'approve' | 'reject', sent: Sent, inbox: Inbox, moment: Moment): Change {
  const gate = pickGate(name, sent, moment);
  const rules = moment.gates[gate];
  const person: Person = { by: sent.by, at: moment.now, reason: sent.reason ?? null };
  if (gate === 'cleanup' && moment.holding && rules === undefined) return endHold(name, person, inbox, moment);

  const record = inbox.gates[gate] ?? { verdict: null, votes: [] };
  const verdict = name === 'approve' ? 'approved' : 'rejected';
  if (record.verdict === verdict) return 'duplicate';
  if (record.verdict !== null && record.verdict !== 'opened')
    throw new Refused('NotNow', `gate ${gate} was ${record.verdict} already; the first verdict wins`);
  if (record.verdict === 'opened') throw new Refused('NotNow', `gate ${gate} opened by itself already`);
  if (moment.status === 'rolling_back' && !moment.open.includes(gate))
    throw new Refused('NotNow', 'the change is being taken back');
  if (rules && !hasRole(sent.by, rules.roles))
    throw new Refused(
      'NotAllowed',
      `gate ${gate} asks for ${rules.roles.join(' or ')}: write by as "${rules.roles[0]}:<name>" (taken as said; Temporal decides who may send)`,
    );
  if (rules?.notBy === 'starter' && name === 'approve') {
    if (moment.starter === null)
      throw new Refused(
        'NotAllowed',
        `gate ${gate} is not for the starter, who is not known: start with --by, or with memo startedBy`,
      );
    if (moment.starter === sent.by) throw new Refused('NotAllowed', `gate ${gate} is not for the one who started it`);
  }
  if (name === 'approve' && record.votes.some((vote) => vote.by === sent.by)) return 'duplicate';
  if (record.votes.length >= VOTES_MAX) throw new Refused('NotNow', `gate ${gate} has ${VOTES_MAX} votes already`);

  const votes = name === 'approve' ? [...record.votes, person] : record.votes;
  const settled = name === 'reject' || votes.length >= (rules?.quorum ?? 1);
  const approval: Approval = { gate, ...person, verdict, via: moment.via };
  return {
    gates: { ...inbox.gates, [gate]: { verdict: settled ? verdict : null, votes } },
    approvals: [...inbox.approvals, approval],
    ...(gate === 'cleanup' && moment.holding && settled && name === 'approve' ? { endHold: person } : {}),
  };
}

function endHold(name: 'approve' | 'reject', person: Person, inbox: Inbox, moment: Moment): Change {
  if (name === 'reject')
    throw new Refused('NotNow', 'a hold is ended by approve, or the change is taken back by rollback');
  if (inbox.endHold) return 'duplicate';
  return {
    endHold: person,
    approvals: [...inbox.approvals, { gate: 'cleanup', ...person, verdict: 'approved', via: moment.via }],
  };
}

function answer(kind: 'retry' | 'skip', sent: Sent, inbox: Inbox, moment: Moment): Change {
  const waits = moment.awaiting;
  const aside = moment.aside ?? [];
  const table = sent.target ?? (waits === null && aside.length === 1 ? aside[0] : undefined);
  if (table !== undefined && aside.includes(table)) {
    if (inbox.answers?.[table] === kind) return 'duplicate';
    return { answers: { ...inbox.answers, [table]: kind } };
  }
  if (!waits && aside.length > 1)
    throw new Refused('InvalidMessage', `${kind}: several tables are set aside: name one as target`);
  if (!waits) throw new Refused('NotNow', 'nothing waits for a person');
  if (sent.target !== undefined && sent.target !== waits.target)
    throw new Refused('NotNow', `${sent.target} does not wait; ${waits.target} does`);
  if (!waits.takes.includes(kind))
    throw new Refused('NotAllowed', `${waits.target} cannot be left out: what comes after it rests on it`);
  if (inbox.answer) return 'duplicate';
  return { answer: { kind, target: waits.target, by: sent.by } };
}

function act(name: MessageName, sent: Sent & Record<string, unknown>, inbox: Inbox, moment: Moment): Change {
  const person: Person = { by: sent.by, at: moment.now, reason: sent.reason ?? null };
  const goingBack = () => {
    if (moment.status === 'rolling_back') throw new Refused('NotNow', 'the change is being taken back');
  };
  switch (name) {
    case 'approve':
    case 'reject':
      return decide(name, sent, inbox, moment);
    case 'pause':
      goingBack();
      return inbox.paused ? 'duplicate' : { paused: person };
    case 'resume':
      if (inbox.paused || moment.unwell) return { paused: null };
      if (moment.awaiting?.takes.includes('retry')) return answer('retry', sent, inbox, moment);
      throw new Refused('NotNow', 'it is not paused');
    case 'rollback':
      if (inbox.rollback || moment.status === 'rolling_back') return 'duplicate';
      if (moment.noRollback !== null) throw new Refused('NotNow', moment.noRollback);
      return { rollback: person };
    case 'tune':
      goingBack();
      return tuned(sent, inbox);
    case 'skip':
    case 'retry':
      return answer(name, sent, inbox, moment);
  }
}

function tuned(sent: Record<string, unknown>, inbox: Inbox): Change {
  const { throttle, hold, lockTimeout, lockBudget, timeout, parallel } = sent as z.output<typeof tune>;
  const given = { throttle, hold, lockTimeout, lockBudget, timeout, parallel };
  if (Object.values(given).every((value) => value === undefined))
    throw new Refused('InvalidMessage', 'tune: says nothing to change');
  if (throttle !== undefined && throttle !== 'none') {
    const result = throttleSchema.safeParse(throttle);
    if (!result.success)
      throw new Refused(
        'InvalidMessage',
        `tune: throttle.${result.error.issues[0]?.path.join('.') ?? ''} is not valid`,
      );
  }
  return { tuning: mergeTuning(inbox.tuning, given as Tuning), tunings: inbox.tunings + 1 };
}

const refuse = (inbox: Inbox, name: string, moment: Moment, code: ErrorCode, message: string): Reduction => ({
  inbox:
    moment.via === 'signal'
      ? { ...inbox, refused: [...inbox.refused, { at: moment.now, name, code, message }].slice(-5) }
      : inbox,
  outcome: { accepted: false, code, message },
});

/** One message. Never throws: what is refused is an outcome. */
export function reduce(name: MessageName, argument: unknown, inbox: Inbox, moment: Moment): Reduction {
  try {
    const sent = parseMessage(name, argument);
    const requestId = sent.requestId ?? null;
    const before = requestId === null ? undefined : inbox.seen.find((s) => s.requestId === requestId);
    if (before) {
      if (before.name !== name) throw new Refused('InvalidMessage', `requestId was used for ${before.name}`);
      return { inbox, outcome: { accepted: true, duplicate: true, requestId } };
    }
    if (ENDED.includes(moment.status)) throw new Refused('NotNow', `the run is ${moment.status}`);
    const change = act(name, sent, inbox, moment);
    const seen = requestId === null ? inbox.seen : [...inbox.seen, { requestId, name }].slice(-SEEN_MAX);
    if (change === 'duplicate')
      return { inbox: { ...inbox, seen }, outcome: { accepted: true, duplicate: true, requestId } };
    const gate = change.approvals?.at(-1)?.gate ?? sent.gate ?? null;
    const entry: AuditEntry = {
      at: moment.now,
      by: sent.by,
      via: moment.via,
      action: name,
      gate,
      reason: sent.reason ?? null,
      requestId,
    };
    return {
      inbox: { ...inbox, ...change, seen, audit: [...inbox.audit, entry] },
      outcome: { accepted: true, duplicate: false, requestId },
    };
  } catch (error) {
    if (error instanceof Refused) return refuse(inbox, name, moment, error.code, error.message);
    throw error;
  }
}

/** A verdict that no person gave: a gate that expired, or a metric gate that opened. The first verdict wins here too. */
export function settle(inbox: Inbox, gate: string, verdict: 'expired' | 'opened', now: string, reason: string): Inbox {
  const record = inbox.gates[gate] ?? { verdict: null, votes: [] };
  if (record.verdict !== null) return inbox;
  const entry = { gate, by: 'pgshift', at: now, reason, via: 'health' } as const;
  return {
    ...inbox,
    gates: { ...inbox.gates, [gate]: { ...record, verdict } },
    approvals: [...inbox.approvals, { ...entry, verdict }],
    audit: [...inbox.audit, { ...entry, action: verdict, requestId: null }],
  };
}
