/**
 * The look at both databases that a data migration begins with, and that `pgshift plan` shows. Keeps true: the run and the plan ask the same questions
 * in the same order; the run is refused by the first answer that is no, the plan lists all of them; nothing is written.
 */
import { createHash } from 'node:crypto';
import type { DataMigrationPlan } from '../../plan/model/dataMigration';
import { copyControlOf } from '../../plan/model/dataMigration';
import { ERRORS, Problem, isProblem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import { changesShape } from '../../plan/model/tableMapping';
import type { KeyedFinding, TablesPlan } from '../../plan/model/tablesPlan';
import { dataPlanOf } from '../../plan/sql/dataPlan';
import type { LookedTable } from '../../plan/sql/tablesPlan';
import { mapWords, refusal, warning } from '../../plan/sql/tablesPlan';
import { checkIncrement } from '../increment/bounds';
import { derivedTable, makeItems } from '../map/derived';
import { checkThere } from '../map/onward';
import { checkMaps } from '../map/preflight';
import { entriesOf, isStaged, mapOf, targetOf } from '../map/store';
import { partsOf } from '../map/table';
import { readMapTable } from '../map/tables';
import type { Session } from '../session';
import { checkStream } from '../stream/preflight';
import { refuseLargeObjects } from './rest';
import { refuseMissingRoles, refuseTaken } from './schema';
import type { Found } from './tables';
import { chooser, userTables } from './tables';

/** Of what is asked, not of how it is typed: keys in order, defaults filled in. */
export function dataChecksum(plan: DataMigrationPlan): string {
  const { name, source, target, tables, transfer, schema, keep, verify, load, map, errors } = plan;
  const asked = { name, source, target, tables, transfer, schema, keep, verify };
  const { streaming, incremental } = plan;
  // Left out when they say nothing: what was completed before these keys were there is the same plan still.
  const changed = Object.keys(map).length > 0 || load.method !== 'copy' ? { load, map, errors } : {};
  return createHash('sha256')
    .update(JSON.stringify({ ...asked, streaming, incremental, ...changed }))
    .digest('hex');
}

interface Identity extends Record<string, unknown> {
  readonly system: string;
  readonly database: string;
}

const identityOf = (session: Session): Promise<Identity | undefined> =>
  session.one<Identity>(
    `SELECT (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() AS s) AS system, current_database()::text AS database`,
  );

export interface Looked {
  /** Tables, and those that only hold partitions. */
  readonly chosen: readonly Found[];
  readonly leftOut: readonly Found[];
  /** What would refuse the run, in the order in which it is asked. */
  readonly problems: readonly Problem[];
}

/** Tables that hold rows of their own. */
const withRows = (tables: readonly Found[]): Found[] => tables.filter(({ kind }) => kind === 'r');

/** Says something about the plan or the state of a database, and nothing about a server. */
const isAnswer = (error: unknown): error is Problem =>
  isProblem(error) && !ERRORS[error.code].retryable && [2, 3].includes(ERRORS[error.code].exit);

/** @throws Problem Unreachable and what else is no answer. */
export async function lookAt(plan: DataMigrationPlan, source: Session, target: Session): Promise<Looked> {
  const problems: Problem[] = [];
  const ask = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (isAnswer(error)) problems.push(error);
      // Behind an answer that refuses already, what follows from it need not be told apart.
      else if (problems.length === 0) throw error;
    }
  };
  const [from, to] = [await identityOf(source), await identityOf(target)];
  if (from && from.system === to?.system && from.database === to.database) {
    const same = new Problem('SameDatabase', `${plan.source} and ${plan.target} are the same database`);
    return { chosen: [], leftOut: [], problems: [same] };
  }
  for (const session of [source, target])
    if (session.serverVersion < 130_000)
      problems.push(new Problem('PreflightFailed', `${session.name}: PostgreSQL 13 or later is needed`));
  const control = copyControlOf(plan);
  const isChosen = chooser(plan.tables);
  const all = await userTables(source);
  const chosen = all.filter(isChosen);
  const rows = withRows(chosen);
  await ask(() => refuseTaken(source, target, { control }, entriesOf(plan.map)));
  if (rows.length === 0)
    problems.push(
      new Problem('NoSuchObject', 'tables: no table of the source is chosen', { where: { path: 'tables' } }),
    );
  if (plan.schema === 'create') {
    await ask(() => refuseMissingRoles(source, target));
    await ask(() => refuseLargeObjects(source, target));
  }
  await ask(() => checkMaps({ source, target, control, map: plan.map, chosen }));
  const { streaming, incremental } = control;
  if (streaming) await ask(() => checkStream(source, target, rows, streaming));
  if (incremental) await ask(() => checkIncrement(source, rows, incremental.column));
  if (incremental && plan.schema === 'existing') {
    const maps = entriesOf(plan.map);
    await ask(() =>
      checkThere(
        target,
        rows.map((table) => targetOf(table, mapOf(maps, table))),
      ),
    );
  }
  return { chosen, leftOut: withRows(all.filter((table) => !isChosen(table))), problems };
}

