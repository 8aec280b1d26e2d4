/** `pgshift plan FILE`: shows, never changes. */
import type { Context } from '../context';
import { Exit } from '../failure';
import { openers } from '../gates';
import { loadPlan } from '../planFile';
import { makePlan } from '../planning';
import { renderPlan } from '../render/plan';

interface PlanOptions {
  readonly database?: string;
  readonly serverVersion?: number;
  readonly emitInput?: boolean;
  readonly sql?: boolean;
}

/** Something is refused: exit 3. */
const REFUSED = 3;

export async function plan(context: Context, [file = '']: readonly string[], options: PlanOptions): Promise<void> {
  const { terminal } = context;
  const loaded = loadPlan(file, { database: options.database });
  if (options.emitInput) return terminal.printJson(loaded.input);
  const { plan, settings, offline } = await makePlan(context, loaded, options.serverVersion);
  if (terminal.json) terminal.printJson({ ...plan, ...(offline ? { offline } : {}) });
  else {
    const view = { plan, file: loaded.file, gates: openers(settings), hold: settings.hold, offline };
    terminal.print(renderPlan({ ...view, withSql: options.sql === true }, terminal.colors));
  }
  if (!plan.runnable) throw new Exit(REFUSED);
}
