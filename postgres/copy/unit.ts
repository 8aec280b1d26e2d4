/**
 * A unit of work of a copy: one range of rows, or some objects to make. Keeps true: its row in pgshift.lanes is the first write of its
 * transaction, with `AND epoch = mine AND NOT done`, and commits with the work and its line in pgshift.chunks; so a unit happens once however
 * many attempts there are. Its backend is written down, committed, before the work begins: the next attempt ends it even when it is frozen.
 */
import { crashPoint } from '../crashPoints';
import type { Attempt } from '../fence';
import { fenceBroken } from '../fence';
import type { Bound } from '../ranges';
import type { Session } from '../session';
import { inTransaction } from '../session';

export interface Unit {
  readonly attempt: Attempt;
  readonly scope: string;
  readonly lane: number;
  readonly low: Bound | null;
  readonly high: Bound | null;
  readonly point: 'range' | 'item';
}

export interface UnitDone {
  readonly rows: number;
  readonly bytes: number;
  /** What else is kept of the unit, in its row's state. */
  readonly state?: Readonly<Record<string, unknown>>;
  /** The unit is not done: what `work` left in the transaction is committed, then this is thrown. */
  readonly stop?: Error;
}

const keyOf = ({ attempt, scope, lane }: Unit): unknown[] => [
  attempt.migration,
  attempt.stepId,
  scope,
  lane,
  attempt.epoch,
];

const MINE = `migration_name = $1 AND step_id = $2 AND scope = $3 AND lane = $4 AND epoch = $5 AND NOT done`;

/** Runs the unit to its commit. Throws FenceBroken when another attempt has taken over; whatever `work` throws rolls everything back. */
export async function runUnit(session: Session, unit: Unit, work: () => Promise<UnitDone>): Promise<UnitDone> {
  const key = keyOf(unit);
  const backend = [session.pid, session.backendStart];
  const mine = await session.run(
    `UPDATE pgshift.lanes SET backend_pid = $6, backend_start = $7::timestamptz WHERE ${MINE}`,
    [...key, ...backend],
  );
  if (mine === 0) throw fenceBroken(unit.attempt);
  const done = await inTransaction(session, async () => {
    const fenced = await session.run(
      `UPDATE pgshift.lanes SET done = true, backend_pid = NULL, backend_start = NULL WHERE ${MINE}`,
      key,
    );
    if (fenced === 0) throw fenceBroken(unit.attempt);
    const result = await work();
    if (result.stop) {
      await session.run(
        `UPDATE pgshift.lanes SET done = false WHERE migration_name = $1 AND step_id = $2 AND scope = $3 AND lane = $4 AND epoch = $5`,
        key,
      );
      return result;
    }
    await session.run(
      `WITH chunk AS (
         INSERT INTO pgshift.chunks (migration_name, step_id, lane, lower_key, upper_key, rows, epoch)
         VALUES ($1, $2, $4, $8, $9, $6, $5))
       UPDATE pgshift.lanes SET rows = $6, scanned = $6, batches = 1, state = state || jsonb_build_object('bytes', $7::bigint) || $10::jsonb,
              updated_at = clock_timestamp()
        WHERE migration_name = $1 AND step_id = $2 AND scope = $3 AND lane = $4 AND epoch = $5`,
      [
        ...key,
        result.rows,
        result.bytes,
        unit.low?.join(', ') ?? null,
        unit.high?.join(', ') ?? null,
        JSON.stringify(result.state ?? {}),
      ],
    );
    crashPoint(`${unit.point}.before-commit`, unit.attempt.stepId);
    return result;
  });
  if (done.stop) throw done.stop;
  crashPoint(`${unit.point}.after-commit`, unit.attempt.stepId);
  return done;
}

export interface NewUnit {
  readonly low: Bound | null;
  readonly high: Bound | null;
  readonly rowsTotal: number;
  readonly state?: Readonly<Record<string, unknown>>;
}

/** Makes the units of a scope, all in one statement. Call it inside a transaction that is fenced, or before anything else can know of them. */
export async function makeUnits(
  session: Session,
  attempt: Attempt,
  scope: string,
  table: { readonly shown: string; readonly oid: string },
  units: readonly NewUnit[],
): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.lanes (migration_name, step_id, scope, lane, epoch, table_name, relation, low, high, rows_total, state)
     SELECT $1, $2, $3, u.lane, $4, $5, $6::oid, nullif(u.low, 'null'), nullif(u.high, 'null'), u.rows_total, coalesce(u.state, '{}')
       FROM jsonb_to_recordset($7::jsonb) AS u(lane int, low jsonb, high jsonb, rows_total bigint, state jsonb)
      WHERE EXISTS (SELECT 1 FROM pgshift.steps AS s WHERE s.migration_name = $1 AND s.step_id = $2 AND s.epoch = $4)
     ON CONFLICT DO NOTHING`,
    [
      attempt.migration,
      attempt.stepId,
      scope,
      attempt.epoch,
      table.shown,
      table.oid,
      JSON.stringify(
        units.map((unit, lane) => ({
          lane,
          low: unit.low,
          high: unit.high,
          rows_total: unit.rowsTotal,
          state: unit.state,
        })),
      ),
    ],
  );
}

export interface OpenUnit {
  readonly lane: number;
  readonly low: Bound | null;
  readonly high: Bound | null;
  readonly done: boolean;
  readonly state: Readonly<Record<string, unknown>>;
}

export const unitsOf = (session: Session, attempt: Attempt, scope: string): Promise<OpenUnit[]> =>
  session.rows<OpenUnit & Record<string, unknown>>(
    `SELECT l.lane, l.low, l.high, l.done, l.state FROM pgshift.lanes AS l
      WHERE l.migration_name = $1 AND l.step_id = $2 AND l.scope = $3 ORDER BY l.lane`,
    [attempt.migration, attempt.stepId, scope],
  );
