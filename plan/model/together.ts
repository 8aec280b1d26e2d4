/**
 * Keys of a data migration that do not go with every transfer, each with why. Keeps true: what goes on after the copy moves rows by the same select as the
 * copy; where a row does not map to one row by itself, or would need what nobody keeps, it is refused and not done by halves. Pure.
 */
import type { DataMigrationPlan } from './dataMigration';
import { Problem } from './errors';
import type { TableMapping } from './tableMapping';

/** @throws Problem NotYet with where.path. */
export function refuseTogether(plan: DataMigrationPlan, shownKey: (key: string) => string): void {
  const { transfer, map, verify } = plan;
  if (transfer === 'full') return;
  const not = (path: string, why: string): Problem =>
    new Problem('NotYet', `${path}: with transfer: ${transfer} it is not built yet: ${why}`, {
      where: { path },
      hint: `leave it out, or say  transfer: full`,
    });
  if (verify === 'sample')
    throw not('verify', 'what goes on after the copy is compared row by row: sample would compare nothing of it');
  const refused = transfer === 'streaming' ? ofStreaming(plan) : ofIncremental(plan);
  if (refused !== null) throw not(...refused);
  for (const [table, entry] of Object.entries(map)) {
    const found = ofMapping(entry, transfer === 'streaming', shownKey);
    if (found !== null) throw not(`map.${shownKey(table)}.${found[0]}`, found[1]);
  }
}

type Refused = readonly [path: string, why: string];

function ofStreaming({ load, errors, schema }: DataMigrationPlan): Refused | null {
  if (load.method !== 'copy')
    return ['load.method', 'a change belongs to the row that the copy brought: rows of others would be taken for it'];
  if (load.disable.length > 0)
    return ['load.disable', 'changes fire no trigger and no foreign key of the target anyway'];
  if (errors.max !== undefined || errors.rate !== undefined)
    return ['errors', 'streaming.onError says what happens to a change that is refused'];
  if (schema === 'existing')
    return [
      'schema',
      'the columns, keys and triggers that are there may refuse changes weeks after they were looked at',
    ];
  return null;
}

function ofIncremental({ load }: DataMigrationPlan): Refused | null {
  if (load.disable.length > 0)
    return [
      'load.disable',
      'it would go off and on again with every pass; foreign keys and triggers rest in passes anyway',
    ];
  const onConflict = load.onConflict ?? 'update';
  if (load.method === 'insert' || (load.method === 'upsert' && onConflict !== 'update'))
    return [
      load.method === 'insert' ? 'load.method' : 'load.onConflict',
      'a row that is read again must overwrite ours and leave theirs: say  method: upsert  and  onConflict: update',
    ];
  return null;
}

function ofMapping(entry: TableMapping, streaming: boolean, shownKey: (key: string) => string): Refused | null {
  if (entry.deduplicate) return ['deduplicate', 'which of several rows is kept depends on rows that are still to come'];
  for (const [name, rule] of Object.entries(entry.columns)) {
    if (typeof rule !== 'object' || !('lookup' in rule)) continue;
    const path = `columns.${shownKey(name)}.lookup`;
    if ('table' in rule.lookup) return [path, 'a value of another table changes without its row; list the values'];
    if (streaming && rule.lookup.otherwise === 'fail')
      return [path, 'a change with an unknown value has no row to be set aside: say  otherwise: keep  or null'];
  }
  if (!streaming) return null;
  if (entry.sample) return ['sample', 'its hash may not be the same on both servers'];
  if (Object.keys(entry.validate).length > 0)
    return ['validate', 'a change that a rule refuses would leave the old row behind'];
  return null;
}
