/**
 * What `pgshift lint` says beyond the planner's own findings: advice on types, names and shapes, and which plain statements would have
 * blocked if pgshift did not rewrite them. Works on the statements alone; the catalogue only adds to it.
 */
import { scanSync } from 'libpg-query';
import type { ColumnDef, Node } from 'libpg-query';
import { as, kindOf, nameOf, strings, typeText } from './ast';
import { RULES } from './rules';
import { isSerial } from './statements/serial';
import { isVolatile } from './volatility';
import { shown, shownRelation } from '../model/quote';
import type { Finding } from '../model/steps';
import type { PlanBuilder } from './context';
import type { RuleName } from './rules';
import type { Statement } from './parse';

type Tell = (rule: RuleName, message: string, alternative?: string | null, at?: number) => void;

/** Adds lint's findings to the plan's. Findings of level error that nobody allowed refuse the plan, as the planner's own do. */
export function addLint(builder: PlanBuilder, statements: readonly Statement[]): void {
  for (const statement of statements) {
    const ctx = builder.context(statement);
    const tell: Tell = (rule, message, alternative = null, at) =>
      ctx.finding({ rule, level: RULES[rule].level, message, alternative, ...(at === undefined ? {} : { at }) });
    names(statement, tell);
    shapes(builder, statement, tell);
  }
  builder.findings.sort(
    (a, b) => a.statement - b.statement || a.line - b.line || a.column - b.column || order(a) - order(b),
  );
}

const order = (finding: Finding): number => ['error', 'warning', 'info'].indexOf(finding.level);

/** The parser has cut long names already, so the tokens are looked at. */
function names(statement: Statement, tell: Tell): void {
  for (const token of scanSync(statement.text).tokens) {
    if (token.tokenName !== 'IDENT') continue;
    const name = token.text.startsWith('"') ? token.text.slice(1, -1).replaceAll('""', '"') : token.text;
    const bytes = Buffer.byteLength(name, 'utf8');
    if (bytes > 63)
      tell('identifier_too_long', `${name} has ${bytes} bytes; Postgres cuts it at 63`, 'choose a shorter name');
  }
}

function shapes(builder: PlanBuilder, statement: Statement, tell: Tell): void {
  const { ast } = statement;
  const alter = as(ast, 'AlterTableStmt');
  if (alter) for (const node of alter.cmds ?? []) alterCommand(builder, alter.relation ?? {}, node, tell);
  const create = as(ast, 'CreateStmt');
  if (create) {
    const defs = (create.tableElts ?? []).flatMap((n) => as(n, 'ColumnDef') ?? []);
    for (const def of defs) columnTypes(def, tell);
    const constraints = [...defs.flatMap((d) => d.constraints ?? []), ...(create.tableElts ?? [])].flatMap(
      (n) => as(n, 'Constraint')?.contype ?? [],
    );
    const partial =
      create.partbound !== undefined ||
      (create.inhRelations ?? []).length > 0 ||
      (create.tableElts ?? []).some((n) => kindOf(n) === 'TableLikeClause');
    if (!constraints.includes('CONSTR_PRIMARY') && !partial)
      tell('no_primary_key', `table ${shown(create.relation?.relname ?? '')} has no primary key`, 'give it one');
  }
  const index = as(ast, 'IndexStmt');
  if (index) indexShape(builder, statement, tell);
  const update = as(ast, 'UpdateStmt');
  if (update) {
    const set = (update.targetList ?? []).flatMap((n) => as(n, 'ResTarget')?.name ?? []);
    const twice = set.find(
      (name, i) => set.indexOf(name) !== i && (update.targetList ?? []).every((n) => !as(n, 'ResTarget')?.indirection),
    );
    if (twice !== undefined) tell('duplicate_assignment', `column ${shown(twice)} is assigned twice`, 'assign it once');
  }
  const drop = as(ast, 'DropStmt');
  if (drop?.removeType === 'OBJECT_TABLE')
    tell(
      'drop_breaks_clients',
      `clients that use ${(drop.objects ?? []).map((o) => shown(nameOf(as(o, 'List')?.items).relname)).join(', ')} fail from contract on`,
      'move the clients first; during the hold one rename brings it back',
    );
  if (drop?.removeType === 'OBJECT_INDEX' && !drop.concurrent)
    tell('index_built_concurrently', 'the index is dropped concurrently');
  const domain = as(ast, 'CreateDomainStmt');
  if (domain && (domain.constraints ?? []).length > 0)
    tell(
      'domain_with_constraint',
      `the constraint of domain ${strings(domain.domainname).join('.')} is checked over every table when it changes`,
      'a CHECK on the columns',
    );
}

