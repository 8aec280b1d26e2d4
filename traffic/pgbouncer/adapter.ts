/**
 * Clients behind one PgBouncer or many. Keeps true: the target changes only while every one of them is paused and has no server
 * connection left (RELOAD alone moves them one by one, and writes would go to both sides); whoever is late makes all of them resume.
 */
import { isProblem } from '../../plan/model/errors';
import type { PgbouncerAdapterPlan, Side } from '../../plan/model/traffic';
import { openSession } from '../../postgres/session';
import { ident } from '../../postgres/ident';
import { Deadline, failed, grace, overran } from '../deadline';
import type { TrafficAdapter, TrafficCall, TrafficDeps, TrafficState } from '../types';
import { leads, serversOf } from '../servers';
import { checkPgbouncers } from './checks';
import type { ConsoleRow } from './console';
import { Console } from './console';
import { resumeWithoutDelay } from './resume';
import { findDatabase, pointLine, readDatabases, replaceFile } from './databasesFile';

const UNDO_MS = 5_000;

/** What one PgBouncer says of the database. */
export interface Seen {
  readonly console: Console;
  readonly target: Side | null;
  readonly paused: boolean;
  /** Connections to the server, of whatever kind. */
  readonly servers: number;
  readonly row: ConsoleRow;
}

/** A name as the console's commands take it. */
const plain = (database: string): string => (/^[a-z_][a-z0-9_]*$/.test(database) ? database : ident(database));

