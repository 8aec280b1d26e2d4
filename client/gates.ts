/** Gates of a plan in a few words: who or what opens each. */
import type { Gate, SchemaMigrationPlan } from '../plan/model/plan';

const opener = (gate: Gate): string | null => {
  if (Array.isArray(gate)) {
    const all = gate.map(opener).filter((word) => word !== null);
    return all.length === 0 ? null : all.join(' and ');
  }
  if (gate === 'none') return null;
  if (gate === 'manual') return 'a person';
  if (gate.type === 'metric') return `metric ${gate.name}`;
  return gate.quorum > 1 ? `${gate.quorum} people` : 'a person';
};

/** Phase or step -> "a person", "metric p95". */
export function openers(plan: Pick<SchemaMigrationPlan, 'gates'>): Readonly<Record<string, string>> {
  const entries = Object.entries(plan.gates).map(([name, gate]) => [name, opener(gate)] as const);
  return Object.fromEntries(entries.filter((entry): entry is readonly [string, string] => entry[1] !== null));
}
