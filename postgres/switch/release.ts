/**
 * Which side is writable, told and repaired without Temporal. Keeps true: it never makes two writable sides, and never leaves acknowledged writes behind:
 * what it cannot prove it refuses, and says what a person would have to know.
 */
import { Problem } from '../../plan/model/errors';
import type { Side } from '../../plan/model/traffic';
import { otherSide, SIDES } from '../../plan/model/traffic';
import type { Session } from '../session';
import type { GuardRow } from './guard';
import { guardsIn, lift } from './guard';
import { settle, takeBack } from './fence';
import type { FenceOptions } from './fence';
import { directionFrom } from './names';
import type { Both, Pair, Reachable } from './pair';
import { activate, deactivate, dropDirection, namesOf } from './replicate';
import { settleRoutes } from './routes';
import { sequencesBehind, setSequences } from './sequences';
import { slotState } from './slot';
import type { Verdict } from './verdict';
import { verdictOf } from './verdict';
import { wallGaps, walledTables } from './wall';

export interface SideStatus {
  readonly database: string;
  readonly reachable: boolean;
  readonly writable: boolean | null;
  readonly epoch: number | null;
  /** Tables with a wall; a writable side lets through all the same. */
  readonly walled: number | null;
  /** Of a fenced side: tables without one. */
  readonly gaps: readonly string[];
  /** CONNECT is taken away and recorded. */
  readonly closed: boolean | null;
  readonly position: string | null;
}

export interface FenceStatus {
  readonly blue: SideStatus;
  readonly green: SideStatus;
  readonly writable: Verdict['writable'];
  readonly epoch: number | null;
  /** Name of the switch; null = none is under way. */
  readonly guard: string | null;
  readonly because: string;
}

interface Found {
  readonly id: string | null;
  readonly rows: { readonly [side in Side]: GuardRow | null | undefined };
}

async function find(sessions: Reachable): Promise<Found> {
  const all = {
    blue: sessions.blue === null ? undefined : await guardsIn(sessions.blue),
    green: sessions.green === null ? undefined : await guardsIn(sessions.green),
  };
  const ids = [...new Set(SIDES.flatMap((side) => (all[side] ?? []).map(({ id }) => id)))];
  if (ids.length > 1)
    throw new Problem('NotNow', `these two databases belong to different switches: ${ids.join(', ')}`, {
      hint: 'name the two databases of one switch',
    });
  const [id = null] = ids;
  const row = (side: Side): GuardRow | null | undefined =>
    all[side] === undefined ? undefined : (all[side][0] ?? null);
  const rows = { blue: row('blue'), green: row('green') };
  for (const side of SIDES)
    if (rows[side] && rows[side].details.side !== side)
      throw new Problem('InvalidUsage', `--${side} names the side ${rows[side].details.side} of ${rows[side].id}`, {
        hint: `--blue ${rows[side].details.names.blue} --green ${rows[side].details.names.green}`,
      });
  return { id, rows };
}

async function sideStatus(
  name: string,
  session: Session | null,
  row: GuardRow | null | undefined,
): Promise<SideStatus> {
  const fenced = session !== null && row?.writable === false;
  return {
    database: name,
    reachable: session !== null,
    writable: row?.writable ?? null,
    epoch: row?.epoch ?? null,
    walled: session === null ? null : await walledTables(session),
    gaps: fenced ? await wallGaps(session, row.id) : [],
    closed: row ? row.details.connect !== null : null,
    position: row?.details.position?.lsn ?? null,
  };
}

/** Only reads. Throws NotNow for databases of different switches, InvalidUsage when the sides are mixed up. */
export async function fenceStatus(
  sessions: Reachable,
  names: { readonly [side in Side]: string },
): Promise<FenceStatus> {
  const { id, rows } = await find(sessions);
  const verdict = verdictOf(rows);
  return {
    blue: await sideStatus(names.blue, sessions.blue, rows.blue),
    green: await sideStatus(names.green, sessions.green, rows.green),
    writable: verdict.writable,
    epoch: verdict.epoch,
    guard: id,
    because: verdict.because,
  };
}

export interface Released {
  readonly side: Side;
  readonly did: 'nothing' | 'repaired' | 'taken back' | 'lifted';
  /** What was done and what is left, for people. */
  readonly notes: readonly string[];
}

export interface ReleaseOptions extends Omit<FenceOptions, 'keepRoles'> {
  /** null = the writable side, or the one that the interrupted switch came from. */
  readonly side: Side | null;
  readonly sequenceGap: number;
  readonly by: string;
}

/**
 * Makes one side writable and whole. Throws NotAllowed when it would make two, NotNow when it cannot be proven that nothing is lost, NoSuchRun when
 * there is no switch.
 */
