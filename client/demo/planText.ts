/** The steps of the demo's migration, as `pgshift plan` shows them, from the live catalogue. */
import type { Catalog } from '../../plan/model/catalog';
import type { SchemaMigrationPlan } from '../../plan/model/plan';
import type { SchemaPlan } from '../../plan/model/steps';
import { planMigration } from '../../plan/sql/planner';
import { openers } from '../gates';
import { renderPlan } from '../render/plan';
import type { Colors } from '../terminal';

export interface ShownPlan {
  readonly plan: SchemaPlan;
  readonly text: string;
}

export async function planText(settings: SchemaMigrationPlan, catalog: Catalog, colors: Colors): Promise<ShownPlan> {
  const plan = await planMigration(settings, catalog);
  const view = { plan, file: 'demo', gates: openers(settings), hold: settings.hold, offline: false, withSql: false };
  const text = renderPlan(view, colors);
  // The demo runs it itself: the line that says how to is not for here.
  return { plan, text: text.replace(/^Nothing was changed\. Run it:.*$/m, '').trimEnd() };
}
