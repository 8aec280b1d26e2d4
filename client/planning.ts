/** From a loaded plan file to its steps, as `plan`, `lint` and `start` need them: findings and refusals carry the places of the file. */
import type { SchemaPlan } from '../plan/model/steps';
import { validatePlan } from '../plan/model/validate';
import { planMigration } from '../plan/sql/planner';
import type { PlanOptions } from '../plan/sql/planner';
import { environmentDefaults } from '../worker/config';
import type { Context } from './context';
import { catalogOf, targetOf, versionNumber } from './direct';
import { offlineCatalog } from './offlineCatalog';
import { placedInPlan } from './planFile';
import type { LoadedPlan } from './planFile';

export interface Planned {
  readonly plan: SchemaPlan;
  /** The plan as it will run: the environment's defaults under the plan's own keys. */
  readonly settings: LoadedPlan['plan'];
  /** Planned without a connection: no sizes, no times, no look at what is there. */
  readonly offline: boolean;
}

const inFile = (plan: SchemaPlan, loaded: LoadedPlan): SchemaPlan => ({
  ...plan,
  findings: plan.findings.map((finding) => {
    const {
      file = loaded.file,
      line = finding.line,
      column = finding.column,
    } = loaded.at(finding.line, finding.column);
    return { ...finding, file, line, column };
  }),
});

async function withDefaults(context: Context, loaded: LoadedPlan): Promise<LoadedPlan['plan']> {
  const config = await context.config();
  const defaults = config.databases.has(loaded.plan.database) ? environmentDefaults(config, loaded.plan.database) : {};
  return Object.keys(defaults).length === 0 ? loaded.plan : validatePlan({ ...defaults, ...loaded.input });
}

/**
 * @param serverVersion plan without a connection, for this version (18 or 180006).
 * @throws Problem as the planner, with places in the file; Unreachable, UnknownDatabase.
 */
export async function makePlan(
  context: Context,
  loaded: LoadedPlan,
  serverVersion?: number,
  options: Pick<PlanOptions, 'lint'> = {},
): Promise<Planned> {
  const settings = await withDefaults(context, loaded);
  try {
    if (serverVersion !== undefined) {
      const catalog = await offlineCatalog(loaded.sql, versionNumber(serverVersion));
      return { plan: inFile(await planMigration(settings, catalog, options), loaded), settings, offline: true };
    }
    const catalog = await catalogOf(await targetOf(context, settings.database));
    return { plan: inFile(await planMigration(settings, catalog, options), loaded), settings, offline: false };
  } catch (error) {
    throw placedInPlan(error, loaded);
  }
}
