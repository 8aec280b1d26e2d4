/**
 * Copies one table that a map changes, or that is merged into rows which are there: range by range through the stage. Keeps true: what was read adds
 * up to what was loaded, set aside and left out, counted apart on the source; else the table is not done.
 */
import { Problem } from '../../plan/model/errors';
import { rangeBytes } from '../../plan/model/dataMigration';
import type { ErrorBudget, LoadControl } from '../../plan/model/dataMigration';
import { NO_MAPPING } from '../../plan/model/tableMapping';
import { loadParser } from '../../plan/sql/rowExpression';
import type { CopyContext } from '../copy/context';
import type { Attempt } from '../fence';
import { atOnce } from '../copy/pairs';
import type { Pair } from '../copy/pairs';
import { conditionOf, cut, rangesFor } from '../copy/ranges';
import type { Shape } from '../copy/shape';
import { refuseRewritten, shapeOf } from '../copy/shape';
import type { Copying } from '../copy/table';
import { readTable } from '../copy/readTable';
import type { TableRow } from '../copy/tables';
import { shown } from '../copy/tables';
import type { NewUnit, OpenUnit } from '../copy/unit';
import { makeUnits, runUnit, unitsOf } from '../copy/unit';
import { inTransaction } from '../session';
import type { Session } from '../session';
import { checkSignal } from '../work';
import { selfTest } from '../verify/selfTest';
import { findFailing } from './badRows';
import type { Failing } from './badRows';
import { COUNTED } from './counts';
import type { Counts } from './load';
import { isOfRow, loadRange } from './load';
import { resolveMap } from './resolve';
import { budgetSpent, clearLane, quarantineRows } from './quarantine';
import type { Part } from './select';
import { countRange, fromOf, targetHash } from './select';
import type { Spec } from './spec';
import { ROW } from './spec';
import { targetOf } from './store';
import { readMapTable } from './tables';
import type { Tracked } from './tracked';
import { expectedOf, makeTracking, trackedOf } from './tracked';

const NO_ERRORS: ErrorBudget = { max: 0, rate: null };
const COPY = { method: 'copy', onConflict: 'fail', disable: [] } as const;
/** Duplicates are looked for in so many parts at most: each reads the whole table. */
const MOST_BUCKETS = 16;
/** Rows of one range that are looked for one by one. */
const MOST_FAILING = 10_000;
/** Where the plan's own names are looked up. */
export const USERS_PATH = `SET LOCAL search_path = pg_catalog, public`;

/** What is kept of the table for its proof, in pgshift.copy_tables. */
export interface StoredProof extends Tracked {
  readonly tracked: boolean;
  readonly partitioned: boolean;
  /** Over t. */
  readonly hash: string;
}

interface Planned {
  readonly spec: Spec;
  readonly shape: Shape;
  readonly units: readonly OpenUnit[];
}

/** The compiled map as both servers see it now. @throws Problem as resolveMap. */
export async function specOf(
  context: Pick<CopyContext, 'control'>,
  pair: Pair,
  table: Pick<TableRow, 'schema' | 'name' | 'map'>,
  /** Of what goes on after the copy, when its keys are there. */
  onward: LoadControl | null = null,
): Promise<Spec> {
  await loadParser();
  const to = targetOf(table, table.map);
  const [source, target] = [await readMapTable(pair.source, table), await readMapTable(pair.target, to)];
  if (source === null || target === null)
    throw new Problem('NoSuchObject', `${shown(source === null ? table : to)} is not there any more`);
  return resolveMap({
    mapping: table.map?.mapping ?? NO_MAPPING,
    path: table.map?.path ?? `map.${shown(table)}`,
    source,
    target,
    load: onward ?? context.control.load ?? COPY,
    existing: context.control.schema === 'existing',
    test: await selfTest(pair),
    onward: onward !== null,
  });
}

