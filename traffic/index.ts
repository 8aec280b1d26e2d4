/** Adapters of a plan, and all of them as one. */
import type { AdapterPlan } from '../plan/model/traffic';
import { commandTraffic } from './command/adapter';
import { haproxyTraffic } from './haproxy/adapter';
import { pgbouncerTraffic } from './pgbouncer/adapter';
import { routerTraffic } from './router/adapter';
import type { TrafficAdapter, TrafficDeps } from './types';

export type { ShareAsked, TrafficAdapter, TrafficCall, TrafficDeps, TrafficFinding, TrafficState } from './types';
export { together } from './together';

/** @throws Problem UnknownDatabase for a console that is not configured. */
export function createAdapter(plan: AdapterPlan, deps: TrafficDeps): TrafficAdapter {
  switch (plan.type) {
    case 'router':
      return routerTraffic(plan, deps);
    case 'pgbouncer':
      return pgbouncerTraffic(plan, deps);
    case 'haproxy':
      return haproxyTraffic(plan, deps);
    case 'command':
      return commandTraffic(plan, deps);
  }
}
