/**
 * What pgshift does not do by itself: each with its rule, the reason and what to do instead. Named under `allow` it runs as it is, once,
 * and with no way back.
 */
import { as, kindOf } from '../ast';
import { risk } from '../figures';
import { shownRelation } from '../../model/quote';
import { withoutWayBack, transaction } from './shared';
import type { Estimate, PlannedLock } from '../../model/steps';
import type { PlanContext } from '../context';

interface Refusal {
  readonly rule: string;
  readonly message: string;
  readonly alternative: string;
  /** Refuses to run inside a transaction. */
  readonly autocommit?: boolean;
  /** Not even under `allow`. */
  readonly never?: boolean;
}

const UNKNOWN_TIME: Estimate = { seconds: [0, 3600], bytes: [0, 0], rows: null };

function refusalOf(ctx: PlanContext): Refusal {
  const { ast } = ctx.statement;
  switch (kindOf(ast)) {
    case 'TransactionStmt':
      return {
        rule: 'transaction_control',
        message: 'pgshift makes its own transactions, one short one for each step',
        alternative: 'leave BEGIN, COMMIT and SAVEPOINT out',
        never: true,
      };
    case 'VacuumStmt': {
      const vacuum = as(ast, 'VacuumStmt');
      const full = (vacuum?.options ?? []).some((o) => as(o, 'DefElem')?.defname === 'full');
      if (full)
        return {
          rule: 'vacuum_full',
          message: 'VACUUM FULL rewrites the table while nobody can read or write it',
          alternative: 'pg_repack or pg_squeeze; plain VACUUM where space may be used again',
          autocommit: true,
        };
      return {
        rule: 'not_understood',
        message: `${vacuum?.is_vacuumcmd ? 'VACUUM' : 'ANALYZE'} changes no schema`,
        alternative: 'run it by itself; pgshift analyzes what it builds',
        autocommit: vacuum?.is_vacuumcmd ?? false,
      };
    }
    case 'ClusterStmt':
      return {
        rule: 'cluster',
        message: 'CLUSTER rewrites the table while nobody can read or write it',
        alternative: 'pg_repack with an order',
      };
    case 'LockStmt':
      return {
        rule: 'lock_table',
        message: 'a lock lasts as long as its transaction, and each step is a transaction of its own',
        alternative: 'leave it out: pgshift takes the locks that a step needs, in one order, with a timeout',
      };
    case 'DropdbStmt':
      return {
        rule: 'drop_database',
        message: 'a database cannot be taken back',
        alternative: 'drop it by hand',
        autocommit: true,
      };
    case 'CreatedbStmt':
      return {
        rule: 'create_database',
        message: 'pgshift changes one database and does not make others',
        alternative: 'createdb',
        autocommit: true,
      };
    case 'AlterSystemStmt':
      return {
        rule: 'alter_system',
        message: 'server settings are not part of a schema',
        alternative: 'set it by hand, or in the server configuration',
        autocommit: true,
      };
    case 'CopyStmt':
      return {
        rule: 'copy',
        message: 'COPY moves data that the plan does not hold',
        alternative: 'kind: data-migration, or psql',
      };
    case 'DoStmt':
      return {
        rule: 'do_block',
        message: 'what a DO block does is known only when it runs',
        alternative: 'write the statements out',
      };
    case 'VariableSetStmt':
      return {
        rule: 'set',
        message: 'a setting lasts as long as its session, and each step has one of its own',
        alternative: 'leave it out; lockTimeout, searchPath and the like are keys of the plan',
      };
    case 'TruncateStmt':
      return {
        rule: 'truncate',
        message: 'TRUNCATE throws all rows away under a lock that stops reads and writes',
        alternative: 'DELETE (in batches, with archive), or DROP TABLE, which is hidden first',
      };
    default:
      return {
        rule: 'not_understood',
        message: `${words(kindOf(ast))} is not understood by this version, so neither its locks nor its way back are known`,
        alternative: 'run it by hand, or name the rule under allow to run it as it is',
      };
  }
}

/** CreateFdwStmt -> create fdw */
const words = (kind: string): string =>
  kind
    .replace(/Stmt$/, '')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase();

export function planRefused(ctx: PlanContext): void {
  refuseAsWritten(ctx, refusalOf(ctx));
}

/** Refuses; under `allow` the original text runs once, in contract, and nothing takes it back. */
export function refuseAsWritten(ctx: PlanContext, refusal: Refusal, locks: readonly PlannedLock[] = []): void {
  const { rule, message, alternative } = refusal;
  const go = ctx.refuse({ rule, message, alternative, relation: relationOf(ctx) });
  if (!go || refusal.never) return;
  if (!withoutWayBack(ctx, `nothing takes this statement back`, alternative)) return;
  ctx.add({
    phase: 'contract',
    action: 'run_as_written',
    title: `run as written: ${ctx.statement.text.replace(/\s+/g, ' ').slice(0, 60)}`,
    run: refusal.autocommit
      ? { kind: 'autocommit', statement: ctx.statement.text }
      : transaction([ctx.statement.text], { long: true }),
    undo: [],
    wayBack: null,
    because: 'it runs as written because the plan allows it',
    locks,
    work: 'rewrite',
    estimate: UNKNOWN_TIME,
    risk: risk({ dataLoss: 'high', downtime: 'high', performance: 'high', rollback: 'high' }),
  });
}

function relationOf(ctx: PlanContext): string | null {
  const fields = Object.values(ctx.statement.ast)[0] as
    { relation?: { relname?: string; schemaname?: string } } | undefined;
  const table = fields?.relation?.relname === undefined ? null : ctx.overlay.find(fields.relation);
  return table ? shownRelation(table) : null;
}