export function pgbouncerTraffic(
  plan: PgbouncerAdapterPlan,
  deps: Pick<TrafficDeps, 'sides' | 'connection' | 'log'>,
): TrafficAdapter {
  const name = `pgbouncer ${plan.database}`;
  const servers = serversOf(plan.servers, deps.sides);
  const consoles = plan.admin.map((admin) => new Console(deps.connection(admin)));
  const database = plain(plan.database);

  const seeOne = async (console: Console, deadline: Deadline): Promise<Seen> => {
    const row = (await console.rows('SHOW DATABASES', deadline)).find((one) => one.name === plan.database);
    if (!row) throw failed(name, `${console.name} knows no database of that name`);
    const open = (await console.rows('SHOW SERVERS', deadline)).filter((one) => one.database === plan.database);
    return { console, row, target: leads(servers, row), paused: row.paused === '1', servers: open.length };
  };
  const see = (deadline: Deadline): Promise<Seen[]> => Promise.all(consoles.map((one) => seeOne(one, deadline)));
  const stateOf = (seen: readonly Seen[]): TrafficState => {
    const [first] = seen;
    const target = seen.every((one) => one.target === first?.target) ? (first?.target ?? null) : null;
    const open = seen.filter(({ paused }) => !paused);
    const busy = seen.reduce((sum, one) => sum + one.servers, 0);
    const paused = open.length === 0;
    const because =
      target === null
        ? 'not all PgBouncers lead to one of the two sides'
        : paused && busy > 0
          ? `${busy} connections to the server are still in use`
          : open.length < seen.length && open.length > 0
            ? `${open.length} of ${seen.length} PgBouncers are not paused`
            : null;
    return { target, paused, drained: paused && busy === 0, because };
  };

  /** True when it is paused and empty in time. */
  const pauseOne = async (console: Console, deadline: Deadline): Promise<boolean> => {
    const before = await seeOne(console, deadline);
    if (!before.paused) {
      try {
        return (await console.tryRows(`PAUSE ${database}`, deadline)) !== null;
      } catch (error) {
        // Somebody, or an earlier try of ours, was first.
        if (!(await seeOne(console, deadline)).paused) throw error;
      }
    }
    // Paused by a try whose console is gone: nobody will be told, so we look.
    return (
      (await deadline.poll(async () => {
        const { servers: left, paused } = await seeOne(console, deadline);
        if (!paused) throw failed(name, `${console.name} was resumed by somebody else`);
        return left === 0 ? true : null;
      })) === true
    );
  };
  const resumeOne = async (console: Console, deadline: Deadline): Promise<void> => {
    if (!(await seeOne(console, deadline)).paused) return;
    try {
      await resumeWithoutDelay(console, database, plan.database, deadline);
    } catch (error) {
      if ((await seeOne(console, deadline)).paused) throw error;
    }
  };
  const all = async (work: (console: Console) => Promise<unknown>): Promise<void> => {
    const done = await Promise.allSettled(consoles.map(work));
    const bad = done.find((one) => one.status === 'rejected');
    if (bad) throw bad.reason;
  };
  /** Nobody stays paused, also when one of them cannot be reached. */
  const resumeAll = (deadline: Deadline) => all((console) => resumeOne(console, deadline));

  const pauseAll = async (deadline: Deadline): Promise<void> => {
    const done = await Promise.allSettled(consoles.map((console) => pauseOne(console, deadline)));
    deadline.signal.throwIfAborted();
    const bad = done.find((one) => one.status === 'rejected');
    if (bad && !deadline.isOver) throw bad.reason;
    if (done.some((one) => one.status === 'rejected' || !one.value)) {
      const state = await see(grace(UNDO_MS)).then(stateOf, () => null);
      throw overran(name, state?.because ?? 'not every PgBouncer answered');
    }
  };

  const pause = async (call: TrafficCall, deadline: Deadline): Promise<TrafficState> => {
    try {
      await pauseAll(deadline);
      const state = await deadline.poll(async () => {
        const now = stateOf(await see(deadline));
        return now.drained ? now : null;
      });
      if (state === null) throw overran(name, 'connections to the server are still in use');
      return state;
    } catch (error) {
      await resumeAll(grace(UNDO_MS)).catch((also: unknown) => {
        deps.log('warn', `${name}: a PgBouncer may still be paused: ${isProblem(also) ? also.message : 'unknown'}`);
      });
      throw error;
    }
  };

  const rewrite = async (side: Side): Promise<void> => {
    let text: string;
    try {
      text = await readDatabases(plan.databasesFile);
    } catch (error) {
      throw failed(name, `databasesFile cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
    }
    const line = findDatabase(text, plan.database);
    if (typeof line === 'string') throw failed(name, `databasesFile: ${line} for this database`);
    const wanted = pointLine(text, line, plan.database, servers[side]);
    if (wanted === text) return;
    try {
      await replaceFile(plan.databasesFile, wanted);
    } catch (error) {
      throw failed(name, `databasesFile cannot be written (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
    }
  };

  /** A server that refuses the first login makes PgBouncer turn clients away for server_login_retry: asked beforehand. */
  const answers = async (side: Side, deadline: Deadline): Promise<void> => {
    const connectTimeoutMs = Math.max(1, deadline.leftMs);
    const session = await openSession(deps.sides[side], { purpose: 'traffic', connectTimeoutMs }).catch(() => null);
    if (session === null) throw failed(name, `${side} does not take connections: clients are not sent there`);
    await session.close();
  };

  /** After the file was rewritten. */
  const lead = async (console: Console, side: Side, deadline: Deadline): Promise<void> => {
    if ((await seeOne(console, deadline)).target === side) return;
    await console.rows('RELOAD', deadline);
    const there = await deadline.poll(async () => ((await seeOne(console, deadline)).target === side ? true : null));
    if (!there)
      throw failed(name, `${console.name} does not lead to ${side} after RELOAD; does it read databasesFile?`);
    // Whatever was still open to the old side is gone when this answers.
    await console.rows(`WAIT_CLOSE ${database}`, deadline);
  };

  return {
    type: 'pgbouncer',
    name,
    check: (call) => checkPgbouncers(plan, servers, consoles, call),
    status: async (call) => stateOf(await see(new Deadline(call))),
    pause: (call) => pause(call, new Deadline(call)),
    async point(side, call) {
      const deadline = new Deadline(call);
      const before = stateOf(await see(deadline));
      if (before.target === side && before.drained) return before;
      await answers(side, deadline);
      // One that was started again meanwhile knows nothing of a pause. Not taken back here: this call is the way forward.
      if (!before.drained) await pauseAll(deadline);
      await rewrite(side);
      await all((console) => lead(console, side, deadline));
      const after = stateOf(await see(deadline));
      if (after.target !== side) throw failed(name, after.because ?? `does not lead to ${side}`);
      return after;
    },
    async resume(call) {
      const deadline = new Deadline(call);
      await resumeAll(deadline);
      return stateOf(await see(deadline));
    },
    async undo(side, call) {
      const deadline = new Deadline(call);
      await rewrite(side); // also when nobody loaded it yet
      // Each by itself: one that cannot be reached keeps no other one paused.
      await all(async (console) => {
        try {
          if ((await seeOne(console, deadline)).target !== side) {
            await pauseOne(console, deadline);
            await lead(console, side, deadline);
          }
        } finally {
          await resumeOne(console, deadline.isOver ? grace(UNDO_MS) : deadline);
        }
      });
      return stateOf(await see(deadline));
    },
    close: async () => void (await Promise.all(consoles.map((console) => console.close()))),
  };
}
