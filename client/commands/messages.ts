/** approve, reject, pause, resume, tune, skip, retry: one update each, which validates and answers. Who sent it is recorded. */
import { randomUUID } from 'node:crypto';
import { Problem } from '../../plan/model/errors';
import type { Context } from '../context';
import { pairs } from '../render/table';
import { resolveRun } from '../resolveRun';
import type { Seen, Temporal } from '../temporal';
import { readStatus } from './status';
import { followAndReport } from './watch';

export interface MessageOptions {
  readonly gate?: string;
  readonly reason?: string;
  readonly requestId?: string;
  readonly wait?: boolean;
  readonly target?: string;
  readonly set?: readonly string[];
}

export interface Answer {
  readonly accepted: true;
  readonly duplicate: boolean;
  readonly status: string;
  readonly phase: string;
  readonly requestId: string | null;
}

const TUNABLE = ['throttle', 'hold', 'lockTimeout', 'lockBudget', 'timeout', 'parallel'];

const scalar = (text: string): unknown => (/^-?\d+$/.test(text) ? Number(text) : text);

/** `throttle.batch.max=2000 hold=48h` -> { throttle: { batch: { max: 2000 } }, hold: '48h' }. @throws Problem InvalidUsage. */
export function tuning(settings: readonly string[]): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const setting of settings) {
    const match = /^([A-Za-z][A-Za-z0-9.]*)=(.*)$/s.exec(setting);
    const [first = '', ...rest] = match?.[1]?.split('.') ?? [];
    if (match === null || !TUNABLE.includes(first) || rest.some((part) => part === '' || part === '__proto__'))
      throw new Problem('InvalidUsage', '--set takes key=value', {
        value: setting,
        hint: `keys: ${TUNABLE.join(', ')}; as --set throttle.parallel=4 --set hold=48h`,
      });
    const path = [first, ...rest];
    const last = path.pop() ?? '';
    let at = result;
    for (const part of path) {
      const inner = at[part];
      at = at[part] = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
    }
    at[last] = scalar(match[2] ?? '');
  }
  return result;
}

function argument(name: string, by: string, requestId: string, options: MessageOptions): Record<string, unknown> {
  if (name === 'tune' && (options.set ?? []).length === 0)
    throw new Problem('InvalidUsage', 'tune says nothing to change', { hint: 'add --set throttle.parallel=4' });
  return {
    by,
    requestId,
    ...(options.reason === undefined ? {} : { reason: options.reason }),
    ...(options.gate === undefined ? {} : { gate: options.gate }),
    ...(options.target === undefined ? {} : { target: options.target }),
    ...tuning(options.set ?? []),
  };
}

const PAST: Readonly<Record<string, string>> = {
  approve: 'approved',
  reject: 'rejected',
  pause: 'paused',
  resume: 'resumed',
  rollback: 'rollback asked',
  tune: 'tuned',
  skip: 'skipped',
  retry: 'tried again',
};

/** Sends one update to an open run and prints its answer. */
export async function send(
  context: Context,
  temporal: Temporal,
  seen: Seen,
  { name, options }: { readonly name: string; readonly options: MessageOptions },
): Promise<void> {
  const requestId = options.requestId ?? randomUUID();
  // Resting where it rested is not what is waited for: the message moves the run first.
  const before = options.wait ? (await readStatus(temporal, seen)).waitingFor : null;
  const answer = await temporal.update<Answer>(seen.id, name, argument(name, context.by, requestId, options));
  const { terminal } = context;
  if (terminal.json) (options.wait ? terminal.printJsonLine : terminal.printJson)({ id: seen.id, ...answer });
  else {
    const duplicate = answer.duplicate ? ' (it was before: nothing new)' : '';
    terminal.print(
      pairs([
        [PAST[name] ?? name, `${seen.id}${duplicate}`],
        ['status', `${answer.status}, phase ${answer.phase}`],
        ['next', `pgshift watch ${seen.id}`],
      ]),
    );
  }
  if (!options.wait) return;
  const back = name === 'rollback' || name === 'reject';
  await followAndReport(context, temporal, seen.id, {
    until: back ? 'end' : 'rest',
    before,
    wanted: name === 'rollback' ? 'rolled_back' : null,
  });
}

export const message =
  (name: string) =>
  async (context: Context, [typed = '']: readonly string[], options: MessageOptions): Promise<void> => {
    const temporal = await context.temporal();
    const seen = await resolveRun(temporal, typed);
    if (seen.endedAt !== null)
      throw new Problem('NotNow', `${seen.id} has ended`, {
        hint: `see pgshift report ${seen.id}; take it back: pgshift rollback ${seen.id}`,
      });
    await send(context, temporal, seen, { name, options });
  };
