/**
 * `pgshift start FILE`. What the CLI can see for itself (the plan file, and the database when it is configured here) is refused before anything is
 * started, with the place in the file; everything else is the run's own business. A refusal within the first moments is waited for.
 */
import { Problem, isProblem } from '../../plan/model/errors';
import type { Kind } from '../../plan/model/plan';
import type { Context } from '../context';
import { checksumOf } from '../../plan/sql/planner';
import type { StoredMigration } from '../direct';
import { isOutOfSight, storeLargePlan, storedMigration, targetOf } from '../direct';
import { hasEnded } from '../follow';
import type { Until } from '../follow';
import { loadStartable } from '../planFile';
import type { LoadedPlan, Startable } from '../planFile';
import { makePlan } from '../planning';
import { pairs } from '../render/table';
import type { Temporal } from '../temporal';
import { readStatus } from './status';
import { followAndReport } from './watch';

/** The contract's limit of a workflow's argument. */
const MAX_ARGUMENT_BYTES = 128 * 1024;
/** A name that is used, a missing privilege and their like come within this; a worker that is busy costs no more. */
const EARLY_MS = 5_000;
const EARLY_PHASES: readonly string[] = ['preflight', 'guardrails'];

interface StartOptions {
  readonly database?: string;
  readonly id?: string;
  readonly watch?: boolean;
  readonly until?: Until;
  readonly dryRun?: boolean;
  readonly summary?: string;
  readonly ifNeeded?: boolean;
}

/** Refuses what the plan's text already says; a database that only the worker sees is the worker's. */
async function refuseEarly(context: Context, loaded: LoadedPlan): Promise<void> {
  let planned;
  try {
    planned = await makePlan(context, loaded);
  } catch (error) {
    if (isOutOfSight(error)) return;
    throw error;
  }
  const [refused, ...more] = planned.plan.findings.filter((finding) => finding.level === 'error' && !finding.allowed);
  if (planned.plan.runnable || refused === undefined) return;
  const others = more.length === 0 ? '' : ` (and ${more.length} more: pgshift lint ${loaded.file})`;
  throw new Problem('Refused', `${refused.rule}: ${refused.message}`, {
    where: { file: refused.file ?? loaded.file, line: refused.line, column: refused.column },
    hint: `${refused.alternative ?? `name rule ${refused.rule} under allow, with a reason`}${others}`,
    details: { findings: [refused, ...more] },
  });
}

async function argumentOf(context: Context, loaded: LoadedPlan): Promise<unknown> {
  const bytes = Buffer.byteLength(JSON.stringify(loaded.input));
  if (bytes <= MAX_ARGUMENT_BYTES) return loaded.input;
  const { kind, name, database, mode } = loaded.plan;
  if (mode === 'dry-run')
    throw new Problem(
      'InvalidPlan',
      `the plan is larger than 128 kB (${bytes} bytes): a dry run writes nothing, so it cannot be put down`,
      {
        where: { file: loaded.file },
        hint: 'pgshift plan shows the same without a run',
      },
    );
  const planRef = await storeLargePlan(await targetOf(context, database), name, loaded.input);
  return { kind, name, database, planRef };
}

