/** Which plan a validation is of. */
import { createHash } from 'node:crypto';
import type { ValidationPlan } from '../../plan/model/validation';

/** The same plan, the same one: a run that died is taken up by it. */
export const validationChecksum = (plan: ValidationPlan): string =>
  createHash('sha256').update(JSON.stringify(plan)).digest('hex');
