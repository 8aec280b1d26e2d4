/** GRANT, REVOKE and COMMENT: as they are. The way back is read from the catalogue: only what changes is changed back. */
import { as, sqlOf, strings } from '../ast';
import { brief, plannedLock, risk } from '../figures';
import { ident, relation, shownRelation } from '../../model/quote';
import { parseAcl } from '../shadow/acl';
import { namedObject } from './dropObject';
import { refuseAsWritten } from './refused';
import { guarded, relationExists, transaction, withoutWayBack } from './shared';
import type { CommentStmt, GrantStmt, Node } from 'libpg-query';
import type { PlanContext } from '../context';

const TABLE_PRIVILEGES = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'];
const SEQUENCE_PRIVILEGES = ['USAGE', 'SELECT', 'UPDATE'];

interface Holder {
  readonly keyword: 'TABLE' | 'SEQUENCE';
  readonly sql: string;
  readonly acl: readonly string[] | null;
  readonly owner: string;
}

/** Relations whose privileges the catalogue tells; null for anything else. */
function holdersOf(ctx: PlanContext, statement: GrantStmt): Holder[] | null {
  if (statement.targtype !== 'ACL_TARGET_OBJECT') return null;
  if (statement.objtype !== 'OBJECT_TABLE' && statement.objtype !== 'OBJECT_SEQUENCE') return null;
  return (statement.objects ?? []).flatMap((node): Holder[] => {
    const range = as(node, 'RangeVar');
    if (!range) return [];
    const sequence = ctx.catalog.sequences.find(
      (s) =>
        s.name === range.relname &&
        (range.schemaname === undefined ? ctx.plan.searchPath.includes(s.schema) : s.schema === range.schemaname),
    );
    if (sequence) return [{ keyword: 'SEQUENCE', sql: relation(sequence), acl: sequence.acl, owner: sequence.owner }];
    if (ctx.overlay.madeObject(range.relname ?? '')) return [];
    const table = ctx.overlay.need(range, ctx.where(range.location));
    return [{ keyword: 'TABLE', sql: relation(table), acl: table.acl, owner: table.owner }];
  });
}

const granteeOf = (node: Node): string | null => {
  const role = as(node, 'RoleSpec');
  if (role?.roletype === 'ROLESPEC_PUBLIC') return '';
  return role?.roletype === 'ROLESPEC_CSTRING' ? (role.rolename ?? '') : null;
};

const to = (grantee: string): string => (grantee === '' ? 'PUBLIC' : ident(grantee));

/** Statements that bring the privileges named back to what they were; null where that is not known. */
/** Functions, types and schemas that this plan makes: what is set on them goes with them. */
export const onNewObjects = (ctx: PlanContext, objects: readonly Node[] | undefined): boolean =>
  (objects ?? []).length > 0 &&
  (objects ?? []).every((node) => ctx.overlay.madeObject(as(node, 'RangeVar')?.relname ?? namedObject(node).name));

function grantBack(ctx: PlanContext, statement: GrantStmt): string[] | null {
  const holders = holdersOf(ctx, statement);
  const grantees = (statement.grantees ?? []).map(granteeOf);
  const privileges = (statement.privileges ?? []).flatMap((n) => as(n, 'AccessPriv') ?? []);
  if (!holders || grantees.includes(null) || privileges.some((p) => (p.cols ?? []).length > 0)) return null;
  return holders.flatMap((holder) => {
    const named =
      privileges.length > 0
        ? privileges.map((p) => (p.priv_name ?? '').toUpperCase())
        : holder.keyword === 'TABLE'
          ? TABLE_PRIVILEGES
          : SEQUENCE_PRIVILEGES;
    return grantees.flatMap((grantee) => {
      if (grantee === null) return [];
      const held =
        grantee === holder.owner && holder.acl === null
          ? named.map((name) => ({ name, grantable: false }))
          : (holder.acl ?? [])
              .map(parseAcl)
              .filter((a) => a.grantee === grantee)
              .flatMap((a) => a.privileges);
      const before = named.filter((name) => held.some((h) => h.name === name));
      const not = named.filter((name) => !before.includes(name));
      const options = before.filter((name) => held.some((h) => h.name === name && h.grantable));
      return [
        ...(not.length > 0 && statement.is_grant
          ? [`REVOKE ${not.join(', ')} ON ${holder.keyword} ${holder.sql} FROM ${to(grantee)}`]
          : []),
        ...(before.length > 0
          ? [`GRANT ${before.join(', ')} ON ${holder.keyword} ${holder.sql} TO ${to(grantee)}`]
          : []),
        ...(options.length > 0
          ? [`GRANT ${options.join(', ')} ON ${holder.keyword} ${holder.sql} TO ${to(grantee)} WITH GRANT OPTION`]
          : []),
        ...(statement.is_grant && statement.grant_option && before.length > options.length
          ? [
              `REVOKE GRANT OPTION FOR ${before.filter((b) => !options.includes(b)).join(', ')} ON ${holder.keyword} ${holder.sql} FROM ${to(grantee)}`,
            ]
          : []),
      ];
    });
  });
}

