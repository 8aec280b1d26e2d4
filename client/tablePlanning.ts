/** From a loaded plan over tables of two databases to what it will do, by the CLI's own connections; findings carry the places of the file. */
import { isProblem } from '../plan/model/errors';
import type { TablesPlan } from '../plan/model/tablesPlan';
import type { ValidationPlan } from '../plan/model/validation';
import { validateDataMigration } from '../plan/model/validate';
import { planCopy } from '../postgres/copy/preflight';
import { previewValidation } from '../postgres/verify/preview';
import { environmentDefaults } from '../worker/config';
import type { Context } from './context';
import { onDatabase, targetOf } from './direct';
import { openers } from './gates';
import type { LoadedData, LoadedOf } from './planFile';
import { placed } from './planFile';

const inFile = (plan: TablesPlan, { file, locate }: Pick<LoadedOf<unknown>, 'file' | 'locate'>): TablesPlan => ({
  ...plan,
  findings: plan.findings.map((finding) => {
    if (finding.path === null) return { ...finding, file };
    const { line = finding.line, column = finding.column } = locate(finding.path);
    return { ...finding, file, line, column };
  }),
});

export interface PlannedTables {
  readonly plan: TablesPlan;
  /** Phase -> who or what opens its gate; the environment's defaults among them. */
  readonly gates: Readonly<Record<string, string>>;
}

/** @throws Problem UnknownDatabase, Unreachable, LoginFailed, ... */
export async function planData(context: Context, loaded: LoadedData): Promise<PlannedTables> {
  const [source, target] = [await targetOf(context, loaded.plan.source), await targetOf(context, loaded.plan.target)];
  const { kind: _, ...keys } = loaded.input;
  const defaults = environmentDefaults(await context.config(), loaded.plan.target);
  try {
    const plan = validateDataMigration({ ...defaults, ...keys });
    const made = await onDatabase(target, 'plan', (to) =>
      onDatabase(source, 'plan', (from) => planCopy(plan, from, to)),
    );
    return { plan: inFile(made, loaded), gates: openers(plan) };
  } catch (error) {
    throw isProblem(error) ? placed(error, loaded.locate) : error;
  }
}

/** @throws Problem as planData. */
export async function planValidation(context: Context, loaded: LoadedOf<ValidationPlan>): Promise<PlannedTables> {
  const [source, target] = [await targetOf(context, loaded.plan.source), await targetOf(context, loaded.plan.target)];
  return { plan: inFile(await previewValidation(loaded.plan, source, target), loaded), gates: {} };
}
