/** `pgshift watch ID`, and what `start --watch` and `--wait` share: follow, then say how it ended. Ctrl-C ends the watching, never the run. */
import { ERRORS, Problem } from '../../plan/model/errors';
import type { Status, WaitingFor } from '../../plan/model/status';
import type { ValidationReport } from '../../plan/model/validationState';
import type { Context } from '../context';
import { Exit, INTERRUPTED } from '../failure';
import { follow, hasEnded } from '../follow';
import type { Until } from '../follow';
import { createProgressView } from '../render/progress';
import { renderReport } from '../render/report';
import { renderStatus } from '../render/status';
import type { StatusView } from '../render/status';
import { resolveRun } from '../resolveRun';
import type { Temporal } from '../temporal';
import { isValidation, viewValidation } from '../validationReport';
import { readReport } from './report';

/** Their keys lie in pgshift.differences. */
const ROW_CODES: readonly string[] = ['TransformFailed', 'ProofFailed', 'DuplicateRows'];

/** completed and holding 0; rolled_back and cancelled 1; failed by its own code: bad input 2, refused 3, unreachable 4, else 1. */
async function outcome(temporal: Temporal, status: StatusView): Promise<Problem | null> {
  if (!hasEnded(status) || status.status === 'completed') return null;
  const failure = await temporal.failure(status.id);
  if (status.status === 'cancelled')
    return new Problem('RolledBack', 'the run was cancelled', { hint: 'see the report' });
  return failure ?? new Problem('StepFailed', `the run ended ${status.status}`);
}

/** Follows to `until`, prints the report (or the last status), and ends with the run's own exit code. */
export async function followAndReport(
  context: Context,
  temporal: Temporal,
  id: string,
  {
    until,
    before = null,
    wanted = null,
  }: {
    readonly until: Until;
    readonly before?: WaitingFor | null;
    /** The end that was asked for: no failure then. */
    readonly wanted?: Status['status'] | null;
  },
): Promise<void> {
  const { terminal } = context;
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  const view = createProgressView(terminal);
  let status: StatusView;
  try {
    status = await follow(temporal, id, { until, before, signal: interrupt.signal, onSnapshot: view.show });
  } finally {
    view.stop();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
  if (interrupt.signal.aborted) {
    terminal.note(`the run goes on: pgshift watch ${id}`);
    throw new Exit(INTERRUPTED);
  }
  const report = await readReport(temporal, id);
  if (isValidation(report)) {
    const seen = await viewValidation(context, report as unknown as ValidationReport, false);
    if (terminal.json) terminal.printJsonLine(seen.json);
    else terminal.print(seen.text ?? renderStatus(status, null, temporal.url(id), terminal.colors));
    if (seen.json.passed === false) throw new Exit(1);
  } else if (terminal.json) terminal.printJsonLine(report);
  else if (hasEnded(status) || status.status === 'holding') terminal.print(renderReport(report, terminal.colors));
  else terminal.print(renderStatus(status, null, temporal.url(id), terminal.colors));
  if (status.status === wanted) return;
  const problem = await outcome(temporal, status);
  if (problem === null) return;
  if (!terminal.json && ROW_CODES.includes(problem.code))
    terminal.note(`which rows: pgshift report ${id} --show-values`);
  if (status.status === 'failed') throw problem;
  const { renderProblem } = await import('../render/error.js');
  if (!terminal.json) terminal.fail(renderProblem(problem, terminal.errorColors));
  throw new Exit(ERRORS.RolledBack.exit);
}

export async function watch(
  context: Context,
  [typed = '']: readonly string[],
  options: { readonly until?: Until },
): Promise<void> {
  const temporal = await context.temporal();
  const seen = await resolveRun(temporal, typed);
  await followAndReport(context, temporal, seen.id, { until: options.until ?? 'hold' });
}
