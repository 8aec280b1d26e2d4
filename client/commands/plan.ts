/** `pgshift plan FILE`: shows, never changes. */
import type { Context } from '../context';
import { Exit } from '../failure';
import { openers } from '../gates';
import { roadOf } from '../../plan/model/road';
import { loadPlan, loadStartable } from '../planFile';
import type { LoadedPair } from '../planFile';
import { makePlan } from '../planning';
import { renderPlan } from '../render/plan';
import { renderRoad } from '../render/road';

interface PlanOptions {
  readonly database?: string;
  readonly serverVersion?: number;
  readonly emitInput?: boolean;
  readonly sql?: boolean;
}

/** Something is refused: exit 3. */
const REFUSED = 3;

/** Of a blue-green: the steps and what clients notice. What the databases say comes from  mode: dry-run. */
function showRoad({ terminal }: Context, { file, input, plan }: LoadedPair, options: PlanOptions): void {
  if (options.emitInput) return terminal.printJson(input);
  const road = roadOf(plan);
  if (terminal.json) terminal.printJson(road);
  else terminal.print(renderRoad({ road, file, gates: openers(plan) }, terminal.colors));
}

export async function plan(context: Context, [file = '']: readonly string[], options: PlanOptions): Promise<void> {
  const { terminal } = context;
  const startable = loadStartable(file, { database: options.database });
  if ('pair' in startable) return showRoad(context, startable.pair, options);
  // What is not planned from SQL says so by the same error as ever.
  const loaded = 'schema' in startable ? startable.schema : loadPlan(file, { database: options.database });
  if (options.emitInput) return terminal.printJson(loaded.input);
  const { plan, settings, offline } = await makePlan(context, loaded, options.serverVersion);
  if (terminal.json) terminal.printJson({ ...plan, ...(offline ? { offline } : {}) });
  else {
    const view = { plan, file: loaded.file, gates: openers(settings), hold: settings.hold, offline };
    terminal.print(renderPlan({ ...view, withSql: options.sql === true }, terminal.colors));
  }
  if (!plan.runnable) throw new Exit(REFUSED);
}
