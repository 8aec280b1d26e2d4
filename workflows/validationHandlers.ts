/**
 * What a person may say to a validation: pause and resume, by signal and by update, through the same reducer as everywhere. What makes no sense for a
 * run that changes nothing is refused and shown.
 */
import {
  currentUpdateInfo,
  defineQuery,
  defineSignal,
  defineUpdate,
  setDefaultSignalHandler,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { ERRORS } from '../plan/model/errors';
import type { MessageName, Moment, Outcome } from '../plan/model/inbox';
import { DESCRIPTIONS, MESSAGE_NAMES } from '../plan/model/inbox';
import { reduce } from '../plan/model/messages';
import type { ValidationLive } from '../plan/model/validationState';
import { validationProgress, validationReport, validationStatus } from '../plan/model/validationState';
import { fail } from './failure';
import { PROGRESS_SIGNAL } from './handlers';
import type { UpdateAnswer } from './handlers';
import type { Validation } from './validation';

function momentOf(run: Validation, via: Moment['via']): Moment {
  const by = workflowInfo().memo?.['startedBy'];
  return {
    now: new Date(Date.now()).toISOString(),
    via,
    status: run.state.status,
    gates: {},
    open: [],
    holding: false,
    unwell: false,
    awaiting: null,
    starter: typeof by === 'string' ? by : null,
    noRollback: 'a validation changes nothing that could be taken back',
  };
}

const NOT_HERE: Outcome = { accepted: false, code: 'NotNow', message: 'a validation has nothing to tune' };

function apply(run: Validation, name: MessageName, argument: unknown, via: 'signal' | 'update'): Outcome {
  const s = run.state;
  if (name === 'tune') {
    if (via === 'signal') refuse(run, name, NOT_HERE);
    return NOT_HERE;
  }
  const { inbox, outcome } = reduce(name, argument, s.inbox, momentOf(run, via));
  s.inbox = inbox;
  run.show();
  return outcome;
}

function refuse(run: Validation, name: string, outcome: Outcome): void {
  if (outcome.accepted) return;
  const at = new Date(Date.now()).toISOString();
  const refused = { at, name, code: outcome.code, message: outcome.message };
  run.state.inbox = { ...run.state.inbox, refused: [...run.state.inbox.refused, refused].slice(-5) };
  run.show();
}

function throwRefused(outcome: Outcome): void {
  if (!outcome.accepted) throw fail({ code: outcome.code, message: outcome.message, hint: ERRORS[outcome.code].hint });
}

const isLive = (report: unknown): report is ValidationLive =>
  typeof report === 'object' && report !== null && typeof (report as ValidationLive).tablesDone === 'number';

function setMessage(run: Validation, name: MessageName): void {
  const description = DESCRIPTIONS[name];
  setHandler(defineSignal<[unknown]>(name), (argument) => void apply(run, name, argument, 'signal'), { description });
  setHandler(
    defineUpdate<UpdateAnswer, [unknown]>(name),
    (argument) => {
      const outcome = apply(run, name, argument, 'update');
      throwRefused(outcome);
      const { status, phase } = validationStatus(run.state);
      const requestId = (outcome.accepted ? outcome.requestId : null) ?? currentUpdateInfo()?.id ?? '';
      return { accepted: true, duplicate: outcome.accepted && outcome.duplicate, status, phase, requestId };
    },
    {
      description,
      validator: (argument) =>
        throwRefused(
          name === 'tune' ? NOT_HERE : reduce(name, argument, run.state.inbox, momentOf(run, 'update')).outcome,
        ),
    },
  );
}

export function setValidationHandlers(run: Validation): void {
  for (const name of MESSAGE_NAMES) setMessage(run, name);
  setHandler(
    defineSignal<[unknown]>(PROGRESS_SIGNAL),
    (report) => {
      if (!isLive(report) || run.state.endedAt !== null) return;
      run.state.live = report;
      run.show();
    },
    { description: "pgshift's own: the running phase says how far it is" },
  );
  setDefaultSignalHandler((name) =>
    refuse(run, name, { accepted: false, code: 'InvalidMessage', message: `no signal ${name.slice(0, 40)}` }),
  );
  setHandler(defineQuery('status'), () => validationStatus(run.state), {
    description: 'Where it is, whether it is paused and by whom',
  });
  setHandler(defineQuery('progress'), () => validationProgress(run.state), {
    description: 'Rows and rate; as old as the last report of the running phase',
  });
  setHandler(defineQuery('report'), () => validationReport(run.state), {
    description: 'Status, and what was found: errors, warnings, tables with their counts; never a key or a value',
  });
}
