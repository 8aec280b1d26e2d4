/** A column definition taken apart: type, default, NOT NULL, generation, and its constraints in the form of table constraints. */
import { as, stringNode } from '../ast';
import type { ColumnDef, Constraint as ConstraintNode, Node } from 'libpg-query';

/** The parts of a column definition, constraint attributes (DEFERRABLE ...) merged into the constraint that they follow. */
export interface ColumnParts {
  readonly def: ColumnDef;
  readonly default: Node | null;
  readonly notNull: ConstraintNode | null;
  readonly generated: ConstraintNode | null;
  readonly identity: ConstraintNode | null;
  /** CHECK, UNIQUE, PRIMARY KEY, REFERENCES in the form of table constraints. */
  readonly constraints: readonly ConstraintNode[];
}

export function columnParts(def: ColumnDef): ColumnParts {
  const merged: ConstraintNode[] = [];
  for (const node of (def.constraints ?? []).flatMap((n) => as(n, 'Constraint') ?? [])) {
    const last = merged.at(-1);
    if (!last || !node.contype?.startsWith('CONSTR_ATTR_')) merged.push({ ...node });
    else if (node.contype === 'CONSTR_ATTR_DEFERRABLE') merged[merged.length - 1] = { ...last, deferrable: true };
    else if (node.contype === 'CONSTR_ATTR_DEFERRED')
      merged[merged.length - 1] = { ...last, deferrable: true, initdeferred: true };
    else if (node.contype === 'CONSTR_ATTR_NOT_ENFORCED') {
      const { is_enforced: _e, initially_valid: _v, ...rest } = last;
      merged[merged.length - 1] = { ...rest, skip_validation: true };
    }
  }
  const name = def.colname ?? '';
  const find = (type: ConstraintNode['contype']): ConstraintNode | null =>
    merged.find((c) => c.contype === type) ?? null;
  const tableForm = (c: ConstraintNode): ConstraintNode => {
    if (c.contype === 'CONSTR_FOREIGN') return { ...c, fk_attrs: [stringNode(name)] };
    if (c.contype === 'CONSTR_CHECK') return c;
    return { ...c, keys: [stringNode(name)] };
  };
  return {
    def,
    default: find('CONSTR_DEFAULT')?.raw_expr ?? null,
    notNull: find('CONSTR_NOTNULL'),
    generated: find('CONSTR_GENERATED'),
    identity: find('CONSTR_IDENTITY'),
    constraints: merged
      .filter((c) => ['CONSTR_CHECK', 'CONSTR_UNIQUE', 'CONSTR_PRIMARY', 'CONSTR_FOREIGN'].includes(c.contype ?? ''))
      .map(tableForm),
  };
}
