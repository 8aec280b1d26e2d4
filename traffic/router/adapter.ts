/**
 * Clients that use the router library. Keeps true: a router that lives and does not acknowledge makes the pause fail before anything is
 * fenced; acknowledgements are for comfort, the fence is for truth. The pause ends by itself after `lastsMs`, so that nobody waits for a
 * run that died.
 */
import type { RouterAdapterPlan, Side } from '../../plan/model/traffic';
import { SIDES } from '../../plan/model/traffic';
import type { RouteRow, RouterRow } from '../../postgres/state/routes';
import { Deadline, failed, grace, overran } from '../deadline';
import type { TrafficAdapter, TrafficCall, TrafficDeps, TrafficFinding, TrafficState } from '../types';
import { DEFAULT_LASTS_MS } from '../types';
import { RouteRows } from './rows';
import { changeShare } from './share';

/** Not heard of for so long, a router is dead; sooner where its listening session is gone as well (it says hello every 2 s). */
const DEAD_MS = 10_000;
const DEAD_WITHOUT_SESSION_MS = 4_500;
const UNDO_MS = 5_000;
const HEARD_MS = 250;

const isAlive = ({ ageMs, connected }: RouterRow): boolean => ageMs < (connected ? DEAD_MS : DEAD_WITHOUT_SESSION_MS);

export function routerTraffic(plan: RouterAdapterPlan, deps: Pick<TrafficDeps, 'sides'>): TrafficAdapter {
  const name = `router ${plan.route}`;
  const rows = new RouteRows(plan.route, deps.sides, plan.sides.blue);
  const sideOf = (row: RouteRow): Side | null => SIDES.find((side) => plan.sides[side] === row.side) ?? null;

  const look = async (deadline: Deadline): Promise<TrafficState> => {
    const { row, reached } = await rows.read(deadline);
    const target = sideOf(row);
    if (!row.paused) return { target, paused: false, drained: false, because: null };
    if (row.pauseMs !== null && row.pauseMs <= 0)
      return { target, paused: false, drained: false, because: 'the pause lasted too long and ended by itself' };
    const routers = (await rows.routers(deadline)).filter(isAlive);
    const missing = routers.filter((one) => one.epoch < row.epoch || !one.drained);
    const because =
      missing.length > 0
        ? `${missing.length} of ${routers.length} routers have not acknowledged`
        : reached.length < SIDES.length
          ? `only the database of ${reached.join()} answers`
          : null;
    return { target, paused: true, drained: missing.length === 0, because };
  };
  const write = (
    deadline: Deadline,
    call: TrafficCall,
    mustReach: readonly Side[],
    change: (row: RouteRow) => Partial<RouteRow>,
  ) =>
    rows.change(
      (row) => ({ ...row, ...change(row), requestKey: call.idempotencyKey }),
      mustReach,
      call.token ?? null,
      deadline,
    );
  const lasts = ({ lastsMs = DEFAULT_LASTS_MS }: TrafficCall) => ({ paused: true, pauseMs: lastsMs });
  const open = { paused: false, pauseMs: null };

  return {
    type: 'router',
    name,
    async check(call) {
      const deadline = new Deadline(call);
      const { row, reached } = await rows.read(deadline);
      const found: TrafficFinding[] = [];
      for (const side of SIDES.filter((one) => !reached.includes(one)))
        found.push({
          check: 'router.databases',
          level: 'error',
          message: `the database of ${side} does not answer`,
          remedy: 'routers ask both databases where to go: both must be there for a switch',
        });
      if (sideOf(row) === null)
        found.push({
          check: 'router.side',
          level: 'error',
          message: `route ${plan.route} is on a side that the plan does not know`,
          remedy: 'name the two sides as the applications do, under sides of the adapter',
        });
      if (row.paused && (row.pauseMs === null || row.pauseMs > 0))
        found.push({
          check: 'router.paused',
          level: 'error',
          message: `route ${plan.route} is paused`,
          remedy: 'another switch is under way, or died: pgshift fence status',
        });
      const alive = (await rows.routers(deadline)).filter(isAlive);
      if (alive.length === 0)
        found.push({
          check: 'router.instances',
          level: 'warning',
          message: `no application follows route ${plan.route}`,
          remedy: 'does it use createRouter with this route, and may its role use schema pgshift (docs/grants.md)?',
        });
      await rows.forgetDeadRouters(deadline);
      return found;
    },
    status: (call) => look(new Deadline(call)),
    async pause(call) {
      const deadline = new Deadline(call);
      await write(deadline, call, SIDES, () => lasts(call));
      const back = () => write(grace(UNDO_MS), call, [], () => open);
      try {
        let last: TrafficState | null = null;
        const drained = await deadline.poll(async () => ((last = await look(deadline)).drained ? last : null));
        if (drained !== null) return drained;
        throw overran(name, (last as TrafficState | null)?.because ?? 'nobody answered');
      } catch (error) {
        await back();
        throw error;
      }
    },
    async point(side, call) {
      const deadline = new Deadline(call);
      // The other one may be dead: that is what a switch may be for.
      const { row } = await write(deadline, call, [side], () => ({ ...lasts(call), side: plan.sides[side] }));
      if (sideOf(row) !== side) throw failed(name, 'the route was written by somebody else');
      // A moment for the acknowledgements, no more: clients wait meanwhile, and who is late finds the way by the epoch.
      let state = await look(deadline);
      const soon = performance.now() + HEARD_MS;
      while (!state.drained && performance.now() < soon && !deadline.isOver) {
        await deadline.wait(10);
        state = await look(deadline);
      }
      return state;
    },
    async resume(call) {
      const deadline = new Deadline(call);
      const { row } = await rows.read(deadline);
      const side = sideOf(row);
      await write(deadline, call, side === null ? [] : [side], () => open);
      return look(deadline);
    },
    async undo(side, call) {
      const deadline = new Deadline(call);
      await write(deadline, call, [side], () => ({ ...open, side: plan.sides[side] }));
      return look(deadline);
    },
    async share(asked, call) {
      const deadline = new Deadline(call);
      const { row } = await changeShare(rows, asked, plan.sides.green, call.token ?? null, deadline);
      return rows.heard(row.epoch, isAlive, deadline);
    },
    async keepFresh(ms, call) {
      await rows.keepFresh(ms, new Deadline(call));
    },
    close: () => rows.close(),
  };
}