/** What `pgshift plan` and a dry run show. @throws Problem as lookAt. */
export async function planCopy(plan: DataMigrationPlan, source: Session, target: Session): Promise<TablesPlan> {
  const looked = await lookAt(plan, source, target);
  return copyPlanOf(plan, source, target, looked);
}

/** The same from a look that was had already. */
export async function copyPlanOf(
  plan: DataMigrationPlan,
  source: Session,
  target: Session,
  looked: Looked,
): Promise<TablesPlan> {
  const control = copyControlOf(plan);
  const maps = entriesOf(plan.map);
  const tables = withRows(looked.chosen).map((table): LookedTable => {
    const map = mapOf(maps, table);
    const merged = control.load !== undefined && control.load.method !== 'copy' ? control.load.method : null;
    const words = [map === null ? null : mapWords(map.mapping), merged].filter((word) => word !== null);
    return {
      ...table,
      to: targetOf(table, map),
      ranges: map?.mapping.deduplicate ? null : partsOf({ bytes: table.bytes, rowsEstimate: table.rows }, control),
      how: words.length > 0 ? words.join(', ') : isStaged(control, map) ? 'through a stage' : 'as it is',
    };
  });
  return dataPlanOf(plan, {
    checksum: dataChecksum(plan),
    sourceVersion: source.serverVersion,
    serverVersion: target.serverVersion,
    tables,
    leftOut: looked.leftOut,
    findings: [
      ...looked.problems.map(refusal),
      ...(looked.problems.length === 0 ? await notMade(plan, source, looked.chosen) : []),
    ],
  });
}

/** Of tables that a map shapes: what of the source's table will not be there. */
async function notMade(plan: DataMigrationPlan, source: Session, chosen: readonly Found[]): Promise<KeyedFinding[]> {
  if (plan.schema === 'existing') return [];
  const maps = entriesOf(plan.map);
  const findings: KeyedFinding[] = [];
  for (const table of withRows(chosen)) {
    const map = mapOf(maps, table);
    if (map === null || !changesShape(map.mapping)) continue;
    const old = await readMapTable(source, table);
    if (old === null) continue;
    const to = await derivedTable(source, map.mapping, old, map.path, targetOf(table, map));
    const { left } = await makeItems(source, map.mapping, old, to, map.path, plan.keep);
    if (left.length === 0) continue;
    const what = `${shownRelation(to)} has another shape than ${shownRelation(table)}; not made for it: ${left.slice(0, 20).join(', ')}`;
    findings.push(
      warning('not_made', map.path, what, {
        relation: shownRelation(to),
        alternative: 'make the table yourself, and say  schema: existing',
      }),
    );
  }
  return findings;
}
