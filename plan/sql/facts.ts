/**
 * What a statement reads, writes and changes, as far as its tree says: enough to tell whether two statements may change places. Errs towards
 * more: a name that stands anywhere in the tree counts as used.
 */
import { as, kindOf, nameOf, strings, walk } from './ast';
import type { AlterTableCmd, Node } from 'libpg-query';
import type { RelationName } from '../model/steps';
import type { Retype } from './context';
import type { NamedRange, Overlay } from './overlay';

/** `columns`: null = the table itself gets another name. */
export interface ShapeChange {
  readonly table: RelationName;
  readonly columns: readonly string[] | null;
  readonly kind: 'type' | 'drop' | 'name';
  readonly what: string;
}

/** What decides how rows are written. */
export type WriteRule =
  | { readonly kind: 'trigger'; readonly table: RelationName }
  | { readonly kind: 'default' | 'column'; readonly table: RelationName; readonly name: string }
  | { readonly kind: 'function'; readonly name: string };

export interface Facts {
  /** Runs over rows once: UPDATE, DELETE, INSERT, CREATE TABLE AS, a materialized view with data. */
  readonly movesRows: boolean;
  readonly target: RelationName | null;
  /** Every relation that is named. */
  readonly tables: readonly RelationName[];
  /** Of these, used by all their columns whatever they are: *, INSERT without columns, LIKE, a key that is not named. */
  readonly shapeOf: readonly RelationName[];
  readonly star: boolean;
  readonly names: ReadonlySet<string>;
  readonly functions: ReadonlySet<string>;
  /** Depends on columns as they are when it runs, and is no command that the planner fits to a change of type itself. */
  readonly usesShape: boolean;
  readonly shape: readonly ShapeChange[];
  readonly rules: readonly WriteRule[];
  /** Tables that lose a trigger, rule or unique index. */
  readonly gone: readonly RelationName[];
  takesDefault(column: string): boolean;
}

const isRange = (value: object): value is NamedRange => 'relname' in value && typeof value.relname === 'string';

/** RangeVar nodes and the fields that hold one without its type. */
function ranges(value: unknown, found: NamedRange[] = []): NamedRange[] {
  if (Array.isArray(value)) for (const item of value) ranges(item, found);
  else if (typeof value === 'object' && value !== null) {
    if (isRange(value)) found.push(value);
    for (const inner of Object.values(value)) ranges(inner, found);
  }
  return found;
}

const MOVES: readonly string[] = ['UpdateStmt', 'DeleteStmt', 'InsertStmt', 'CreateTableAsStmt', 'MergeStmt'];
const SHAPED: readonly string[] = [
  ...MOVES,
  'ViewStmt',
  'RuleStmt',
  'CreatePolicyStmt',
  'AlterPolicyStmt',
  'CreateTrigStmt',
  'CreateStatsStmt',
  'CreatePublicationStmt',
  'AlterPublicationStmt',
  'CreateStmt',
];

/** `overlay`: of the snapshot alone, so that tables are found under the names that they have before the plan. */
export function factsOf(ast: Node, overlay: Overlay, retypes: readonly Retype[]): Facts {
  const resolve = (range: NamedRange): RelationName => {
    const { schema, name } = overlay.find(range) ?? overlay.target(range);
    return { schema, name };
  };
  const kind = kindOf(ast);
  const tables = ranges(ast).map(resolve);
  const names = new Set<string>();
  const functions = new Set<string>();
  let star = false;
  const alone = new Set<string>();
  const visit = (node: string, fields: Record<string, unknown>): boolean => {
    if (node === 'A_Star') star = true;
    if (node === 'ColumnRef') {
      const parts = strings(fields.fields as Node[]);
      star ||= parts.length < (fields.fields as Node[]).length;
      names.add(parts.at(-1) ?? '');
      if (parts.length === 1) alone.add(parts[0] ?? '');
    }
    if (node === 'FuncCall') {
      const { funcname, ...rest } = fields;
      functions.add(nameOf(funcname as Node[]).relname);
      walk(rest, visit);
    }
    if ((node === 'ResTarget' || node === 'StatsElem') && typeof fields.name === 'string') names.add(fields.name);
    // Keys, UPDATE OF, USING (..) and the like name columns by bare strings.
    if (node === 'String' && typeof fields.sval === 'string') names.add(fields.sval);
    return !['ColumnRef', 'FuncCall', 'TypeName', 'A_Const'].includes(node);
  };
  walk(ast, visit);
  const insert = as(ast, 'InsertStmt');
  const positional = insert !== null && (insert.cols ?? []).length === 0;
  const range = (as(ast, 'UpdateStmt') ?? as(ast, 'DeleteStmt') ?? insert ?? as(ast, 'MergeStmt'))?.relation;
  const target = range ? resolve(range) : null;
  // `t` alone is the whole row, unless it is a column.
  const wholeRow = ranges(ast).flatMap((r) => {
    const known = overlay.find(r);
    const name = (r as { alias?: { aliasname?: string } }).alias?.aliasname ?? r.relname ?? '';
    return known && alone.has(name) && !known.columns.some((c) => c.name === name) ? [resolve(r)] : [];
  });
  const table = (name: NamedRange | undefined): RelationName => resolve(name ?? {});
  return {
    movesRows: MOVES.includes(kind) && as(ast, 'CreateTableAsStmt')?.into?.skipData !== true,
    target,
    tables,
    shapeOf: [
      ...(star ? tables : wholeRow),
      ...(positional && target ? [target] : []),
      ...copied(ast, overlay, resolve),
    ],
    star,
    names,
    functions,
    usesShape: SHAPED.includes(kind) || generates(ast),
    shape: shapeOf(ast, table, retypes),
    rules: rulesOf(ast, table, retypes),
    gone: goneFrom(ast, overlay),
    takesDefault: (column) =>
      insert ? !(insert.cols ?? []).some((c) => as(c, 'ResTarget')?.name === column) : containsDefault(ast),
  };
}

