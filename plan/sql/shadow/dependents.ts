/**
 * Views, rules, triggers and policies that name the column: dropped and made again inside the swap's transaction, from Postgres' own text.
 * Keeps true: never CASCADE; what is dropped here is made again in the same transaction with its options, owner, grants, comments,
 * defaults, triggers and state.
 */
import { ident, literal, relation, shownRelation } from '../../model/quote';
import { columnGrants, objectGrants } from './acl';
import { comment, quotedTable } from './change';
import { steady } from './steady';
import type { Trigger, ViewDefinition } from '../../model/catalog';
import type { Change } from './change';
import type { RelationName } from '../../model/steps';

export interface Recreated {
  readonly drop: readonly string[];
  readonly create: readonly string[];
}

const key = (name: RelationName): string => `${name.schema}\0${name.name}`;

/** Every view that has to go, in an order in which they can be made again: the ones on the column and all that stand on those. */
export function viewsOn(change: Pick<Change, 'ctx' | 'table' | 'column'>): ViewDefinition[] {
  const found = new Map<string, ViewDefinition>();
  for (const dependent of change.table.dependents) {
    if (!dependent.view || !dependent.columns.includes(change.column.name)) continue;
    found.set(key(dependent.view), dependent.view);
    for (const above of dependent.view.dependents) {
      const view = definitionOf(change, above);
      if (view) found.set(key(above), view);
    }
  }
  const left = [...found.values()];
  const ordered: ViewDefinition[] = [];
  while (left.length > 0) {
    const at = left.findIndex(
      (view) => !left.some((other) => other !== view && other.dependents.some((d) => key(d) === key(view))),
    );
    ordered.push(...left.splice(Math.max(0, at), 1));
  }
  return ordered;
}

function definitionOf(change: Pick<Change, 'ctx'>, name: RelationName): ViewDefinition | null {
  for (const table of change.ctx.catalog.tables)
    for (const dependent of table.dependents)
      if (dependent.view && key(dependent.view) === key(name)) return dependent.view;
  return null;
}

const statement = (text: string): string => steady(text.trim().replace(/;\s*$/, ''));

const ENABLE: Readonly<Record<string, string>> = { D: 'DISABLE', R: 'ENABLE REPLICA', A: 'ENABLE ALWAYS' };

export const makeTrigger = (on: string, trigger: Trigger): string[] => [
  statement(trigger.definition),
  ...(ENABLE[trigger.enabled] ? [`ALTER TABLE ${on} ${ENABLE[trigger.enabled]} TRIGGER ${ident(trigger.name)}`] : []),
  ...comment(`TRIGGER ${ident(trigger.name)} ON ${on}`, trigger.comment),
];

/** The view with all that hangs on it, first its CREATE. */
export function makeView(view: ViewDefinition): string[] {
  const name = relation(view);
  const options = view.options.map((o) => {
    const at = o.indexOf('=');
    return at < 0 ? o : `${o.slice(0, at)} = ${literal(o.slice(at + 1)).trimStart()}`;
  });
  return [
    `CREATE VIEW ${name}${options.length > 0 ? ` WITH (${options.join(', ')})` : ''} AS ${statement(view.query)}`,
    `ALTER VIEW ${name} OWNER TO ${ident(view.owner)}`,
    ...view.columnDefaults.map((d) => `ALTER VIEW ${name} ALTER COLUMN ${ident(d.column)} SET DEFAULT ${d.default}`),
    ...view.rules.map(statement),
    ...view.triggers.flatMap((trigger) => makeTrigger(name, trigger)),
    ...objectGrants(view.acl, 'TABLE', view, view.owner),
    ...view.columnAcls.flatMap((c) => columnGrants(c.acl, view, c.column)),
    ...comment(`VIEW ${name}`, view.comment),
    ...view.columnComments.flatMap((c) => comment(`COLUMN ${name}.${ident(c.column)}`, c.comment)),
  ];
}

