/**
 * Signals, updates and queries: set synchronously before the workflow's first await, so that a message sent before the first task is
 * answered. A signal and the update of the same name go through the same reducer.
 */
import {
  condition,
  currentUpdateInfo,
  defineQuery,
  defineSignal,
  defineUpdate,
  setDefaultSignalHandler,
  setHandler,
} from '@temporalio/workflow';
import type { MessageName, Outcome } from '../plan/model/inbox';
import { DESCRIPTIONS, MESSAGE_NAMES } from '../plan/model/inbox';
import type { Live } from '../plan/model/state';
import type { Progress, RunStatus, Status } from '../plan/model/status';
import { progressOf } from '../plan/model/view';
import { fail } from './failure';
import { ERRORS } from '../plan/model/errors';
import type { Run } from './run';

export interface UpdateAnswer {
  readonly accepted: true;
  readonly duplicate: boolean;
  readonly status: RunStatus;
  readonly phase: string;
  readonly requestId: string;
}

/** Sent by the running activity to its own workflow, seldom: an event of the history each. */
export const PROGRESS_SIGNAL = 'reportProgress';

function refuse(outcome: Outcome): void {
  if (!outcome.accepted)
    throw fail({
      code: outcome.code,
      message: outcome.message,
      hint: ERRORS[outcome.code].hint,
    });
}

function setMessage(run: Run, name: MessageName): void {
  const description = DESCRIPTIONS[name];
  setHandler(defineSignal<[unknown]>(name), (argument) => run.signal(name, argument), { description });
  setHandler(
    defineUpdate<UpdateAnswer, [unknown]>(name),
    async (argument) => {
      // By start's reference the plan is not known at once; the validator could not judge then.
      await condition(() => run.ready);
      const outcome = run.apply(name, argument, 'update');
      refuse(outcome);
      const { status, phase } = run.status();
      const requestId = (outcome.accepted ? outcome.requestId : null) ?? currentUpdateInfo()?.id ?? '';
      return { accepted: true, duplicate: outcome.accepted && outcome.duplicate, status, phase, requestId };
    },
    {
      description,
      validator: (argument) => {
        if (run.ready) refuse(run.judge(name, argument));
      },
    },
  );
}

const isLive = (report: unknown): report is Live =>
  typeof report === 'object' && report !== null && typeof (report as Live).step === 'string';

export function setHandlers(run: Run): void {
  for (const name of MESSAGE_NAMES) setMessage(run, name);
  setHandler(
    defineSignal<[unknown]>(PROGRESS_SIGNAL),
    (report) => {
      if (isLive(report)) run.live(report);
    },
    { description: "pgshift's own: the running step says how far it is" },
  );
  setDefaultSignalHandler((name) => run.refused(name, 'InvalidMessage', `no signal ${name.slice(0, 40)}`));
  setHandler(defineQuery<Status>('status'), () => run.status(), {
    description: 'Where it is, what it waits for and why, the line that lets it go on, the way back',
  });
  setHandler(defineQuery<Progress>('progress'), () => progressOf(run.state), {
    description: 'Percent, rows and rates by table; as old as the last report of the running step',
  });
  setHandler(defineQuery<ReturnType<Run['report']>>('report'), () => run.report(), {
    description: 'Status, and what was done and proven: steps, locks really held, proofs, catalogue diff',
  });
}