const containsDefault = (ast: Node): boolean => {
  let found = false;
  walk(ast, (node) => void (found ||= node === 'SetToDefault'));
  return found;
};

/** LIKE, INHERITS, PARTITION OF and keys that point to a primary key without naming it. */
function copied(ast: Node, overlay: Overlay, resolve: (range: NamedRange) => RelationName): RelationName[] {
  const statement = as(ast, 'CreateStmt');
  if (!statement) return [];
  const found: RelationName[] = [...ranges(statement.inhRelations).map(resolve)];
  walk(statement.tableElts, (node, fields) => {
    if (node === 'TableLikeClause') found.push(...ranges(fields.relation).map(resolve));
    const silent =
      node === 'Constraint' &&
      fields.pktable !== undefined &&
      ((fields.pk_attrs as Node[] | undefined) ?? []).length === 0;
    if (silent) found.push(...ranges(fields.pktable).map(resolve));
  });
  return found.filter((name) => overlay.at(name) !== null);
}

const commandsOf = (ast: Node): AlterTableCmd[] =>
  (as(ast, 'AlterTableStmt')?.cmds ?? []).flatMap((node) => as(node, 'AlterTableCmd') ?? []);

/** ADD COLUMN ... GENERATED ALWAYS AS (expression). */
function generates(ast: Node): boolean {
  let found = false;
  for (const command of commandsOf(ast))
    if (command.subtype === 'AT_AddColumn')
      walk(
        command.def,
        (node, fields) => void (found ||= node === 'Constraint' && fields.contype === 'CONSTR_GENERATED'),
      );
  return found;
}

function shapeOf(
  ast: Node,
  resolve: (range: NamedRange | undefined) => RelationName,
  retypes: readonly Retype[],
): ShapeChange[] {
  const alter = as(ast, 'AlterTableStmt');
  const rename = as(ast, 'RenameStmt');
  const move = as(ast, 'AlterObjectSchemaStmt');
  const table = resolve(alter?.relation ?? rename?.relation ?? move?.relation);
  const changes = commandsOf(ast).flatMap((command): ShapeChange[] => {
    const name = command.name ?? '';
    const retyped = retypes.some(
      (r) => r.table.schema === table.schema && r.table.name === table.name && r.column === name,
    );
    if (command.subtype === 'AT_AlterColumnType' && retyped)
      return [{ table, columns: [name], kind: 'type', what: `the change of type of column ${name}` }];
    return command.subtype === 'AT_DropColumn'
      ? [{ table, columns: [name], kind: 'drop', what: `the drop of column ${name}` }]
      : [];
  });
  if (rename?.renameType === 'OBJECT_COLUMN')
    changes.push({
      table,
      columns: [rename.subname ?? '', rename.newname ?? ''],
      kind: 'name',
      what: `the rename of column ${rename.subname ?? ''}`,
    });
  if (rename?.renameType === 'OBJECT_TABLE')
    for (const name of [table.name, rename.newname ?? ''])
      changes.push({
        table: { ...table, name },
        columns: null,
        kind: 'name',
        what: `the rename of table ${table.name}`,
      });
  if (move?.relation)
    for (const schema of [table.schema, move.newschema ?? ''])
      changes.push({
        table: { ...table, schema },
        columns: null,
        kind: 'name',
        what: `the move of table ${table.name}`,
      });
  return changes;
}

function rulesOf(
  ast: Node,
  resolve: (range: NamedRange | undefined) => RelationName,
  retypes: readonly Retype[],
): WriteRule[] {
  const trigger = as(ast, 'CreateTrigStmt')?.relation ?? as(ast, 'RuleStmt')?.relation;
  if (trigger) return [{ kind: 'trigger', table: resolve(trigger) }];
  const made = as(ast, 'CreateFunctionStmt');
  if (made) return [{ kind: 'function', name: nameOf(made.funcname).relname }];
  const alter = as(ast, 'AlterTableStmt');
  if (!alter) return [];
  const table = resolve(alter.relation);
  return commandsOf(ast).flatMap((command): WriteRule[] => {
    const subtype: string = command.subtype ?? '';
    const name = command.name ?? '';
    if (/^AT_(Enable|Disable)(Always|Replica)?(Trig|Rule)/.test(subtype)) return [{ kind: 'trigger', table }];
    if (subtype === 'AT_ColumnDefault') return [{ kind: 'default', table, name }];
    const shadowed = retypes.some(
      (r) => r.table.schema === table.schema && r.table.name === table.name && r.column === name,
    );
    return subtype === 'AT_AddColumn' || (subtype === 'AT_AlterColumnType' && shadowed)
      ? [{ kind: 'column', table, name }]
      : [];
  });
}

function goneFrom(ast: Node, overlay: Overlay): RelationName[] {
  const drop = as(ast, 'DropStmt');
  return (drop?.objects ?? []).flatMap((object): RelationName[] => {
    const parts = as(object, 'List')?.items ?? [];
    if (drop?.removeType === 'OBJECT_INDEX') {
      const found = overlay.findIndex(nameOf(parts));
      return found?.index.unique ? [{ schema: found.table.schema, name: found.table.name }] : [];
    }
    if (drop?.removeType !== 'OBJECT_TRIGGER' && drop?.removeType !== 'OBJECT_RULE') return [];
    const found = overlay.find(nameOf(parts.slice(0, -1)));
    return found ? [{ schema: found.schema, name: found.name }] : [];
  });
}