/** Waits a moment for a refusal of the run's own. */
async function earlyEnd(temporal: Temporal, id: string, runId: string): Promise<Problem | null> {
  for (const end = Date.now() + EARLY_MS; Date.now() < end;) {
    const seen = await temporal.describe(id, runId);
    if (seen === null) return null;
    if (seen.execution === 'FAILED') return temporal.failure(id, runId);
    if (seen.endedAt !== null) return null;
    const status = await readStatus(temporal, seen);
    if (!status.live || hasEnded(status) || (!EARLY_PHASES.includes(status.phase) && status.status !== 'pending'))
      return null;
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
  return null;
}

/**
 * A name that the database has as completed, as far as the CLI can see it: planning the change against its own outcome would only mislead. True when a run
 * of that name is under way: then the run decides, and its half done change is no reason to refuse.
 */
async function refuseUsedName(context: Context, { plan, sql }: LoadedPlan): Promise<boolean> {
  if (plan.mode === 'dry-run') return false;
  let stored: StoredMigration | null;
  try {
    stored = await storedMigration(await targetOf(context, plan.database), plan.name);
  } catch (error) {
    if (isOutOfSight(error)) return false;
    throw error;
  }
  if (stored?.status !== 'completed') return stored?.status === 'running';
  if (stored.checksum === checksumOf(sql))
    throw new Problem('AlreadyApplied', `${plan.name} is completed on ${plan.database}`);
  throw new Problem('ChecksumMismatch', `${plan.name} was completed on ${plan.database} with other SQL`);
}

interface Started {
  readonly id: string;
  readonly runId: string;
  readonly database: string;
  readonly name: string;
  readonly url: string | null;
  readonly next: string;
}

function announce({ terminal }: Context, started: Started, watching: boolean): void {
  if (terminal.json) return watching ? terminal.printJsonLine(started) : terminal.printJson(started);
  const text = pairs(
    [
      ['started', started.id],
      ['look', started.url],
      ['next', started.next],
    ],
    terminal.colors.dim,
  );
  if (watching) terminal.note(text);
  else terminal.print(text);
}

interface Request {
  readonly type: 'schemaMigration' | 'dataMigration' | 'blueGreen' | 'validation' | 'canary';
  readonly name: string;
  /** Where the state lies. */
  readonly database: string;
  readonly kind: Kind;
  readonly description: string | undefined;
  /** Refuses what can be seen from here. */
  refuseEarly(): Promise<void>;
  argument(): Promise<unknown>;
}

interface Whole {
  readonly file: string;
  readonly input: unknown;
  readonly plan: { readonly name: string; readonly kind: Kind; readonly description?: string | undefined };
}

/** Of a plan that is always passed whole: nothing of it can be refused from here, but its size. `hint` = how to make it smaller. */
const wholeRequest = (
  type: Request['type'],
  { file, input, plan: { name, kind, description } }: Whole,
  database: string,
  hint: string,
): Request => ({
  type,
  name,
  database,
  kind,
  description,
  refuseEarly: () => Promise.resolve(),
  argument: () => {
    if (Buffer.byteLength(JSON.stringify(input)) > MAX_ARGUMENT_BYTES)
      throw new Problem('InvalidPlan', 'the plan is larger than 128 kB', { where: { file }, hint });
    return Promise.resolve(input);
  },
});

function requestOf(context: Context, startable: Startable): Request {
  if ('data' in startable)
    return wholeRequest('dataMigration', startable.data, startable.data.plan.target, 'choose tables by patterns');
  if ('pair' in startable)
    return wholeRequest(
      startable.pair.plan.kind === 'canary' ? 'canary' : 'blueGreen',
      startable.pair,
      startable.pair.plan.blue,
      'apply the change as a schema migration of its own',
    );
  if ('validation' in startable)
    return wholeRequest(
      'validation',
      startable.validation,
      startable.validation.plan.target,
      'choose tables by patterns',
    );
  const { schema: loaded } = startable;
  const { name, database, kind, description } = loaded.plan;
  return {
    type: 'schemaMigration',
    name,
    database,
    kind,
    description,
    async refuseEarly() {
      if (!(await refuseUsedName(context, loaded))) await refuseEarly(context, loaded);
    },
    argument: () => argumentOf(context, loaded),
  };
}

export async function start(context: Context, [file = '']: readonly string[], options: StartOptions): Promise<void> {
  const { terminal } = context;
  if (options.until !== undefined && !options.watch)
    throw new Problem('InvalidUsage', '--until goes with --watch', { hint: 'add --watch' });
  const asked = requestOf(context, loadStartable(file, { database: options.database, dryRun: options.dryRun }));
  const { name, database, kind, description } = asked;
  const id = options.id ?? `${kind === 'validation' ? 'validation' : 'migration'}/${database}/${name}`;
  try {
    const temporal = await context.temporal();
    await asked.refuseEarly();
    const runId = await temporal.start({
      type: asked.type,
      id,
      argument: await asked.argument(),
      summary: options.summary ?? `${name} on ${database}${description === undefined ? '' : `: ${description}`}`,
      by: context.by,
      attributes: { name, database, kind },
    });
    const started = { id, runId, database, name, url: temporal.url(id), next: `pgshift watch ${options.id ?? name}` };
    announce(context, started, options.watch === true);
    const worked = await temporal.hasWorker();
    if (!worked)
      terminal.note(
        `warning: no worker polls task queue ${temporal.settings.taskQueue}; the run waits for one (pgshift worker)`,
      );
    if (options.watch) return await followAndReport(context, temporal, id, { until: options.until ?? 'hold' });
    const early = worked ? await earlyEnd(temporal, id, runId) : null;
    if (early !== null) throw early;
  } catch (error) {
    if (!options.ifNeeded || !isProblem(error) || error.code !== 'AlreadyApplied') throw error;
    if (terminal.json) terminal.printJson({ id, database, name, alreadyApplied: true });
    else terminal.print(`already applied: ${name} on ${database}`);
  }
}
