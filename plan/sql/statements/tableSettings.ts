/**
 * The other commands of ALTER TABLE (and of ALTER VIEW, INDEX, SEQUENCE, which share its tree): as they are when they only write the
 * catalogue, with their inverse where the catalogue tells it; refused when they rewrite or are not known.
 */
import { as } from '../ast';
import { brief, risk } from '../figures';
import { ident, literal, relation, shown, shownRelation } from '../../model/quote';
import { addValidate } from './setNotNull';
import { refuseAsWritten } from './refused';
import { alter, commandSql, guarded, lockTarget, locksOf, relationExists, transaction, withoutWayBack } from './shared';
import type { AlterTableCmd, AlterTableStmt } from 'libpg-query';
import type { Table } from '../../model/catalog';
import type { LockMode } from '../../model/steps';
import type { PlanContext } from '../context';

interface Simple {
  readonly action: string;
  readonly title: string;
  readonly mode: LockMode;
  /** One statement; null = the old state is not known to the planner. */
  readonly back: string | null;
}

const TRIGGER_STATE: Readonly<Record<string, string>> = {
  O: 'ENABLE',
  D: 'DISABLE',
  R: 'ENABLE REPLICA',
  A: 'ENABLE ALWAYS',
};

export function planTableSetting(
  ctx: PlanContext,
  statement: AlterTableStmt,
  table: Table | null,
  command: AlterTableCmd,
): void {
  if (!table) return planOther(ctx, statement);
  if (command.subtype === 'AT_ValidateConstraint') return planValidate(ctx, table, command);
  const rewrite = REWRITES[command.subtype ?? ''];
  if (rewrite && !ctx.overlay.isNew(table)) {
    refuseAsWritten(ctx, {
      rule: 'rewrite',
      message: `${rewrite} rewrites ${shownRelation(table)} while nobody can read or write it`,
      alternative: 'make a new table so, and move the rows',
    });
    return;
  }
  const simple = simpleOf(ctx, table, command);
  if (!simple) {
    refuseAsWritten(ctx, {
      rule: 'not_understood',
      message: `this command of ALTER TABLE (${(command.subtype ?? '').replace(/^AT_/, '')}) is not understood by this version`,
      alternative: 'run it by hand, or name the rule under allow to run it as it is',
    });
    return;
  }
  if (
    simple.back === null &&
    !withoutWayBack(
      ctx,
      `what was set before is not known: ${simple.title}`,
      'set it by hand, or allow no_way_back',
      table,
    )
  )
    return;
  ctx.add({
    phase: 'expand',
    action: simple.action,
    title: simple.title,
    run: transaction([commandSql(ctx, statement, command)], { lockFirst: [lockTarget(table, simple.mode)] }),
    undo: simple.back === null ? [] : [transaction([guarded(relationExists(table), simple.back)])],
    wayBack: simple.back === null ? null : { statement: simple.back, lossless: true },
    because: 'what was set before is not known',
    locks: locksOf(ctx, table, simple.mode),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  const of =
    /^(add|set)_identity$/.test(simple.action) && command.name
      ? `column ${shownRelation(table)}.${shown(command.name)}`
      : `table ${shownRelation(table)}`;
  ctx.asked(`~ ${of}: ${simple.action}`);
}

const REWRITES: Readonly<Record<string, string>> = {
  AT_SetLogged: 'SET LOGGED',
  AT_SetUnLogged: 'SET UNLOGGED',
  AT_SetTableSpace: 'SET TABLESPACE',
  AT_SetAccessMethod: 'SET ACCESS METHOD',
  AT_SetExpression: 'SET EXPRESSION of a stored column',
};

function planValidate(ctx: PlanContext, table: Table, command: AlterTableCmd): void {
  const name = command.name ?? '';
  const constraint = table.constraints.find((c) => c.name === name);
  if (!constraint)
    throw ctx.problem('NoSuchObject', `constraint ${shown(name)} of ${shownRelation(table)} does not exist`, {
      value: name,
    });
  if (constraint.validated) {
    ctx.finding({
      rule: 'nothing_to_do',
      level: 'info',
      message: `constraint ${shown(name)} is valid already`,
      relation: shownRelation(table),
    });
    return;
  }
  addValidate(
    ctx,
    table,
    name,
    `constraint ${shown(name)} of ${shownRelation(table)}`,
    constraint.references ? ctx.overlay.at(constraint.references.table) : null,
  );
}

function simpleOf(ctx: PlanContext, table: Table, command: AlterTableCmd): Simple | null {
  const at = shownRelation(table);
  const name = command.name ?? '';
  const trigger = (state: string): Simple => {
    const found = table.triggers.find((t) => t.name === name);
    if (!found) throw ctx.problem('NoSuchObject', `trigger ${shown(name)} of ${at} does not exist`, { value: name });
    return {
      action: 'set_trigger',
      title: `${state} trigger ${shown(name)} of ${at}`,
      mode: 'SHARE ROW EXCLUSIVE',
      back: alter(table, `${TRIGGER_STATE[found.enabled] ?? 'ENABLE'} TRIGGER ${ident(name)}`),
    };
  };
  switch (command.subtype) {
    case 'AT_EnableTrig':
      return trigger('enable');
    case 'AT_DisableTrig':
      return trigger('disable');
    case 'AT_EnableAlwaysTrig':
      return trigger('enable always');
    case 'AT_EnableReplicaTrig':
      return trigger('enable replica');
    case 'AT_EnableRowSecurity':
      return {
        action: 'set_row_security',
        title: `enable row security of ${at}`,
        mode: 'ACCESS EXCLUSIVE',
        back: alter(table, table.rowSecurity ? 'ENABLE ROW LEVEL SECURITY' : 'DISABLE ROW LEVEL SECURITY'),
      };
    case 'AT_DisableRowSecurity':
      return {
        action: 'set_row_security',
        title: `disable row security of ${at}`,
        mode: 'ACCESS EXCLUSIVE',
        back: alter(table, table.rowSecurity ? 'ENABLE ROW LEVEL SECURITY' : 'DISABLE ROW LEVEL SECURITY'),
      };
    case 'AT_ForceRowSecurity':
      return { action: 'set_row_security', title: `force row security of ${at}`, mode: 'ACCESS EXCLUSIVE', back: null };
    case 'AT_NoForceRowSecurity':
      return {
        action: 'set_row_security',
        title: `no forced row security of ${at}`,
        mode: 'ACCESS EXCLUSIVE',
        back: null,
      };
    case 'AT_SetRelOptions':
    case 'AT_ResetRelOptions':
      return relOptions(table, command);
    case 'AT_ReplicaIdentity':
      return {
        action: 'set_replica_identity',
        title: `set the replica identity of ${at}`,
        mode: 'ACCESS EXCLUSIVE',
        back: alter(table, `REPLICA IDENTITY ${identity(table)}`),
      };
    case 'AT_ChangeOwner':
      return {
        action: 'set_owner',
        title: `change the owner of ${at}`,
        mode: 'ACCESS EXCLUSIVE',
        back: alter(table, `OWNER TO ${ident(table.owner)}`),
      };
    case 'AT_ClusterOn':
    case 'AT_DropCluster': {
      const on = table.indexes.find((i) => i.clustered);
      return {
        action: 'set_cluster',
        title: `mark the index that CLUSTER would use on ${at}`,
        mode: 'SHARE UPDATE EXCLUSIVE',
        back: alter(table, on ? `CLUSTER ON ${ident(on.name)}` : 'SET WITHOUT CLUSTER'),
      };
    }
    case 'AT_DropExpression':
      return {
        action: 'drop_expression',
        title: `make ${at}.${shown(name)} an ordinary column`,
        mode: 'ACCESS EXCLUSIVE',
        back: null,
      };
    case 'AT_SetIdentity':
    case 'AT_DropIdentity':
      return {
        action: 'set_identity',
        title: `change the identity of ${at}.${shown(name)}`,
        mode: 'ACCESS EXCLUSIVE',
        back: null,
      };
    case 'AT_AddIdentity':
      return {
        action: 'add_identity',
        title: `make ${at}.${shown(name)} an identity column`,
        mode: 'ACCESS EXCLUSIVE',
        back: alter(table, `ALTER COLUMN ${ident(name)} DROP IDENTITY IF EXISTS`),
      };
    default:
      return null;
  }
}

const identity = (table: Table): string =>
  typeof table.replicaIdentity === 'string'
    ? table.replicaIdentity.toUpperCase()
    : `USING INDEX ${ident(table.replicaIdentity.index)}`;

/** Options that autovacuum and the planner read take the weak lock; the others the strong one. */
const WEAK =
  /^(autovacuum_|toast\.autovacuum_|fillfactor$|toast_tuple_target$|parallel_workers$|n_distinct|log_autovacuum)/;

function relOptions(table: Table, command: AlterTableCmd): Simple {
  const options = (as(command.def, 'List')?.items ?? []).flatMap((n) => as(n, 'DefElem') ?? []);
  const names = options.map((o) => `${o.defnamespace ? `${o.defnamespace}.` : ''}${o.defname ?? ''}`);
  const old = names.map((n) => table.options.find((o) => o.startsWith(`${n}=`)) ?? null);
  const actions = names.map((n, i) => {
    const was = old[i];
    return was ? `SET (${n} = ${literal(was.slice(was.indexOf('=') + 1))})` : `RESET (${n})`;
  });
  return {
    action: 'set_options',
    title: `set ${names.join(', ')} of ${shownRelation(table)}`,
    mode: names.every((n) => WEAK.test(n)) ? 'SHARE UPDATE EXCLUSIVE' : 'ACCESS EXCLUSIVE',
    back: alter(table, ...actions),
  };
}

/** Views, indexes, sequences and composite types: catalogue changes on things that hold no rows; the inverse is known for the owner alone. */
function planOther(ctx: PlanContext, statement: AlterTableStmt): void {
  const commands = (statement.cmds ?? []).flatMap((n) => as(n, 'AlterTableCmd') ?? []);
  const name = shown(statement.relation?.relname ?? '');
  const view = ctx.overlay.find(statement.relation ?? {});
  const only = commands.length === 1 ? commands[0] : undefined;
  const kinds: Readonly<Record<string, string>> = {
    OBJECT_VIEW: 'VIEW',
    OBJECT_MATVIEW: 'MATERIALIZED VIEW',
    OBJECT_SEQUENCE: 'SEQUENCE',
    OBJECT_INDEX: 'INDEX',
    OBJECT_TYPE: 'TYPE',
    OBJECT_FOREIGN_TABLE: 'FOREIGN TABLE',
  };
  const kind = kinds[statement.objtype ?? ''];
  const free = commands.every((c) =>
    [
      'AT_ChangeOwner',
      'AT_ColumnDefault',
      'AT_SetRelOptions',
      'AT_ResetRelOptions',
      'AT_AddColumn',
      'AT_SetStatistics',
      'AT_AttachPartition',
    ].includes(c.subtype ?? ''),
  );
  if (!kind || !free) {
    refuseAsWritten(ctx, {
      rule: 'not_understood',
      message: `this ALTER ${kind ?? ''} of ${name} is not understood by this version`,
      alternative: 'run it by hand, or name the rule under allow to run it as it is',
    });
    return;
  }
  const back =
    only?.subtype === 'AT_ChangeOwner' && view ? `ALTER ${kind} ${relation(view)} OWNER TO ${ident(view.owner)}` : null;
  if (
    back === null &&
    !withoutWayBack(ctx, `what ${name} was before is not known`, 'change it by hand, or allow no_way_back')
  )
    return;
  ctx.add({
    phase: 'expand',
    action: 'alter',
    title: `alter ${kind.toLowerCase()} ${name}`,
    run: transaction([ctx.statement.text]),
    undo: back === null ? [] : [transaction([back])],
    wayBack: back === null ? null : { statement: back, lossless: true },
    because: 'what was set before is not known',
    locks: view ? locksOf(ctx, view, 'ACCESS EXCLUSIVE') : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  const schema = statement.relation?.schemaname;
  ctx.asked(
    `~ ${kind.toLowerCase()} ${schema ? `${shown(schema)}.` : ''}${name}: ${only?.subtype === 'AT_ChangeOwner' ? 'set_owner' : 'alter'}`,
  );
}
