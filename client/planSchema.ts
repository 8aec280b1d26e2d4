/** The published JSON Schema of plan files, from the same zod schemas that validate them. docs/plan.schema.json is this, committed; a test compares. */
import { z } from 'zod';
import { blueGreenSchema } from '../plan/model/blueGreen';
import { canarySchema } from '../plan/model/canary';
import { dataMigrationSchema } from '../plan/model/dataMigration';
import { rollbackSchema, schemaMigrationSchema } from '../plan/model/plan';
import { validationSchema } from '../plan/model/validation';

/** As people write plans: everything with a default may be left out. */
export function planJsonSchema(): Readonly<Record<string, unknown>> {
  const plans = z.discriminatedUnion('kind', [
    schemaMigrationSchema,
    dataMigrationSchema,
    blueGreenSchema,
    canarySchema,
    rollbackSchema,
    validationSchema,
  ]);
  return {
    ...z.toJSONSchema(plans, { io: 'input', target: 'draft-2020-12', unrepresentable: 'any' }),
    $id: 'plan.schema.json',
    title: 'pgshift plan',
  };
}