export function planGrant(ctx: PlanContext, statement: GrantStmt): void {
  const back = grantBack(ctx, statement);
  const word = statement.is_grant ? 'GRANT' : 'REVOKE';
  if (statement.behavior === 'DROP_CASCADE')
    return refuseAsWritten(ctx, {
      rule: 'cascade',
      message: 'REVOKE ... CASCADE takes from roles that nobody has named',
      alternative: 'name the roles',
    });
  const fresh = onNewObjects(ctx, statement.objects);
  if (
    back === null &&
    !fresh &&
    !withoutWayBack(
      ctx,
      `what this ${word} changes is not known to the planner (only tables and sequences by name are)`,
      'name the tables, or allow no_way_back',
    )
  )
    return;
  ctx.add({
    phase: 'expand',
    action: statement.is_grant ? 'grant' : 'revoke',
    title: ctx.statement.text.replace(/\s+/g, ' ').slice(0, 500),
    run: transaction([ctx.statement.text]),
    undo: back === null || back.length === 0 ? [] : [transaction(back)],
    wayBack: back === null && !fresh ? null : { statement: back?.join(';\n') || '-- nothing to undo', lossless: true },
    because: 'the privileges from before are not known',
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.asked(`~ privileges: ${ctx.statement.text.replace(/\s+/g, ' ').slice(0, 500)}`);
}

/** The comment that is there, by the type of the object; undefined = not known to the planner. */
function oldComment(
  ctx: PlanContext,
  statement: CommentStmt,
): { readonly comment: string | null; readonly on: { schema: string; name: string } } | undefined {
  const parts = strings(as(statement.object, 'List')?.items);
  const range = (list: readonly string[]): { relname: string; schemaname?: string } => ({
    relname: list.at(-1) ?? '',
    ...(list.length > 1 ? { schemaname: list.at(-2) ?? '' } : {}),
  });
  const last = parts.at(-1) ?? '';
  switch (statement.objtype) {
    case 'OBJECT_TABLE':
    case 'OBJECT_VIEW':
    case 'OBJECT_MATVIEW': {
      const table = ctx.overlay.need(range(parts), ctx.where());
      return { comment: table.comment, on: table };
    }
    case 'OBJECT_COLUMN': {
      const table = ctx.overlay.need(range(parts.slice(0, -1)), ctx.where());
      if (table.kind === 'view' && table.columns.length === 0) return { comment: null, on: table };
      return { comment: ctx.overlay.needColumn(table, last, ctx.where()).comment, on: table };
    }
    case 'OBJECT_TABCONSTRAINT':
    case 'OBJECT_TRIGGER': {
      const table = ctx.overlay.need(range(parts.slice(0, -1)), ctx.where());
      const list: readonly { name: string; comment: string | null }[] =
        statement.objtype === 'OBJECT_TRIGGER' ? table.triggers : table.constraints;
      const found = list.find((o) => o.name === last);
      return found ? { comment: found.comment, on: table } : undefined;
    }
    case 'OBJECT_INDEX': {
      const found = ctx.overlay.findIndex(range(parts));
      return found ? { comment: found.index.comment, on: found.index } : undefined;
    }
    case 'OBJECT_SEQUENCE': {
      const found = ctx.catalog.sequences.find((s) => s.name === last);
      return found ? { comment: found.comment, on: found } : undefined;
    }
    default:
      return undefined;
  }
}

/** Indexes and constraints that this plan builds later get their comment in contract, when they have their name. */
export function planComment(ctx: PlanContext, statement: CommentStmt): void {
  const old = oldComment(ctx, statement);
  const what = (statement.objtype ?? '')
    .replace(/^OBJECT_/, '')
    .replaceAll('_', ' ')
    .toLowerCase();
  const fresh = statement.object !== undefined && onNewObjects(ctx, [statement.object]);
  if (
    !old &&
    !fresh &&
    !withoutWayBack(ctx, `the comment that this ${what} has is not known to the planner`, 'allow no_way_back')
  )
    return;
  if (statement.objtype === 'OBJECT_COLUMN' && old) {
    const column = strings(as(statement.object, 'List')?.items).at(-1) ?? '';
    ctx.overlay.changeColumn(old.on, column, { comment: statement.comment ?? null });
  }
  const { comment: _comment, ...rest } = statement;
  const back = old
    ? sqlOf({ CommentStmt: { ...rest, ...(old.comment === null ? {} : { comment: old.comment }) } })
    : null;
  const late = statement.objtype === 'OBJECT_INDEX' || statement.objtype === 'OBJECT_TABCONSTRAINT';
  ctx.add({
    phase: late ? 'contract' : 'expand',
    // After every step that gives the object its name.
    ...(late ? { order: 20 } : {}),
    action: 'comment',
    title: `comment on ${what} ${old ? shownRelation(old.on) : ''}`.trim(),
    run: transaction([ctx.statement.text]),
    undo: back === null || !old ? [] : [transaction([late ? guarded(relationExists(old.on), back) : back])],
    wayBack: back === null && !fresh ? null : { statement: back ?? '-- goes with the object', lossless: true },
    because: 'the comment from before is not known',
    locks: old ? [plannedLock(old.on, 'SHARE UPDATE EXCLUSIVE')] : [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  // Without the comment's own text.
  ctx.asked(`~ comments: ${ctx.statement.text.replace(/\s+/g, ' ').replace(/ IS .*$/i, '')}`);
}
