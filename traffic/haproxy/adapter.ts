/**
 * Clients behind one HAProxy or many, by the runtime API. Keeps true: at most one side takes new sessions; the side that clients belong to
 * is the one that is not in maintenance, so that anybody can see it after a crash; what is open to the old side ends before the target
 * changes. HAProxy knows no transactions: sessions that do not end by themselves are shut down. Where `frontend` is given and the version
 * can, new clients wait during the pause; elsewhere they are turned away and have to come again. A reload of HAProxy forgets all this.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { HaproxyAdapterPlan, Side } from '../../plan/model/traffic';
import { otherSide, SIDES } from '../../plan/model/traffic';
import { parseDuration } from '../../plan/model/values';
import { Deadline, failed, grace, overran } from '../deadline';
import { serversOf } from '../servers';
import type { ShareAsked, TrafficAdapter, TrafficCall, TrafficDeps, TrafficFinding, TrafficState } from '../types';
import type { ServerSeen } from './api';
import { mayHoldFrontend, Runtime } from './api';
import { HaproxyReads } from './reads';

const UNDO_MS = 5_000;

/** What one HAProxy says. */
interface Seen {
  readonly target: Side | null;
  readonly paused: boolean;
  readonly sessions: number;
  readonly servers: Readonly<Record<Side, ServerSeen>>;
}

