/** What Postgres would refuse to leave without a table or a column of it, by name. Indexes and constraints of the table itself are not among it. */
import { shown, shownRelation } from '../../model/quote';
import type { Table } from '../../model/catalog';
import type { PlanContext } from '../context';

export interface Needed {
  readonly type: string;
  readonly name: string;
}

const OWN_PARTS: readonly string[] = ['constraint', 'index', 'default', 'statistics', 'trigger'];

/** Views, rules, policies, functions, triggers, generated columns and foreign keys that need the column (or, with null, the table). */
export function dependentsOf(ctx: PlanContext, table: Table, column: string | null): Needed[] {
  const uses = (columns: readonly string[]): boolean => column === null || columns.includes(column);
  const dropped = (name: string, d: Table['dependents'][number]): boolean =>
    d.relation !== null &&
    ctx.overlay.base.tables.some((t) => t.schema === d.relation?.schema && t.name === d.relation.name) &&
    ctx.overlay.at(d.relation) === null &&
    name !== '';
  const found: Needed[] = table.dependents
    .filter(
      (d) =>
        !OWN_PARTS.includes(d.type) &&
        (column === null ? d.type !== 'policy' && d.type !== 'publication' : d.columns.includes(column)),
    )
    .filter((d) => !dropped(d.name, d))
    .map((d) => ({ type: d.type, name: d.name }));
  if (column !== null) {
    found.push(
      ...table.triggers.filter((t) => uses(t.columns)).map((t) => ({ type: 'trigger', name: shown(t.name) })),
      ...table.policies.filter((p) => uses(p.columns)).map((p) => ({ type: 'policy', name: shown(p.name) })),
      ...table.columns
        .filter(
          (c) =>
            c.name !== column &&
            c.generated !== null &&
            new RegExp(`(^|[^\\w"])"?${column.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}"?($|[^\\w"])`).test(
              c.default ?? '',
            ),
        )
        .map((c) => ({ type: 'generated column', name: shown(c.name) })),
    );
  }
  found.push(
    ...table.incoming
      .filter(
        (f) =>
          f.type === 'foreign' &&
          uses(f.references?.columns ?? []) &&
          !(f.table.schema === table.schema && f.table.name === table.name),
      )
      .filter((f) => ctx.overlay.at(f.table)?.constraints.some((c) => c.name === f.name) ?? false)
      .map((f) => ({ type: 'foreign key', name: `${shown(f.name)} of ${shownRelation(f.table)}` })),
  );
  const seen = new Set<string>();
  return found.filter((n) => {
    const key = `${n.type} ${n.name}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
