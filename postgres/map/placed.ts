/** What Postgres says of a plan's expression, with its place in the plan. */
import type { ErrorCode } from '../../plan/model/errors';
import { Problem, isProblem } from '../../plan/model/errors';
import { sqlstate } from '../toProblem';
import { ROW } from './spec';

const CODES: Readonly<Partial<Record<ErrorCode, ErrorCode>>> = { StepFailed: 'InvalidPlan', SqlSyntax: 'InvalidPlan' };

/** @throws Problem of the same code (InvalidPlan where it has none of its own) with where.path. */
export async function placed<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isProblem(error) || sqlstate(error) === undefined) throw error;
    const said = error.message.replace(/^[^:]*: /, '').replaceAll(`${ROW}.`, '');
    throw new Problem(CODES[error.code] ?? error.code, `${path}: ${said}`, { where: { path }, hint: error.hint });
  }
}
