/**
 * `pgshift verify FILE`: a workflow, or with --local this process alone. The verdict is the exit code; rows that differ are read from the target by the
 * CLI's own connection and masked unless their values were asked for.
 */
import { Problem } from '../../plan/model/errors';
import type { ValidationPlan, VerifyResult } from '../../plan/model/validation';
import type { ValidationProgress, ValidationStatus } from '../../plan/model/validationState';
import { formatCount, formatDuration } from '../../plan/model/values';
import type { Context } from '../context';
import { targetOf } from '../direct';
import { Exit, INTERRUPTED } from '../failure';
import { pairs } from '../render/table';
import { renderVerify } from '../render/verify';
import type { Temporal } from '../temporal';
import { loadValidation } from '../validationFile';
import { sampled, storedValidation } from '../validationReport';

interface VerifyOptions {
  readonly local?: boolean;
  readonly showValues?: boolean;
  readonly repair?: boolean;
}

const LOOK_MS = 300;
const TELL_MS = 2_000;
const DIFFERENT = 1;

export async function verify(context: Context, [file = '']: readonly string[], options: VerifyOptions): Promise<void> {
  const { plan, input } = loadValidation(file, options.repair);
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once('SIGINT', onSignal);
  process.once('SIGTERM', onSignal);
  try {
    const result = options.local
      ? await runLocally(context, plan, interrupt.signal)
      : await runWorkflow(context, { plan, input }, interrupt.signal);
    await show(context, plan, result, options.showValues === true);
    if (!result.passed) throw new Exit(DIFFERENT);
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

/** One line at most every two seconds. */
function teller(context: Context): (line: string) => void {
  let last = 0;
  return (line) => {
    if (performance.now() - last < TELL_MS) return;
    last = performance.now();
    if (!context.terminal.json) context.terminal.note(line);
  };
}

const progressLine = (phase: string, table: string, rows: number, total: number, rate: number, eta: number | null) =>
  `${phase} ${table}: ${formatCount(rows)} of ~${formatCount(total)} rows${rate > 0 ? `, ${formatCount(rate)} rows/s` : ''}${eta ? `, ${formatDuration(eta * 1_000)} left` : ''}`;

async function runLocally(context: Context, plan: ValidationPlan, signal: AbortSignal): Promise<VerifyResult> {
  const [source, target] = [await targetOf(context, plan.source), await targetOf(context, plan.target)];
  const { verifyLocally } = await import('../../postgres/verify/index.js');
  const tell = teller(context);
  try {
    return await verifyLocally({
      plan,
      source,
      target,
      signal,
      progress: (p) => tell(progressLine(p.phase, p.table, p.rowsDone, p.rowsTotal, p.rowsPerSecond, p.etaSeconds)),
      log: (level, message) => (level === 'debug' ? undefined : context.terminal.note(message)),
    });
  } catch (error) {
    if (!signal.aborted) throw error;
    context.terminal.note('interrupted: the same command goes on where it stopped');
    throw new Exit(INTERRUPTED);
  }
}

interface Loaded {
  readonly plan: ValidationPlan;
  readonly input: Readonly<Record<string, unknown>>;
}

async function runWorkflow(context: Context, { plan, input }: Loaded, signal: AbortSignal): Promise<VerifyResult> {
  const temporal = await context.temporal();
  const id = `validation/${plan.target}/${plan.name}`;
  const runId = await temporal.start({
    type: 'validation',
    id,
    argument: input,
    summary: `${plan.name}: ${plan.source} against ${plan.target}`,
    by: context.by,
    attributes: { name: plan.name, database: plan.target, kind: 'validation' },
  });
  if (!context.terminal.json)
    context.terminal.note(
      pairs([
        ['started', id],
        ['look', temporal.url(id)],
      ]),
    );
  if (!(await temporal.hasWorker()))
    context.terminal.note(
      `warning: no worker polls task queue ${temporal.settings.taskQueue}; the run waits for one (pgshift worker), or use --local`,
    );
  await untilEnded(context, temporal, { id, runId }, signal);
  return resultOf(context, temporal, plan, { id, runId });
}

interface RunRef {
  readonly id: string;
  readonly runId: string;
}

async function untilEnded(context: Context, temporal: Temporal, { id, runId }: RunRef, signal: AbortSignal) {
  const tell = teller(context);
  for (;;) {
    const seen = await temporal.describe(id, runId);
    if (seen === null || seen.endedAt !== null) return;
    if (signal.aborted) {
      context.terminal.note(`the run goes on: pgshift watch ${id}`);
      throw new Exit(INTERRUPTED);
    }
    const progress = await temporal.query<ValidationProgress>(id, 'progress', runId);
    const [table] = progress?.tables ?? [];
    if (progress && table)
      tell(
        progressLine(
          progress.phase,
          table.table,
          table.rowsDone,
          table.rowsTotal,
          table.rowsPerSecond,
          progress.etaSeconds,
        ),
      );
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** @throws Problem of the run that failed. */
async function resultOf(context: Context, temporal: Temporal, plan: ValidationPlan, { id, runId }: RunRef) {
  const failure = await temporal.failure(id, runId);
  if (failure !== null) throw failure;
  // The whole of it lies in the target; what the workflow answers may be shortened.
  const stored = await storedValidation(context, plan.target, plan.name);
  if (stored !== null) return stored.result;
  const report = await temporal.query<ValidationStatus & VerifyResult>(id, 'report', runId);
  if (report === null)
    throw new Problem('Unreachable', 'no worker answers, and the target cannot be reached from here');
  const { passed, errors, warnings, statistics, tables } = report;
  return { passed, errors, warnings, statistics, tables };
}

async function show(context: Context, plan: ValidationPlan, result: VerifyResult, showValues: boolean): Promise<void> {
  const { terminal } = context;
  const full = await sampled(context, plan, result, showValues);
  if (terminal.json) return terminal.printJson(full);
  terminal.print(renderVerify(full, plan, terminal.colors));
  if (!full.passed && !showValues && full.tables.some((table) => (table.samples ?? []).length > 0))
    terminal.note('keys and values are masked; --show-values shows them');
}
