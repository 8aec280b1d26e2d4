/**
 * What green got by DDL of its own since it took the writes: rows of it would not come to blue on the way back. Keeps true: what the plan's change made
 * there is known from before the switch, and may stay behind; what came later is named, and nothing goes back over it in silence.
 */
import { shown, shownRelation } from '../../plan/model/quote';
import { relation } from '../ident';
import type { Session } from '../session';
import { compareShapes } from './carried';
import type { ShapeDifference } from './carried';
import type { Both } from './pair';
import { userTables } from './tables';

const STEP = 'schema_state/shape';

/** Just before the switch: what green has, and blue has not. A later try's answer counts. */
export async function keepShape(both: Both, migration: string): Promise<void> {
  await both.green.run(
    `INSERT INTO pgshift.steps (migration_name, step_id, phase, status, result) VALUES ($1, $2, 'pause', 'done', $3::jsonb)
     ON CONFLICT (migration_name, step_id) DO UPDATE SET result = excluded.result`,
    [migration, STEP, JSON.stringify(await compareShapes(both))],
  );
}

/** Columns, and tables with rows in them, that green has since then and blue has not. Nothing is known of a run that never came to a switch. Throws Refused as compareShapes. */
export async function grownOnGreen(both: Both, migration: string): Promise<string[]> {
  const kept = await both.green.one<{ result: ShapeDifference }>(
    `SELECT s.result FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $2`,
    [migration, STEP],
  );
  if (!kept) return [];
  const { addedTables, addedColumns } = await compareShapes(both);
  const columns = Object.entries(addedColumns).flatMap(([table, names]) =>
    names
      .filter((name) => kept.result.addedColumns[table]?.includes(name) !== true)
      .map((name) => `column ${table}.${shown(name)}`),
  );
  const fresh = new Set(addedTables.filter((label) => !kept.result.addedTables.includes(label)));
  return [...columns, ...(await withRows(both.green, fresh))];
}

async function withRows(green: Session, labels: ReadonlySet<string>): Promise<string[]> {
  if (labels.size === 0) return [];
  const found: string[] = [];
  for (const table of await userTables(green)) {
    if (table.kind !== 'r' || !labels.has(shownRelation(table))) continue;
    const row = await green.one<{ one: boolean }>(`SELECT EXISTS (SELECT 1 FROM ONLY ${relation(table)}) AS one`);
    if (row?.one !== false) found.push(`table ${shownRelation(table)}`);
  }
  return found;
}
