/**
 * A snapshot of what Postgres' catalogue says, as plain data: what the planner reads. Names are unquoted; definitions are Postgres' own text.
 * Filled by postgres/catalog/read.ts in one REPEATABLE READ transaction with search_path = pg_catalog, so that every definition names its schemas.
 */
import type { RelationName } from './steps';

export interface Catalog {
  /** server_version_num, 180006. */
  readonly serverVersion: number;
  readonly database: string;
  readonly user: string;
  readonly superuser: boolean;
  /** May set session_replication_role (superuser, or GRANT SET ON PARAMETER from 15 on). */
  readonly canSetReplicationRole: boolean;
  readonly settings: Readonly<
    Record<'search_path' | 'TimeZone' | 'DateStyle' | 'IntervalStyle' | 'default_tablespace', string>
  >;
  readonly schemas: readonly string[];
  readonly tables: readonly Table[];
  readonly types: readonly TypeInfo[];
  readonly casts: readonly Cast[];
  readonly functions: readonly FunctionInfo[];
  readonly sequences: readonly Sequence[];
  readonly publications: readonly Publication[];
  readonly extensions: readonly { readonly name: string; readonly version: string }[];
  /** Only with pg_stat_statements: normalised texts that name a relation positionally; empty when not readable. */
  readonly statements: readonly StatementUse[];
}

export interface Table extends RelationName {
  readonly kind: 'table' | 'partitioned' | 'view' | 'matview' | 'foreign' | 'sequence' | 'composite';
  readonly persistence: 'permanent' | 'unlogged' | 'temporary';
  readonly owner: string;
  /** pg_class.reltuples, or -1 when never analysed. */
  readonly rows: number;
  readonly heapBytes: number;
  readonly totalBytes: number;
  readonly columns: readonly Column[];
  readonly indexes: readonly Index[];
  readonly constraints: readonly Constraint[];
  /** FOREIGN KEY constraints of other tables (or itself) that point here. */
  readonly incoming: readonly Constraint[];
  readonly triggers: readonly Trigger[];
  readonly policies: readonly {
    readonly name: string;
    readonly definition: string;
    readonly columns: readonly string[];
    readonly comment?: string | null;
  }[];
  readonly rules: readonly {
    readonly name: string;
    readonly definition: string;
    readonly columns: readonly string[];
    readonly comment?: string | null;
    /** O, D, R, A as pg_rewrite.ev_enabled. */
    readonly enabled?: string;
  }[];
  readonly statistics: readonly Statistics[];
  /** Views, materialized views, functions and others that depend on this relation or its columns (pg_depend), not its own parts. */
  readonly dependents: readonly DependentObject[];
  readonly parent: RelationName | null;
  readonly inherits: readonly RelationName[];
  readonly children: readonly RelationName[];
  readonly partitionKey: { readonly definition: string; readonly columns: readonly string[] } | null;
  readonly replicaIdentity: 'default' | 'full' | 'nothing' | { readonly index: string };
  readonly rowSecurity: boolean;
  readonly forceRowSecurity?: boolean;
  readonly tablespace?: string | null;
  readonly options: readonly string[];
  readonly comment: string | null;
  /** aclitem texts, null = default privileges. */
  readonly acl: readonly string[] | null;
  /** Extension it belongs to. */
  readonly extension: string | null;
}

export interface Column {
  readonly name: string;
  readonly number: number;
  /** format_type(), as `numeric(10,2)`. */
  readonly type: string;
  /** Schema and name of the type itself, as pg_type has it ("pg_catalog", "numeric"). */
  readonly typeName: RelationName;
  readonly typmod: number;
  readonly notNull: boolean;
  /** pg_get_expr of the default; null = none. For generated columns the generation expression. */
  readonly default: string | null;
  readonly generated: 'stored' | 'virtual' | null;
  readonly identity: 'always' | 'by default' | null;
  /** Sequence owned by the column (serial or identity). */
  readonly ownedSequence: RelationName | null;
  /** Schema-qualified collation when it is not the type's default. */
  readonly collation: string | null;
  readonly statisticsTarget: number | null;
  readonly storage: string;
  /** SET STORAGE was used: it is not the type's own. */
  readonly storageChanged?: boolean;
  readonly compression: string | null;
  readonly options: readonly string[];
  readonly acl: readonly string[] | null;
  readonly comment: string | null;
  readonly isLocal: boolean;
  /** pg_stats: 0..1, null when unknown. */
  readonly nullFraction: number | null;
  readonly averageWidth: number | null;
}

export interface Index extends RelationName {
  /** pg_get_indexdef(). */
  readonly definition: string;
  readonly method: string;
  readonly unique: boolean;
  readonly primary: boolean;
  readonly valid: boolean;
  readonly immediate: boolean;
  readonly nullsNotDistinct: boolean;
  /** Key columns by name; null where it is an expression. */
  readonly keys: readonly (string | null)[];
  readonly include: readonly string[];
  /** Every column that it depends on, expressions and predicate included. */
  readonly columns: readonly string[];
  readonly predicate: string | null;
  readonly constraint: string | null;
  readonly bytes: number;
  readonly clustered: boolean;
  readonly replicaIdentity: boolean;
  readonly comment: string | null;
  /** ALTER INDEX ... SET STATISTICS by expression column number. */
  readonly statisticsTargets: readonly { readonly number: number; readonly target: number }[];
  readonly parent: RelationName | null;
  readonly tablespace: string | null;
}