export function recreated(change: Change): Recreated {
  const { policies, rules, triggers } = change;
  const table = quotedTable(change);
  const views = viewsOn(change);
  const ruleState = (enabled: string | undefined): string | undefined => ENABLE[enabled ?? 'O'];
  return {
    drop: [
      ...[...views].reverse().map((view) => `DROP VIEW ${relation(view)}`),
      ...rules.map((rule) => `DROP RULE ${ident(rule.name)} ON ${table}`),
      ...triggers.map((trigger) => `DROP TRIGGER ${ident(trigger.name)} ON ${table}`),
      ...policies.map((policy) => `DROP POLICY ${ident(policy.name)} ON ${table}`),
    ],
    create: [
      ...views.flatMap(makeView),
      ...rules.flatMap((rule) => [
        statement(rule.definition),
        ...(ruleState(rule.enabled)
          ? [`ALTER TABLE ${table} ${ruleState(rule.enabled)} RULE ${ident(rule.name)}`]
          : []),
        ...comment(`RULE ${ident(rule.name)} ON ${table}`, rule.comment ?? null),
      ]),
      ...triggers.flatMap((trigger) => makeTrigger(table, trigger)),
      ...policies.flatMap((policy) => [
        statement(policy.definition),
        ...comment(`POLICY ${ident(policy.name)} ON ${table}`, policy.comment ?? null),
      ]),
    ],
  };
}

/** Says to the person what is dropped and made again. */
export function tellDependents(change: Change): void {
  const of = shownRelation(change.table);
  const tell = (type: string, name: string, handled: 'recreated' | 'moved'): void =>
    change.ctx.dependent({ type, name, of, handled });
  for (const view of viewsOn(change)) tell('view', shownRelation(view), 'recreated');
  for (const rule of change.rules) tell('rule', rule.name, 'recreated');
  for (const trigger of change.triggers) tell('trigger', trigger.name, 'recreated');
  for (const policy of change.policies) tell('policy', policy.name, 'recreated');
  for (const { index } of change.indexes) tell('index', index.name, 'moved');
  for (const { constraint } of [...change.checks, ...change.foreign]) tell('constraint', constraint.name, 'moved');
  for (const { statistics } of change.statistics) tell('statistics', shownRelation(statistics), 'moved');
}

/**
 * plpgsql keeps the types of a row's fields in each session's compiled functions: after the swap every open session would fail with "type
 * of parameter does not match that when preparing the plan", for ever. A function whose pg_proc row was written is compiled again. RESET of
 * a setting that the function has not set writes the row and changes nothing.
 */
export function recompiled(change: Change): string[] {
  const word = (name: string): RegExp =>
    new RegExp(`(^|[^\\w$])${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}([^\\w$]|$)`, 'i');
  const table = word(change.table.name);
  const column = word(change.column.name);
  const attached = new Set(change.table.triggers.map((t) => t.function));
  const shownName = (f: RelationName): string[] => [`${f.schema}.${f.name}`, relation(f), shownRelation(f)];
  const touched = change.ctx.catalog.functions.filter((f) => {
    if (f.language !== 'plpgsql' || f.schema === 'pg_catalog') return false;
    if (shownName(f).some((n) => attached.has(n))) return true;
    const source = f.source ?? '';
    return table.test(source) && (column.test(source) || /\*/.test(source));
  });
  if (touched.length === 0) return [];
  const one = (f: (typeof touched)[number]): string =>
    `BEGIN ALTER ${f.kind === 'procedure' ? 'PROCEDURE' : 'FUNCTION'} ${relation(f)}(${f.arguments}) RESET geqo_seed; ` +
    `EXCEPTION WHEN insufficient_privilege OR undefined_function THEN NULL; END;`;
  return [`DO ${literal(`BEGIN ${touched.map(one).join(' ')} END`).trimStart()}`];
}
