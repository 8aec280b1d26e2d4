/**
 * Many changes in their order -> few steps with the same outcome. Between two things whose order matters to others (TRUNCATE, a row that moves to
 * another key while a part of it did not come, a row without a key) only the last state of each key counts: first what goes, then what changes,
 * then what comes. Pure. Keeps true: applying the steps one after the other leaves exactly what the changes one by one would have left.
 */
import { Problem } from '../../plan/model/errors';
import type { Tuple, Value, WireRelation } from './decode';
import { UNCHANGED } from './decode';
import type { TablePlan } from './plan';
import type { Change } from './types';

type Op = 'insert' | 'update' | 'delete' | 'replace';

interface Entry {
  op: Op;
  /** As the row was found: what is deleted. */
  old: Tuple;
  row: Tuple;
}

/** Last states of one table's keys. */
export interface Net {
  readonly plan: TablePlan;
  readonly entries: Map<string, Entry>;
  /** Of a table without a key: rows that only come. */
  readonly comes: Tuple[];
}

export type Step =
  | { readonly kind: 'net'; readonly nets: readonly Net[] }
  | { readonly kind: 'move' | 'updateLike'; readonly plan: TablePlan; readonly old: Tuple; readonly row: Tuple }
  | { readonly kind: 'deleteLike'; readonly plan: TablePlan; readonly old: Tuple }
  | { readonly kind: 'truncate'; readonly plans: readonly TablePlan[]; readonly restart: boolean };

/** null = the table is not followed. */
export type PlanOf = (relation: WireRelation) => TablePlan | null;

const keyOf = (plan: TablePlan, row: Tuple): string => {
  const parts = plan.key ?? [];
  if (parts.length === 1) return String(row[parts[0]?.input ?? 0]);
  return parts.map(({ input }) => `${String(row[input]).length}:${String(row[input])}`).join(',');
};

const isWhole = (row: Tuple): boolean => !row.includes(UNCHANGED);

/** What did not come is as `before` has it. */
const fill = (row: Tuple, before: Tuple): Tuple =>
  isWhole(row) ? row : row.map((value: Value, at): Value => (value === UNCHANGED ? (before[at] ?? null) : value));

class Steps {
  readonly steps: Step[] = [];
  private nets = new Map<number, Net>();

  net(plan: TablePlan): Net {
    const found = this.nets.get(plan.relation.oid);
    if (found?.plan === plan) return found;
    // The table was described anew: what came before is of another shape.
    if (found) this.flush();
    const made: Net = { plan, entries: new Map(), comes: [] };
    this.nets.set(plan.relation.oid, made);
    return made;
  }

  flush(): void {
    const nets = [...this.nets.values()].filter(({ entries, comes }) => entries.size > 0 || comes.length > 0);
    if (nets.length > 0) this.steps.push({ kind: 'net', nets });
    this.nets = new Map();
  }

  alone(step: Step): void {
    this.flush();
    this.steps.push(step);
  }
}

function goes(net: Net, old: Tuple): void {
  const key = keyOf(net.plan, old);
  const entry = net.entries.get(key);
  if (entry?.op === 'insert') net.entries.delete(key);
  else if (entry) entry.op = 'delete';
  else net.entries.set(key, { op: 'delete', old, row: old });
}

function comes(net: Net, row: Tuple): void {
  const key = keyOf(net.plan, row);
  const entry = net.entries.get(key);
  if (!entry) net.entries.set(key, { op: 'insert', old: row, row });
  else {
    entry.op = entry.op === 'delete' ? 'replace' : entry.op;
    entry.row = row;
  }
}

function changes(net: Net, row: Tuple): void {
  const key = keyOf(net.plan, row);
  const entry = net.entries.get(key);
  if (!entry) net.entries.set(key, { op: 'update', old: row, row });
  else entry.row = fill(row, entry.row);
}

function update(steps: Steps, plan: TablePlan, old: Tuple | null, sent: Tuple): void {
  const whole = plan.relation.identity === 'f' && old !== null ? fill(sent, old) : sent;
  if (plan.key === null) {
    if (old === null) throw new Problem('Drift', `${plan.label}: an update came without the row as it was`);
    steps.alone({ kind: 'updateLike', plan, old, row: whole });
    return;
  }
  const net = steps.net(plan);
  if (old === null || keyOf(plan, old) === keyOf(plan, whole)) {
    changes(net, whole);
    return;
  }
  const before = net.entries.get(keyOf(plan, old));
  const row = before && before.op !== 'delete' ? fill(whole, before.row) : whole;
  if (!isWhole(row)) {
    steps.alone({ kind: 'move', plan, old, row });
    return;
  }
  goes(net, old);
  comes(net, row);
}

/** `planOf` must know every table of the changes. */
export function stepsOf(all: readonly Change[], planOf: PlanOf): Step[] {
  const steps = new Steps();
  for (const { message, tx } of all) {
    const wanted = (relation: WireRelation): TablePlan | null => {
      const plan = planOf(relation);
      return plan !== null && plan.isNew(tx) ? plan : null;
    };
    if (message.kind === 'truncate') {
      const plans = message.relations.map(wanted).filter((plan) => plan !== null);
      if (plans.length > 0) steps.alone({ kind: 'truncate', plans, restart: message.restart });
      continue;
    }
    const plan = wanted(message.relation);
    if (plan === null) continue;
    if (message.kind === 'insert') {
      if (plan.key === null) steps.net(plan).comes.push(message.row);
      else comes(steps.net(plan), message.row);
    } else if (message.kind === 'update') update(steps, plan, message.old, message.row);
    else if (plan.key === null) steps.alone({ kind: 'deleteLike', plan, old: message.old });
    else goes(steps.net(plan), message.old);
  }
  steps.flush();
  return steps.steps;
}

export interface Sorted {
  readonly gone: readonly Tuple[];
  /** Rows by which of their values did not come. */
  readonly changed: readonly (readonly Tuple[])[];
  readonly come: readonly Tuple[];
}

/** In the order in which they are applied. */
export function sorted({ entries, comes: rows }: Net): Sorted {
  const gone: Tuple[] = [];
  const come: Tuple[] = [...rows];
  const changed = new Map<string, Tuple[]>();
  for (const { op, old, row } of entries.values()) {
    if (op === 'delete' || op === 'replace') gone.push(old);
    if (op === 'insert' || op === 'replace') come.push(row);
    if (op !== 'update') continue;
    const missing = isWhole(row) ? '' : row.map((value, at) => (value === UNCHANGED ? at : '')).join(',');
    const list = changed.get(missing);
    if (list) list.push(row);
    else changed.set(missing, [row]);
  }
  return { gone, changed: [...changed.values()], come };
}
