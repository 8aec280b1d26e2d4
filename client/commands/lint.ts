/** `pgshift lint FILE`: findings for people and for CI. */
import type { Context } from '../context';
import { isOutOfSight } from '../direct';
import { Exit } from '../failure';
import { loadPlan } from '../planFile';
import type { LoadedPlan } from '../planFile';
import { makePlan } from '../planning';
import type { Planned } from '../planning';
import { counts, githubLines, sarif } from '../render/findings';
import { renderFinding } from '../render/plan';

interface LintOptions {
  readonly database?: string;
  readonly serverVersion?: number;
  readonly format?: 'text' | 'json' | 'github' | 'sarif';
  readonly failOn?: 'error' | 'warning';
}

const REFUSED = 3;
/** What is assumed where CI sees no database and names no version. */
const NEWEST = 18;

/** CI often sees no database: the rules that need none still say what they can. */
async function planned(context: Context, loaded: LoadedPlan, version: number | undefined): Promise<Planned> {
  try {
    return await makePlan(context, loaded, version, { lint: true });
  } catch (error) {
    if (version !== undefined || !isOutOfSight(error)) throw error;
    context.terminal.note(
      `no connection to ${loaded.plan.database}: linted for PostgreSQL ${NEWEST} without its catalogue`,
    );
    return makePlan(context, loaded, NEWEST, { lint: true });
  }
}

export async function lint(context: Context, [file = '']: readonly string[], options: LintOptions): Promise<void> {
  const { terminal } = context;
  const loaded = loadPlan(file, { database: options.database });
  const { plan } = await planned(context, loaded, options.serverVersion);
  const { findings } = plan;
  const format = options.format ?? (terminal.json ? 'json' : 'text');
  const count = counts(findings);
  if (format === 'json') terminal.printJson({ findings, counts: count });
  else if (format === 'sarif') terminal.printJson(sarif(findings, loaded.file));
  else if (format === 'github') for (const line of githubLines(findings, loaded.file)) terminal.print(line);
  else {
    for (const finding of findings) terminal.print(renderFinding(finding, loaded.file, terminal.colors));
    terminal.print(`${count.error} errors, ${count.warning} warnings, ${count.info} notes`);
  }
  const errors = findings.filter((finding) => finding.level === 'error' && !finding.allowed).length;
  if (errors > 0 || (options.failOn === 'warning' && count.warning > 0)) throw new Exit(REFUSED);
}
