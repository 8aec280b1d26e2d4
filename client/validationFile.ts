/** From a path (or stdin) to a validated plan of kind `validation`; what is refused is refused with file, line, column and a caret. */
import { Problem, isProblem } from '../plan/model/errors';
import { validateValidation } from '../plan/model/validate';
import type { ValidationPlan } from '../plan/model/validation';
import { placed, readPlanText } from './planFile';
import { PlanSource } from './planSource';

export interface LoadedValidation {
  readonly file: string;
  /** The workflow's argument: as typed, no defaults. */
  readonly input: Readonly<Record<string, unknown>>;
  readonly plan: ValidationPlan;
}

/** @param repair --repair: as `repair: target`. @throws Problem NoSuchFile, InvalidPlan, NotYet. */
export function loadValidation(path: string, repair = false): LoadedValidation {
  const { file, text } = readPlanText(path);
  const source = new PlanSource(file, text);
  const json = source.json();
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new Problem('InvalidPlan', 'a plan is a map of keys', { where: source.at(0) });
  const input: Record<string, unknown> = { ...json, ...(repair ? { repair: 'target' } : {}) };
  if (input['kind'] === undefined)
    throw new Problem('InvalidPlan', 'kind: is required', {
      where: { ...source.at(0), path: 'kind' },
      hint: 'add  kind: validation',
    });
  try {
    return { file, input, plan: validateValidation(input) };
  } catch (error) {
    throw isProblem(error) ? placed(error, (at, aim) => source.locate(at, aim)) : error;
  }
}