export function haproxyTraffic(plan: HaproxyAdapterPlan, deps: Pick<TrafficDeps, 'sides' | 'log'>): TrafficAdapter {
  const name = `haproxy ${plan.backend}`;
  const runtimes = plan.admin.map((place) => new Runtime(place));
  const reads = plan.reads === undefined ? null : new HaproxyReads(plan.reads, runtimes, deps);
  const oneServer = plan.servers.blue === plan.servers.green;
  const places = serversOf(plan.addresses, deps.sides);
  const server = (side: Side): string => `${plan.backend}/${plan.servers[side]}`;
  const drainMs = parseDuration(plan.drain) ?? 0;

  const addressOf = async (side: Side): Promise<string> => {
    const { host } = places[side];
    return isIP(host) ? host : (await lookup(host)).address;
  };
  /** The frontend whose clients wait during a pause; null = there is none, or this version cannot. */
  const holds = async (runtime: Runtime, deadline: Deadline): Promise<string | null> =>
    plan.frontend !== undefined && mayHoldFrontend((await runtime.info(deadline)).get('Version') ?? '')
      ? plan.frontend
      : null;
  const limitOf = async (runtime: Runtime, frontend: string, deadline: Deadline): Promise<number> => {
    const row = (await runtime.stat(deadline)).find(
      (one) => one.get('pxname') === frontend && one.get('svname') === 'FRONTEND',
    );
    if (!row) throw failed(name, `${runtime.name} knows no frontend ${frontend}`);
    return Number(row.get('slim'));
  };

  const seeOne = async (runtime: Runtime, deadline: Deadline): Promise<Seen> => {
    const all = await runtime.servers(plan.backend, deadline);
    const of = (side: Side): ServerSeen => {
      const found = all.find((one) => one.name === plan.servers[side]);
      if (!found) throw failed(name, `${runtime.name}: the backend has no server ${plan.servers[side]}`);
      return found;
    };
    const servers = { blue: of('blue'), green: of('green') };
    const serving = oneServer
      ? await Promise.all(SIDES.map(async (side) => ((await isAt(servers[side], side)) ? side : null)))
      : SIDES.map((side) => (servers[side].maint ? null : side));
    const there = serving.filter((side) => side !== null);
    const target = there.length === 1 ? (there[0] ?? null) : null;
    const frontend = await holds(runtime, deadline);
    const shut = target !== null && (servers[target].drain || servers[target].maint);
    const paused = shut || (frontend !== null && (await limitOf(runtime, frontend, deadline)) === 0);
    const sessions = oneServer ? servers.blue.sessions : servers.blue.sessions + servers.green.sessions;
    return { target, paused, sessions, servers };
  };
  const isAt = async (seen: ServerSeen, side: Side): Promise<boolean> =>
    seen.port === places[side].port && seen.address === (await addressOf(side));

  const see = (deadline: Deadline): Promise<Seen[]> => Promise.all(runtimes.map((one) => seeOne(one, deadline)));
  const stateOf = (seen: readonly Seen[]): TrafficState => {
    const target = seen.every((one) => one.target === seen[0]?.target) ? (seen[0]?.target ?? null) : null;
    const paused = seen.every((one) => one.paused);
    const sessions = seen.reduce((sum, one) => sum + one.sessions, 0);
    const because =
      target === null
        ? 'not exactly one side is in service'
        : paused && sessions > 0
          ? `${sessions} sessions are still open`
          : null;
    return { target, paused, drained: paused && sessions === 0, because };
  };

  /** Never throws before every HAProxy was tried. */
  const all = async (work: (runtime: Runtime) => Promise<void>): Promise<void> => {
    const done = await Promise.allSettled(runtimes.map(work));
    const bad = done.find((one) => one.status === 'rejected');
    if (bad) throw bad.reason;
  };
  /** What a frontend allowed before the pause; a process that died takes it along: then what HAProxy as a whole allows. */
  const limits = new Map<Runtime, number>();

  const hold = async (runtime: Runtime, deadline: Deadline): Promise<void> => {
    const { target, paused } = await seeOne(runtime, deadline);
    if (paused) return;
    if (target === null) throw failed(name, `${runtime.name}: not exactly one side is in service`);
    const frontend = await holds(runtime, deadline);
    if (frontend === null) return runtime.tell(`set server ${server(target)} state drain`, deadline);
    limits.set(runtime, await limitOf(runtime, frontend, deadline));
    await runtime.tell(`set maxconn frontend ${frontend} 0`, deadline);
  };
  const release = async (runtime: Runtime, side: Side, deadline: Deadline): Promise<void> => {
    await runtime.tell(`set server ${server(side)} state ready`, deadline);
    const frontend = await holds(runtime, deadline);
    if (frontend === null || (await limitOf(runtime, frontend, deadline)) > 0) return;
    const limit = limits.get(runtime) ?? Number((await runtime.info(deadline)).get('Maxconn') ?? NaN);
    if (!(limit > 0)) throw failed(name, `${runtime.name} does not say its maxconn`);
    await runtime.tell(`set maxconn frontend ${frontend} ${limit}`, deadline);
  };
  const lead = async (runtime: Runtime, side: Side, deadline: Deadline): Promise<void> => {
    if (oneServer) {
      const { port } = places[side];
      await runtime.tell(`set server ${server(side)} addr ${await addressOf(side)} port ${port}`, deadline);
      return;
    }
    const frontend = await holds(runtime, deadline);
    // First nobody, then the new one: never both.
    await runtime.tell(`set server ${server(otherSide(side))} state maint`, deadline);
    await runtime.tell(`set server ${server(side)} state ${frontend === null ? 'drain' : 'ready'}`, deadline);
  };
  const shutDown = (runtime: Runtime, deadline: Deadline): Promise<void> =>
    Promise.all(
      SIDES.slice(oneServer ? 1 : 0).map((side) => runtime.tell(`shutdown sessions server ${server(side)}`, deadline)),
    ).then(() => undefined);

  const empty = (deadline: Deadline): Promise<TrafficState | null> =>
    deadline.poll(async () => {
      const now = stateOf(await see(deadline));
      return now.drained ? now : null;
    });
  const pauseAll = async (call: TrafficCall, deadline: Deadline): Promise<TrafficState> => {
    await all((runtime) => hold(runtime, deadline));
    const own = { deadlineMs: Math.min(drainMs, deadline.leftMs / 2), signal: call.signal };
    const byThemselves = await empty(new Deadline(own)).catch((error: unknown) => {
      if (deadline.isOver) throw error;
      return null; // the short time ended in the middle of a question
    });
    if (byThemselves) return byThemselves;
    await all((runtime) => shutDown(runtime, deadline));
    const state = await empty(deadline);
    if (state === null) throw overran(name, 'sessions are still open');
    return state;
  };
  const undoAll = async (side: Side, deadline: Deadline): Promise<void> =>
    all(async (runtime) => {
      if ((await seeOne(runtime, deadline)).target !== side) {
        await lead(runtime, side, deadline);
        await shutDown(runtime, deadline);
      }
      await release(runtime, side, deadline);
    });

  return {
    type: 'haproxy',
    name,
    check: (call) => checkAll(new Deadline(call)),
    status: async (call) => stateOf(await see(new Deadline(call))),
    async pause(call) {
      const deadline = new Deadline(call);
      const { target } = stateOf(await see(deadline));
      if (target === null) throw failed(name, 'not exactly one side is in service');
      try {
        return await pauseAll(call, deadline);
      } catch (error) {
        await undoAll(target, grace(UNDO_MS)).catch(() => undefined);
        throw error;
      }
    },
    async point(side, call) {
      const deadline = new Deadline(call);
      const before = stateOf(await see(deadline));
      if (before.target === side && before.drained) {
        await reads?.lead(side, call.token ?? null, deadline);
        return before;
      }
      if (!before.drained && before.target !== null) await pauseAll(call, deadline);
      await all((runtime) => lead(runtime, side, deadline));
      await reads?.lead(side, call.token ?? null, deadline);
      const after = stateOf(await see(deadline));
      if (after.target !== side) throw failed(name, after.because ?? `does not lead to ${side}`);
      return after;
    },
    async resume(call) {
      const deadline = new Deadline(call);
      const { target } = stateOf(await see(deadline));
      if (target === null) throw failed(name, 'not exactly one side is in service');
      await all((runtime) => release(runtime, target, deadline));
      return stateOf(await see(deadline));
    },
    async undo(side, call) {
      const deadline = new Deadline(call);
      // Each by itself: whoever cannot write the rows still lets clients go on.
      const [undone, led] = await Promise.allSettled([
        undoAll(side, deadline),
        reads?.lead(side, call.token ?? null, deadline),
      ]);
      for (const one of [undone, led]) if (one.status === 'rejected') throw one.reason;
      return stateOf(await see(deadline));
    },
    ...(reads === null
      ? {}
      : {
          share: (asked: ShareAsked, call: TrafficCall) => reads.share(asked, call.token ?? null, new Deadline(call)),
          keepFresh: (ms: number, call: TrafficCall) => reads.keepFresh(ms, new Deadline(call)),
        }),
    close: async () => reads?.close(),
  };

  async function checkAll(deadline: Deadline): Promise<TrafficFinding[]> {
    const found: TrafficFinding[] = [];
    const targets: (Side | null)[] = [];
    const add = (check: string, level: TrafficFinding['level'], message: string, remedy: string) =>
      found.push({ check: `haproxy.${check}`, level, message, remedy });
    for (const runtime of runtimes) {
      try {
        const seen = await seeOne(runtime, deadline);
        targets.push(seen.target);
        if (seen.target === null)
          add(
            'servers',
            'error',
            `${runtime.name}: not exactly one of blue and green is in service`,
            oneServer ? 'its address must be that of blue or green' : 'disabled on the line of the side that waits',
          );
        else if (!seen.servers[seen.target].up)
          add('up', 'error', `${runtime.name}: ${seen.target} is down for it`, 'look at its health check');
        if (seen.paused) add('paused', 'error', `${runtime.name} is paused already`, 'set its server to ready');
        if (plan.frontend === undefined || (await holds(runtime, deadline)) === null)
          add(
            'frontend',
            'warning',
            `${runtime.name}: new clients are turned away during the pause`,
            plan.frontend === undefined
              ? 'name the frontend in the adapter'
              : 'this version dies when a held frontend is released (haproxy#2726); use 2.6.20, 2.8.12, 2.9.12, 3.0.6 or later',
          );
        else await limitOf(runtime, plan.frontend, deadline);
      } catch (error) {
        add('runtime', 'error', (error as Error).message, 'check the stats socket, and its level (admin)');
      }
    }
    if (reads !== null) found.push(...(await reads.check(targets[0] ?? null, deadline)));
    add(
      'reload',
      'info',
      'a reload of HAProxy forgets where clients were sent',
      'change its file too after the switch',
    );
    return found;
  }
}
