/** `pgshift plan FILE`: shows, never changes. */
import { Problem } from '../../plan/model/errors';
import type { Context } from '../context';
import { Exit } from '../failure';
import { openers } from '../gates';
import { roadOf } from '../../plan/model/road';
import { loadStartable } from '../planFile';
import type { LoadedOf, LoadedPair } from '../planFile';
import { makePlan } from '../planning';
import { renderPlan } from '../render/plan';
import { renderRoad } from '../render/road';
import { renderTablesPlan } from '../render/tablesPlan';
import type { PlannedTables } from '../tablePlanning';

interface PlanOptions {
  readonly database?: string;
  readonly serverVersion?: number;
  readonly emitInput?: boolean;
  readonly sql?: boolean;
}

/** Something is refused: exit 3. */
const REFUSED = 3;

/** Of a blue-green or a canary: the steps and what clients notice. What the databases say comes from  mode: dry-run. */
function showRoad({ terminal }: Context, { file, input, plan }: LoadedPair, options: PlanOptions): void {
  if (options.emitInput) return terminal.printJson(input);
  const road = roadOf(plan);
  if (terminal.json) terminal.printJson(road);
  else terminal.print(renderRoad({ road, file, gates: openers(plan) }, terminal.colors));
}

/** Of what reads two databases: the same look as the run's. */
async function showTables<P>(
  { terminal }: Context,
  { file, input }: LoadedOf<P>,
  options: PlanOptions,
  make: () => Promise<PlannedTables>,
): Promise<void> {
  if (options.emitInput) return terminal.printJson(input);
  if (options.serverVersion !== undefined)
    throw new Problem('InvalidUsage', '--server-version: this plan is made from both databases, not from a version', {
      hint: 'leave it out',
    });
  const { plan, gates } = await make();
  if (terminal.json) terminal.printJson(plan);
  else terminal.print(renderTablesPlan({ plan, file, gates, withSql: options.sql === true }, terminal.colors));
  if (!plan.runnable) throw new Exit(REFUSED);
}

export async function plan(context: Context, [file = '']: readonly string[], options: PlanOptions): Promise<void> {
  const { terminal } = context;
  const startable = loadStartable(file, { database: options.database });
  if ('pair' in startable) return showRoad(context, startable.pair, options);
  if ('data' in startable) {
    const { planData } = await import('../tablePlanning.js');
    const { data } = startable;
    return showTables(context, data, options, () => planData(context, data));
  }
  if ('validation' in startable) {
    const { planValidation } = await import('../tablePlanning.js');
    const { validation } = startable;
    return showTables(context, validation, options, () => planValidation(context, validation));
  }
  const loaded = startable.schema;
  if (options.emitInput) return terminal.printJson(loaded.input);
  const { plan, settings, offline } = await makePlan(context, loaded, options.serverVersion);
  if (terminal.json) terminal.printJson({ ...plan, ...(offline ? { offline } : {}) });
  else {
    const view = { plan, file: loaded.file, gates: openers(settings), hold: settings.hold, offline };
    terminal.print(renderPlan({ ...view, withSql: options.sql === true }, terminal.colors));
  }
  if (!plan.runnable) throw new Exit(REFUSED);
}
