/** Gates as the plan writes them -> rules with every default, and the conditions of metric gates. Pure. */
import type { GateRules } from '../plan/model/inbox';
import type { Gate, MetricGate } from '../plan/model/plan';
import { parseDuration } from '../plan/model/values';

const listOf = (gate: Gate | undefined) => (gate === undefined ? [] : Array.isArray(gate) ? gate : [gate]);

export const openToAll = (name: string): GateRules => ({
  name,
  expiresMs: null,
  onExpiry: 'hold',
  quorum: 1,
  roles: [],
  notBy: 'none',
});

/** null = no person is asked. */
export function manualGate(name: string, gate: Gate | undefined): GateRules | null {
  for (const one of listOf(gate)) {
    if (one === 'manual') return openToAll(name);
    if (typeof one === 'object' && one.type === 'manual') {
      const { expires, onExpiry, quorum, roles, notBy } = one;
      return { name, expiresMs: expires === undefined ? null : parseDuration(expires), onExpiry, quorum, roles, notBy };
    }
  }
  return null;
}

export const metricGates = (gate: Gate | undefined): MetricGate[] =>
  listOf(gate).filter((one): one is MetricGate => typeof one === 'object' && one.type === 'metric');