function alterCommand(
  builder: PlanBuilder,
  relation: { relname?: string; schemaname?: string },
  node: Node,
  tell: Tell,
): void {
  const command = as(node, 'AlterTableCmd');
  const table = shown(relation.relname ?? '');
  const isNew = !builder.overlay.base.tables.some((t) => t.name === relation.relname);
  if (!command || isNew) {
    const def = as(command?.def, 'ColumnDef');
    if (command?.subtype === 'AT_AddColumn' && def) columnTypes(def, tell);
    return;
  }
  switch (command.subtype) {
    case 'AT_AddColumn': {
      const def = as(command.def, 'ColumnDef');
      if (!def) return;
      columnTypes(def, tell);
      const value = (def.constraints ?? [])
        .map((c) => as(c, 'Constraint'))
        .find((c) => c?.contype === 'CONSTR_DEFAULT')?.raw_expr;
      const identity = (def.constraints ?? []).some((c) => as(c, 'Constraint')?.contype === 'CONSTR_IDENTITY');
      if (isSerial(def) || identity || (value && isVolatile(value, builder.overlay.base)))
        tell(
          'filled_in_batches',
          `each row of ${table} gets a value of its own: old rows are filled in batches instead of one rewrite`,
          null,
          def.location,
        );
      return;
    }
    case 'AT_SetNotNull':
      return tell(
        'not_null_by_check',
        `${table}.${shown(command.name ?? '')} is checked without a lock before it is set NOT NULL`,
      );
    case 'AT_DropNotNull':
      return tell('nulls_appear', `clients may read NULL from ${table}.${shown(command.name ?? '')} from now on`);
    case 'AT_AlterColumnType':
      tell(
        'type_by_shadow',
        `${table}.${shown(command.name ?? '')} changes its type: by a shadow column where Postgres would rewrite the table`,
      );
      return tell(
        'cached_plan',
        `a prepared statement that returns ${table}.${shown(command.name ?? '')} fails once with "cached plan must not change result type"`,
        'make clients prepare again after contract',
      );
    case 'AT_DropColumn':
      return tell(
        'drop_breaks_clients',
        `clients that use ${table}.${shown(command.name ?? '')} fail from contract on`,
        'move the clients first; during the hold one rename brings it back',
      );
    case 'AT_AddConstraint': {
      const constraint = as(command.def, 'Constraint');
      if (constraint?.contype === 'CONSTR_CHECK' || constraint?.contype === 'CONSTR_FOREIGN')
        tell(
          'constraint_validated_later',
          `the constraint of ${table} is added NOT VALID and validated afterwards`,
          null,
          constraint.location,
        );
      else if (
        (constraint?.contype === 'CONSTR_UNIQUE' || constraint?.contype === 'CONSTR_PRIMARY') &&
        constraint.indexname === undefined
      )
        tell(
          'unique_over_index',
          `the key of ${table} is built as a concurrent index and then attached`,
          null,
          constraint.location,
        );
      return;
    }
    default:
      return;
  }
}

function columnTypes(def: ColumnDef, tell: Tell): void {
  if (!def.typeName) return;
  const type = typeText(def.typeName);
  const name = shown(def.colname ?? '');
  const at = def.location;
  const key = (def.constraints ?? []).some((c) => as(c, 'Constraint')?.contype === 'CONSTR_PRIMARY');
  if (isSerial(def)) {
    tell(
      'prefer_identity',
      `${name} is ${type.name}`,
      `${/big|8/.test(type.name) ? 'bigint' : 'integer'} GENERATED BY DEFAULT AS IDENTITY`,
      at,
    );
    if (!/big|8/.test(type.name))
      tell(
        'prefer_bigint',
        `${name} is ${type.name}: it ends at ${/small|2/.test(type.name) ? '32,767' : '2,147,483,647'}`,
        'bigserial, or bigint with identity',
        at,
      );
  } else if (key && (type.name === 'int4' || type.name === 'int2'))
    tell(
      'prefer_bigint',
      `key ${name} is ${type.text}: it ends at ${type.name === 'int2' ? '32,767' : '2,147,483,647'}`,
      'bigint',
      at,
    );
  if (type.name === 'varchar' && type.modifiers.length > 0)
    tell(
      'prefer_text',
      `${name} is ${type.text}`,
      `text with CHECK (length(${name}) <= ${type.modifiers[0] ?? 0})`,
      at,
    );
  if (type.name === 'bpchar') tell('ban_char', `${name} is ${type.text}`, 'text', at);
  if (type.name === 'timestamp') tell('prefer_timestamptz', `${name} is ${type.text}`, 'timestamptz', at);
  if (type.name === 'json') tell('prefer_jsonb', `${name} is json`, 'jsonb', at);
  if (type.name === 'money') tell('ban_money', `${name} is money`, 'numeric', at);
}

function indexShape(builder: PlanBuilder, statement: Statement, tell: Tell): void {
  const index = as(statement.ast, 'IndexStmt');
  const { base } = builder.overlay;
  const table = builder.overlay.find(index?.relation ?? {});
  if (!index || !table) return;
  const existing = base.tables.find((t) => t.schema === table.schema && t.name === table.name);
  if (existing && !index.concurrent)
    tell('index_built_concurrently', `the index on ${shownRelation(table)} is built concurrently`);
  const keys = (index.indexParams ?? []).map((n) => as(n, 'IndexElem')?.name ?? null);
  if (keys.length > 3 && !index.unique)
    tell(
      'wide_index',
      `the index on ${shownRelation(table)} has ${keys.length} columns`,
      'three columns at most, the most selective first',
    );
  if (base.serverVersion >= 140000 && base.serverVersion < 140004)
    tell(
      'index_corruption',
      `this server (${base.serverVersion}) can corrupt an index that is built concurrently`,
      'upgrade to 14.4 or later first',
    );
  const twin = existing?.indexes.find(
    (i) =>
      i.valid &&
      i.predicate === null &&
      !index.whereClause &&
      i.method === (index.accessMethod ?? 'btree') &&
      i.name !== index.idxname &&
      keys.length > 0 &&
      keys.every((k, n) => k !== null && i.keys[n] === k),
  );
  if (twin && !index.unique && (index.indexIncludingParams ?? []).length === 0)
    tell(
      'duplicate_index',
      `index ${shown(twin.name)} of ${shownRelation(table)} begins with the same columns`,
      'use that one',
    );
}
