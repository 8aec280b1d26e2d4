/** From a statement's type to the family that plans it. What nobody here knows is refused: nothing runs that was not understood. */
import { kindOf } from '../ast';
import { planAlterTable } from './alterTable';
import { planCreateFunction } from './createFunction';
import { planCreateIndex } from './createIndex';
import { planCreateObject, planCreateView } from './createObject';
import { planCreateTable, planCreateTableAs } from './createTable';
import { planDelete, planUpdate } from './dml';
import { planDrop } from './dropObject';
import { planInsert } from './insert';
import {
  planAlterEnum,
  planAlterPolicy,
  planAlterSequence,
  planRefresh,
  planReindex,
  planTruncate,
  planUnknownInverse,
} from './misc';
import { planComment, planGrant } from './privileges';
import { planRefused } from './refused';
import { planRename, planSetSchema } from './rename';
import type { Node } from 'libpg-query';
import type { PlanContext } from '../context';

type Kind = Node extends infer N ? (N extends N ? keyof N : never) : never;
type Fields<K extends string> = Extract<Node, Record<K, unknown>>[K & keyof Extract<Node, Record<K, unknown>>];
type Families = { readonly [K in Kind]?: (ctx: PlanContext, fields: Fields<K & string>) => void };

const FAMILIES: Families = {
  AlterTableStmt: planAlterTable,
  IndexStmt: planCreateIndex,
  DropStmt: planDrop,
  RenameStmt: planRename,
  AlterObjectSchemaStmt: planSetSchema,
  UpdateStmt: planUpdate,
  DeleteStmt: planDelete,
  InsertStmt: planInsert,
  CreateStmt: planCreateTable,
  CreateTableAsStmt: planCreateTableAs,
  ViewStmt: planCreateView,
  CreateFunctionStmt: planCreateFunction,
  CreateEnumStmt: planCreateObject,
  CreateRangeStmt: planCreateObject,
  CompositeTypeStmt: planCreateObject,
  CreateDomainStmt: planCreateObject,
  CreateSeqStmt: planCreateObject,
  CreateSchemaStmt: planCreateObject,
  CreateExtensionStmt: planCreateObject,
  CreatePolicyStmt: planCreateObject,
  RuleStmt: planCreateObject,
  CreateStatsStmt: planCreateObject,
  CreateTrigStmt: planCreateObject,
  CreatePublicationStmt: planCreateObject,
  CreateCastStmt: planCreateObject,
  AlterEnumStmt: planAlterEnum,
  AlterSeqStmt: planAlterSequence,
  AlterPolicyStmt: planAlterPolicy,
  RefreshMatViewStmt: planRefresh,
  ReindexStmt: planReindex,
  TruncateStmt: planTruncate,
  CommentStmt: planComment,
  GrantStmt: planGrant,
  GrantRoleStmt: planUnknownInverse,
  AlterDefaultPrivilegesStmt: planUnknownInverse,
  AlterOwnerStmt: planUnknownInverse,
  AlterFunctionStmt: planUnknownInverse,
  AlterPublicationStmt: planUnknownInverse,
  AlterExtensionStmt: planUnknownInverse,
  AlterStatsStmt: planUnknownInverse,
  AlterTypeStmt: planUnknownInverse,
  SecLabelStmt: planUnknownInverse,
};

/** Throws NoSuchObject, SqlSyntax (transforms), TransformMissing, MeaningChanged. */
export function planStatement(ctx: PlanContext): void {
  const { ast } = ctx.statement;
  const kind = kindOf(ast);
  const family = (FAMILIES as Readonly<Record<string, ((ctx: PlanContext, fields: unknown) => void) | undefined>>)[
    kind
  ];
  if (family) family(ctx, (ast as unknown as Readonly<Record<string, unknown>>)[kind]);
  else planRefused(ctx);
}