export async function release(
  sessions: Reachable,
  pair: Omit<Pair, 'migration'>,
  options: ReleaseOptions,
): Promise<Released> {
  const { id, rows } = await find(sessions);
  if (id === null) throw new Problem('NoSuchRun', 'there is no switch between these databases');
  const { writable, because } = verdictOf(rows);
  if (writable === 'both')
    throw new Problem('NotAllowed', because, { hint: 'stop the applications and call for help' });
  if (writable === null) throw cannotTell(sessions, id, because);
  const side = options.side ?? (writable === 'none' ? sourceOf(rows) : writable);
  const session = sessions[side];
  if (writable !== 'none' && writable !== side)
    throw new Problem('NotAllowed', `${writable} takes the writes: opening ${side} would make two writable sides`, {
      hint: `the way to ${side} is a switch back: pgshift rollback ${id}`,
    });
  if (session === null) throw new Problem('NotNow', `${side} cannot be reached`);
  const whole: Pair = { ...pair, migration: id };
  const done =
    writable === side
      ? { did: 'repaired' as const, notes: [] as string[] }
      : side === sourceOf(rows)
        ? await goBack(bothOf(sessions), whole, side, options)
        : await goOn(bothOf(sessions), whole, rows, side, options);
  const settled = await settle(session, id, options);
  const notes = [...done.notes];
  if ((settled?.dropped ?? 0) > 0) notes.push(`${settled?.dropped ?? 0} walls taken down`);
  if ((settled?.left.length ?? 0) > 0)
    notes.push(
      `${settled?.left.length ?? 0} walls still stand, locked by somebody; they let everything through: release again later`,
    );
  if (rows[side]?.details.connect) notes.push('CONNECT given back');
  const token = Math.max(...SIDES.map((one) => rows[one]?.epoch ?? 0)) + 1;
  const routes = await settleRoutes(sessions, rows[side]?.details.routes ?? [], side, token);
  if (routes.length > 0) notes.push(`routes ${routes.join(', ')} point at ${side}`);
  const did = done.did === 'repaired' && notes.length === 0 ? 'nothing' : done.did;
  await audit(session, id, side, did, options.by);
  return { side, did, notes };
}

/** Where an interrupted switch came from; of two fenced sides without an attempt it is blue: green is born fenced. */
const sourceOf = (rows: Found['rows']): Side => {
  const attempts = SIDES.flatMap((side) => rows[side]?.details.attempt ?? []);
  return attempts.sort((a, b) => b.epoch - a.epoch)[0]?.from ?? 'blue';
};

function bothOf({ blue, green }: Reachable): Both {
  if (blue === null || green === null) throw new Problem('NotNow', 'both databases must be reachable for this');
  return { blue, green };
}

function cannotTell(sessions: Reachable, id: string, because: string): Problem {
  const unseen = SIDES.find((side) => sessions[side] === null);
  const other = unseen === undefined ? 'blue' : otherSide(unseen);
  return new Problem('NotAllowed', `it cannot be told which side takes writes: ${because}`, {
    hint:
      unseen === undefined
        ? 'a guard row is missing: see pgshift fence status'
        : `bring ${unseen} back. Only if it is gone for good and you know that it never took writes, run in ${other}: ` +
          `UPDATE pgshift.guard SET writable = true WHERE id = '${id}';  and release ${other}`,
  });
}

/** Nothing was lifted: back to where the switch came from; what had been made for the other direction goes, and the sync goes on. */
async function goBack(both: Both, pair: Pair, side: Side, options: ReleaseOptions): Promise<Omit<Released, 'side'>> {
  const notes: string[] = [];
  const there = directionFrom(side);
  const patience = { lockTimeoutMs: options.lockTimeoutMs, budgetMs: 10_000, signal: options.signal };
  await takeBack(both, pair.migration, side, { ...options, deadlineMs: 0 });
  try {
    await dropDirection(both, pair, directionFrom(otherSide(side)), patience);
    await activate(both, pair, there);
    notes.push(`replication to ${otherSide(side)} goes on`);
  } catch {
    notes.push(
      `replication to ${otherSide(side)} does not run: its slot keeps WAL until the switch goes on or is cancelled`,
    );
  }
  return { did: 'taken back', notes };
}

/** Forward out of the middle: only when everything of the fenced side is durably on the other. */
async function goOn(
  both: Both,
  pair: Pair,
  rows: Found['rows'],
  side: Side,
  options: ReleaseOptions,
): Promise<Omit<Released, 'side'>> {
  const from = otherSide(side);
  const attempt = rows[side]?.details.attempt;
  const position = rows[from]?.details.position;
  const there = directionFrom(from);
  if (!attempt || attempt.epoch !== rows[from]?.epoch || position?.epoch !== attempt.epoch)
    throw new Problem('NotNow', `the switch to ${side} was not under way any more`, {
      hint: `pgshift fence release --side ${from}`,
    });
  const slot = await slotState(both[from], namesOf(pair, there).slot);
  const row = await both[from].one<{ reached: boolean }>(`SELECT $1::pg_lsn >= $2::pg_lsn AS reached`, [
    slot?.confirmed ?? '0/0',
    position.lsn,
  ]);
  const gaps = await wallGaps(both[from], pair.migration);
  if (slot === null || row?.reached !== true || gaps.length > 0)
    throw new Problem('NotNow', `${side} is not known to have everything of ${from}`, {
      hint: `pgshift fence release --side ${from}`,
    });
  await deactivate(both, pair, there);
  await setSequences(both[from], both[side], options.sequenceGap);
  const behind = await sequencesBehind(both[from], both[side]);
  if (behind.length > 0)
    throw new Problem('NotNow', `sequences of ${side} are behind: ${behind.slice(0, 5).join(', ')}`);
  await lift(both, pair.migration, attempt);
  return { did: 'lifted', notes: [`replication to ${from} was not looked at: see to the way back`] };
}

const audit = (session: Session, id: string, side: Side, did: string, by: string): Promise<unknown> =>
  session.run(
    `INSERT INTO pgshift.audit (by, via, action, reason, workflow_id) VALUES ($1, 'cli', 'fence release', $2, $3)`,
    [by, `${side}: ${did}`, id],
  );
