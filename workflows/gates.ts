/**
 * What the run waits for: a person, a metric, a window, and somebody's answer when something failed. Each wait is shown with the exact lines
 * that end it.
 */
import { slim } from '../plan/model/canary';
import { settle } from '../plan/model/messages';
import { commandsFor } from '../plan/model/render';
import type { Cause } from '../plan/model/state';
import { longestLock } from '../plan/model/view';
import { windowAt, windowCovers } from '../plan/model/window';
import type { GateRules } from '../plan/model/inbox';
import { Back, causeOf } from './failure';
import { manualGate, metricGates } from './gateRules';
import type { Run } from './run';
import { nowIso } from './run';
import { metricGate } from './watcher';

/** What a person needs to know before deciding: the evidence, not the plan. */
function evidence(run: Run): Record<string, unknown> {
  const { proof, steps, facts, health, pair, canary } = run.state;
  const stage = canary?.stages.at(-1);
  if (pair) return { ...pair.evidence, trouble: pair.trouble, ...(stage === undefined ? {} : { stage: slim(stage) }) };
  return {
    risk: facts?.risk ?? null,
    stepsDone: run.state.done,
    rowsProven: proof.reduce((sum, p) => sum + p.rows, 0),
    remaining: proof.reduce((sum, p) => sum + p.remaining, 0),
    differing: proof.reduce((sum, p) => sum + p.differing, 0),
    longestLockMs: longestLock(steps)?.heldMs ?? 0,
    unwell: health.filter((event) => event.verdict !== 'passed').length,
  };
}

function sinceOf(run: Run, key: string): string {
  const since = run.state.opened[key] ?? nowIso();
  run.state.opened[key] = since;
  return since;
}

/** Waits for a person's verdict. @throws Back when it is rejected or expires. */
export async function askPeople(run: Run, rules: GateRules, reason: string): Promise<void> {
  const s = run.state;
  const verdict = () => s.inbox.gates[rules.name]?.verdict ?? null;
  while (verdict() === null) {
    const since = sinceOf(run, rules.name);
    const expiresAt = rules.expiresMs === null ? null : Date.parse(since) + rules.expiresMs;
    const expired = expiresAt !== null && expiresAt <= Date.now();
    if (expired && rules.onExpiry === 'reject') {
      s.inbox = settle(s.inbox, rules.name, 'expired', nowIso(), 'nobody decided in time');
      break;
    }
    const votes = s.inbox.gates[rules.name]?.votes.length ?? 0;
    run.open.set(rules.name, rules);
    try {
      await run.wait({
        status: s.status === 'rolling_back' ? 'rolling_back' : 'waiting',
        waiting: {
          type: 'gate',
          gate: rules.name,
          since,
          until: expiresAt === null || expired ? null : new Date(expiresAt).toISOString(),
          reason: rules.quorum > 1 ? `${reason} (${votes} of ${rules.quorum} approvals)` : reason,
          evidence: evidence(run),
          commands: commandsFor(s, 'approve', { gate: rules.name }),
        },
        until: () => verdict() !== null || (s.inbox.gates[rules.name]?.votes.length ?? 0) !== votes,
        timeoutMs: expiresAt === null || expired ? null : expiresAt - Date.now(),
        summary: `gate ${rules.name} expires`,
      });
    } finally {
      run.open.delete(rules.name);
    }
  }
  if (verdict() === 'expired') throw new Back(causeOf('GateExpired', `gate ${rules.name}: nobody decided in time`));
}

/** All that the plan asks for before `name` (a phase or a step). Passed once and for all. */
export async function passGate(run: Run, name: string): Promise<void> {
  const s = run.state;
  const gate = s.control?.gates[name];
  const mark = `gate:${name}`;
  if (gate === undefined || s.marks.includes(mark)) return;
  const rules = manualGate(name, gate);
  if (rules) await askPeople(run, rules, `${name} waits for a person`);
  const conditions = metricGates(gate);
  if (conditions.length > 0) await metricGate(run, name, conditions);
  s.marks.push(mark);
  run.show('running');
  await run.clear();
}

/** Waits until the window is open; answers when it closes again, epoch ms (null = the phase needs no window). */
export async function passWindow(run: Run, phase: string): Promise<number | null> {
  const window = run.state.control?.window;
  if (!window || !windowCovers(window, phase)) return null;
  for (;;) {
    const { open, untilMs } = windowAt(window, Date.now());
    if (open) return untilMs;
    if (untilMs === null) throw new Back(causeOf('GateExpired', 'the window never opens again'));
    await run.wait({
      status: 'waiting',
      waiting: {
        type: 'window',
        gate: phase,
        since: nowIso(),
        until: new Date(untilMs).toISOString(),
        reason: `${phase} runs only inside the window ${window.cron} (${window.timezone})`,
        evidence: {},
        commands: [],
      },
      until: () => false,
      timeoutMs: untilMs - Date.now(),
      summary: `the window for ${phase} opens`,
    });
    run.show('running');
    await run.clear();
  }
}

/** Something failed and a person decides. `rollback` comes as Back; answers retry or skip. */
export async function askHelp(
  run: Run,
  target: string,
  takes: readonly ('retry' | 'skip')[],
  problem: Pick<Cause, 'code' | 'message' | 'hint'>,
): Promise<'retry' | 'skip'> {
  const s = run.state;
  run.awaiting = { target, takes };
  s.inbox = { ...s.inbox, answer: null };
  const goingBack = s.status === 'rolling_back';
  try {
    await run.wait({
      status: goingBack ? 'rolling_back' : 'paused',
      waiting: {
        type: 'person',
        gate: null,
        since: nowIso(),
        until: null,
        reason: `${target} failed: ${problem.code}: ${problem.message}`,
        evidence: { hint: problem.hint },
        commands: takes.flatMap((verb) => commandsFor(s, verb, { target })),
      },
      until: () => s.inbox.answer !== null,
    });
    return s.inbox.answer?.kind ?? 'retry';
  } finally {
    run.awaiting = null;
    s.inbox = { ...s.inbox, answer: null };
    s.lastError = null;
  }
}
