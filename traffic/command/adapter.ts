/**
 * Clients that only somebody else's tool can move: DNS, Kubernetes, pgdog, a cloud's endpoint. Keeps true: the tool is believed about what
 * it sees, never about what it was told to do; an answer that does not say "paused and drained", or names the wrong side, is a failure.
 */
import type { CommandAdapterPlan, Side } from '../../plan/model/traffic';
import { parseDuration } from '../../plan/model/values';
import { Deadline, failed, grace, overran } from '../deadline';
import type { TrafficAdapter, TrafficCall, TrafficDeps, TrafficState } from '../types';
import type { Action, Answer } from './run';
import { callUrl, parseAnswer, runCommand } from './run';

const POLL_MS = 100;
const UNDO_MS = 10_000;

export function commandTraffic(plan: CommandAdapterPlan, deps: Pick<TrafficDeps, 'env'>): TrafficAdapter {
  const name = plan.run ? `command ${plan.run[0]?.split('/').at(-1) ?? ''}` : 'command (HTTP)';
  const timeoutMs = parseDuration(plan.timeout) ?? 10_000;

  /** One call; it has no longer than `timeout`, and no longer than there is. */
  const ask = async (action: Action, side: Side | null, key: string, left: Deadline): Promise<Answer> => {
    const deadlineMs = Math.min(timeoutMs, left.leftMs);
    const deadline = new Deadline({ deadlineMs, signal: left.signal });
    const asked = { action, side, deadlineMs, idempotencyKey: `${key}/${action}${side === null ? '' : `/${side}`}` };
    const text = plan.run
      ? await runCommand(plan.run, asked, deps.env, deadline, name)
      : await callUrl(plan, asked, deps.env, deadline, name);
    return parseAnswer(text, name);
  };
  const stateOf = (answer: Answer): TrafficState => ({
    ...answer,
    drained: answer.paused && answer.drained,
    because:
      answer.target === null
        ? 'it does not say where clients go'
        : answer.paused && !answer.drained
          ? 'work is still under way'
          : null,
  });
  const drained = async (first: Answer, key: string, deadline: Deadline): Promise<TrafficState> => {
    let answer = first;
    while (!(answer.paused && answer.drained)) {
      if (deadline.leftMs <= POLL_MS)
        throw overran(name, answer.paused ? 'work is still under way' : 'it is not paused');
      await deadline.wait(POLL_MS);
      const last = answer;
      answer = await ask('status', null, key, deadline).catch((error: unknown) => {
        // The pause's own time ran out in the middle of the question.
        if (deadline.isOver && !deadline.signal.aborted) return last;
        throw error;
      });
    }
    return stateOf(answer);
  };

  return {
    type: 'command',
    name,
    async check(call) {
      try {
        const { target, paused } = await ask('status', null, call.idempotencyKey, new Deadline(call));
        if (target !== null && !paused) return [];
        return [
          {
            check: 'command.status',
            level: 'error',
            message: `${name}: ${paused ? 'clients are paused already' : 'it does not say where clients go'}`,
            remedy: 'its action status must tell where clients go now',
          },
        ];
      } catch (error) {
        const remedy = 'run it by hand with PGSHIFT_ACTION=status';
        return [{ check: 'command.status', level: 'error', message: (error as Error).message, remedy }];
      }
    },
    status: async (call) => stateOf(await ask('status', null, call.idempotencyKey, new Deadline(call))),
    async pause(call: TrafficCall) {
      const deadline = new Deadline(call);
      const key = call.idempotencyKey;
      const { target } = await ask('status', null, key, deadline);
      try {
        return await drained(await ask('pause', null, key, deadline), key, deadline);
      } catch (error) {
        const back =
          target === null ? ask('resume', null, key, grace(UNDO_MS)) : ask('undo', target, key, grace(UNDO_MS));
        await back.catch(() => undefined);
        throw error;
      }
    },
    async point(side, call) {
      const deadline = new Deadline(call);
      const answer = await ask('point', side, call.idempotencyKey, deadline);
      if (answer.target !== side) throw failed(name, `point did not lead to ${side}`);
      return stateOf(answer);
    },
    async resume(call) {
      const answer = await ask('resume', null, call.idempotencyKey, new Deadline(call));
      if (answer.paused) throw failed(name, 'resume left clients paused');
      return stateOf(answer);
    },
    async undo(side, call) {
      const answer = await ask('undo', side, call.idempotencyKey, new Deadline(call));
      if (answer.paused || answer.target !== side) throw failed(name, `undo did not lead back to ${side}`);
      return stateOf(answer);
    },
    close: async () => undefined,
  };
}