async function plan(copying: Copying, attempt: Attempt, table: TableRow, pair: Pair): Promise<Planned> {
  const { context, control } = copying;
  return readTable(copying, pair.source, table, async () => {
    const shape = await shapeOf(pair.source, table);
    const spec = await specOf(context, pair, table);
    let units = await unitsOf(control, attempt, 'do');
    if (units.length === 0) {
      const made = await unitsFor(context, pair.source, { shape, spec, table });
      await makeUnits(control, attempt, 'do', { shown: shown(table), oid: '0' }, made);
      units = await unitsOf(control, attempt, 'do');
    }
    const proof: StoredProof = {
      ...trackedOf(spec),
      tracked: spec.tracked,
      partitioned: spec.targetPartitioned,
      hash: targetHash(spec),
    };
    await control.run(
      `UPDATE pgshift.copy_tables SET format = 'text', fingerprint = 'mapped', proof = $3::jsonb WHERE migration_name = $1 AND table_no = $2`,
      [context.migration, table.no, JSON.stringify(proof)],
    );
    return { spec, shape, units };
  });
}

async function unitsFor(
  { control }: CopyContext,
  source: Session,
  { shape, spec, table }: { shape: Shape; spec: Spec; table: TableRow },
): Promise<NewUnit[]> {
  const parts = partsOf(table, control);
  if (spec.dedupe === null) return cut(source, shape, parts, table.rowsEstimate);
  // The hash came with 14.
  const of = source.serverVersion < 140_000 ? 1 : 2 ** Math.floor(Math.log2(Math.min(MOST_BUCKETS, parts)));
  const rowsTotal = Math.round(table.rowsEstimate / of);
  return Array.from({ length: of }, (_, no) => ({ low: null, high: null, rowsTotal, state: { bucket: { no, of } } }));
}

export const partsOf = (table: Pick<TableRow, 'bytes' | 'rowsEstimate'>, control: CopyContext['control']): number =>
  control.batchRows === undefined
    ? rangesFor(table.bytes, rangeBytes(control), control.parallel.rangesPerTable)
    : Math.min(10_000, Math.max(1, Math.ceil(table.rowsEstimate / control.batchRows)));

function partOf({ shape }: Planned, unit: OpenUnit, failing: readonly Failing[]): Part {
  return {
    condition: conditionOf(shape, unit, ROW),
    bucket: (unit.state['bucket'] as Part['bucket'] | undefined) ?? null,
    except: failing.map(({ ctid }) => ctid),
  };
}

async function copyUnit(
  copying: Copying,
  attempt: Attempt,
  table: TableRow,
  planned: Planned,
  unit: OpenUnit,
): Promise<void> {
  const { context, pairs } = copying;
  const { spec } = planned;
  const budget = context.control.errors ?? NO_ERRORS;
  const place = { attempt, lane: unit.lane, table: shown(table) };
  const failing: Failing[] = [];
  const atSource = <T>(work: (pair: Pair) => Promise<T>): Promise<T> =>
    pairs.use((pair) =>
      readTable(copying, pair.source, table, async () => {
        await refuseRewritten(pair.source, table);
        await pair.source.run(USERS_PATH);
        return work(pair);
      }),
    );
  /** More fail already than the run takes: they are listed, and nobody looks for the rest. */
  const giveUp = (): Promise<void> =>
    atSource(async (pair) => {
      await runUnit(pair.target, { ...unit, attempt, scope: 'do', point: 'range' }, async () => {
        const whole = countRange({ ...spec, where: null, sample: null }, partOf(planned, unit, []));
        const read = await pair.source.one<{ read: number }>(whole);
        await clearLane(pair.target, place);
        await quarantineRows(pair.target, place, failing);
        return { rows: 0, bytes: 0, stop: budgetSpent(budget, place.table, failing.length, read?.read ?? 0) };
      });
    });
  const load = (): Promise<void> =>
    atSource(async (pair) => {
      await runUnit(pair.target, { ...unit, attempt, scope: 'do', point: 'range' }, () =>
        loadRange({
          pair,
          spec,
          part: partOf(planned, unit, failing),
          place,
          no: table.no,
          failing,
          budget,
          signal: context.signal,
        }),
      );
    });
  for (;;) {
    try {
      return await load();
    } catch (error) {
      if (!isOfRow(error)) throw error;
      const most = Math.min(MOST_FAILING, (budget.max ?? MOST_FAILING) + 1);
      const more = await atSource(({ source }) =>
        findFailing(source, { spec, part: partOf(planned, unit, failing), most, signal: context.signal }),
      );
      if (more.length === 0) throw error;
      failing.push(...more);
      if (budget.max !== null && failing.length > budget.max) return giveUp();
    }
  }
}