export interface Constraint {
  readonly name: string;
  readonly type: 'check' | 'foreign' | 'primary' | 'unique' | 'exclude' | 'not-null' | 'trigger';
  readonly table: RelationName;
  /** pg_get_constraintdef(). */
  readonly definition: string;
  readonly columns: readonly string[];
  readonly validated: boolean;
  readonly deferrable: boolean;
  readonly deferred: boolean;
  /** NOT ENFORCED (18). */
  readonly enforced: boolean;
  readonly noInherit: boolean;
  /** Its own index; of a foreign key, the unique index over there that it leans on. */
  readonly index: RelationName | null;
  readonly references: { readonly table: RelationName; readonly columns: readonly string[] } | null;
  readonly comment: string | null;
  readonly inherited: boolean;
  /** Partition child constraint of a parent's constraint. */
  readonly hasParent: boolean;
}

export interface Trigger {
  readonly name: string;
  /** pg_get_triggerdef(). */
  readonly definition: string;
  /** O, D, R, A as pg_trigger.tgenabled. */
  readonly enabled: string;
  readonly timing: 'before' | 'after' | 'instead';
  readonly row: boolean;
  readonly events: readonly ('insert' | 'update' | 'delete' | 'truncate')[];
  /** UPDATE OF columns and columns named in WHEN. */
  readonly columns: readonly string[];
  readonly function: string;
  readonly comment: string | null;
}

export interface Statistics extends RelationName {
  readonly definition: string;
  readonly columns: readonly string[];
  readonly comment: string | null;
  readonly owner: string;
  readonly target: number | null;
}

export interface DependentObject {
  readonly type:
    | 'view'
    | 'matview'
    | 'function'
    | 'policy'
    | 'rule'
    | 'trigger'
    | 'constraint'
    | 'index'
    | 'default'
    | 'publication'
    | 'statistics'
    | 'other';
  /** pg_describe_object() or a quoted name. */
  readonly name: string;
  readonly relation: RelationName | null;
  /** Columns of this table that it needs; empty = the whole row or relation. */
  readonly columns: readonly string[];
  /** For views and matviews: pg_get_viewdef with options, enough to make it again. */
  readonly view: ViewDefinition | null;
}

export interface ViewDefinition extends RelationName {
  readonly kind: 'view' | 'matview';
  readonly query: string;
  readonly options: readonly string[];
  readonly owner: string;
  /** WITH NO DATA makes it false. */
  readonly populated?: boolean;
  readonly acl: readonly string[] | null;
  readonly columnAcls: readonly { readonly column: string; readonly acl: readonly string[] }[];
  readonly comment: string | null;
  readonly columnComments: readonly { readonly column: string; readonly comment: string }[];
  readonly columnDefaults: readonly { readonly column: string; readonly default: string }[];
  readonly triggers: readonly Trigger[];
  readonly rules: readonly string[];
  /** Views that depend on this one, by name, in the order in which they must be made again. */
  readonly dependents: readonly RelationName[];
}

export interface TypeInfo extends RelationName {
  readonly kind: 'base' | 'enum' | 'domain' | 'composite' | 'range' | 'multirange' | 'pseudo';
  readonly category: string;
  readonly labels: readonly string[];
  /** For domains. */
  readonly base: string | null;
  readonly notNull: boolean;
  readonly hasConstraints: boolean;
  readonly default: string | null;
}

export interface Cast {
  /** format_type() texts without typmod. */
  readonly source: string;
  readonly target: string;
  readonly context: 'implicit' | 'assignment' | 'explicit';
  readonly method: 'function' | 'binary' | 'inout';
  readonly volatility: 'immutable' | 'stable' | 'volatile';
}

export interface FunctionInfo extends RelationName {
  readonly arguments: string;
  readonly volatility: 'immutable' | 'stable' | 'volatile';
  readonly language: string;
  readonly kind: 'function' | 'procedure' | 'aggregate' | 'window';
  /** Text of a body that a user wrote in a language without dependencies (plpgsql, sql as a string); null otherwise. */
  readonly source?: string | null;
}

export interface Sequence extends RelationName {
  readonly type: string;
  readonly owner: string;
  readonly ownedBy: { readonly table: RelationName; readonly column: string } | null;
  readonly start: string;
  readonly increment: string;
  readonly min: string;
  readonly max: string;
  readonly cache: string;
  readonly cycle: boolean;
  readonly acl: readonly string[] | null;
  readonly comment: string | null;
}

export interface Publication {
  readonly name: string;
  readonly allTables: boolean;
  /** FOR TABLES IN SCHEMA. */
  readonly schemas?: readonly string[];
  readonly tables: readonly {
    readonly table: RelationName;
    readonly columns: readonly string[] | null;
    readonly where: string | null;
  }[];
}

export interface StatementUse {
  /** The normalised text; constants are $n already. */
  readonly text: string;
  readonly calls: number;
}