/** From its ranges to its sums. Indexes and statistics come after, from the caller. */
export async function copyStaged(copying: Copying, attempt: Attempt, table: TableRow): Promise<void> {
  const { context, control, pairs } = copying;
  const planned = await pairs.use((pair) => plan(copying, attempt, table, pair));
  const { spec, units } = planned;
  if (spec.tracked) await makeTracking(control, context.migration, trackedOf(spec));
  const open = units.filter(({ done }) => !done);
  await atOnce(context.control.parallel.rangesPerTable, open, async (unit) => {
    await context.admit();
    checkSignal(context.signal);
    await withRetries(context, () => copyUnit(copying, attempt, table, planned, unit));
  });
  await addUp(copying, attempt, table, spec);
}

/** Of `profile: bulk`. */
async function withRetries(context: CopyContext, work: () => Promise<void>): Promise<void> {
  for (let tried = 0; ; tried += 1) {
    try {
      return await work();
    } catch (error) {
      const again = error instanceof Problem && ['LockTimeout', 'Deadlock'].includes(error.code);
      if (!again || tried >= (context.control.retries ?? 0)) throw error;
    }
  }
}

type Sums = Counts & { readonly sum: string } & Record<string, unknown>;

/** @throws Problem ProofFailed: the ranges did not read every row once. */
async function addUp(copying: Copying, attempt: Attempt, table: TableRow, spec: Spec): Promise<void> {
  const { context, control, pairs } = copying;
  const sums = await control.one<Sums>(
    `SELECT ${COUNTED.map((name) => `coalesce(sum((l.state->'counts'->>'${name}')::float8), 0) AS "${name}"`).join(', ')},
            coalesce(sum((l.state->>'sum')::numeric), 0)::text AS sum
       FROM pgshift.lanes AS l WHERE l.migration_name = $1 AND l.step_id = $2 AND l.scope = 'do'`,
    [context.migration, attempt.stepId],
  );
  if (!sums) return;
  const whole = await pairs.use((pair) =>
    readTable(copying, pair.source, table, async () => {
      await refuseRewritten(pair.source, table);
      return pair.source.one<{ rows: number }>(`SELECT count(*)::float8 AS rows FROM ${fromOf(spec)}`);
    }),
  );
  const { sum, ...counts } = sums;
  const placed = COUNTED.filter((name) => name !== 'read').reduce((total, name) => total + sums[name], 0);
  if (whole?.rows !== sums.read || placed !== sums.read)
    throw new Problem(
      'ProofFailed',
      `${shown(table)}: ${whole?.rows ?? 0} rows on the source, ${sums.read} read, ${placed} accounted for`,
    );
  const expected = spec.tracked
    ? await expectedOf(control, context.migration, table.no, trackedOf(spec))
    : { rows: sums.loaded, sum };
  await inTransaction(control, () =>
    control.run(
      `UPDATE pgshift.copy_tables SET source_rows = $3, source_fingerprint = $4, counts = $5::jsonb WHERE migration_name = $1 AND table_no = $2
          AND EXISTS (SELECT 1 FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $6 AND s.epoch = $7)`,
      [
        context.migration,
        table.no,
        expected?.rows ?? null,
        expected?.sum ?? null,
        JSON.stringify(counts),
        attempt.stepId,
        attempt.epoch,
      ],
    ),
  );
}
