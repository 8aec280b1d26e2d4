/**
 * Every rule that a finding can name, as data: docs, SARIF and `allow` all speak of these. `level` is how it comes when nothing is allowed;
 * a refusal (error) is lifted by naming the rule under `allow` with a reason, save where `final` says that nothing lifts it.
 */
import type { Finding } from '../model/steps';

export interface Rule {
  readonly level: Finding['level'];
  readonly group:
    'blocks' | 'breaks clients' | 'no way back' | 'not understood' | 'names' | 'data' | 'types' | 'advice';
  /** One sentence for the docs. */
  readonly means: string;
  readonly final?: true;
}

const rule = (level: Rule['level'], group: Rule['group'], means: string, final?: true): Rule => ({
  level,
  group,
  means,
  ...(final ? { final } : {}),
});

export const RULES = {
  // What blocks, where pgshift has no safe way.
  rewrite: rule('error', 'blocks', 'The command rewrites the table while nobody can read or write it.'),
  generated_stored: rule(
    'error',
    'blocks',
    'A STORED generated column rewrites the table; Postgres cannot attach one later.',
  ),
  domain_constraint: rule('error', 'blocks', 'Adding a column of a domain with constraints rewrites the table.'),
  exclusion_constraint: rule('error', 'blocks', 'An EXCLUDE constraint builds its index while nobody can write.'),
  partitioned_unique_constraint: rule(
    'error',
    'blocks',
    'A unique constraint of a partitioned table cannot be attached over an index.',
  ),
  partitioned_foreign_key: rule(
    'error',
    'blocks',
    'Before 18 a foreign key of a partitioned table cannot be added NOT VALID.',
  ),
  partitioned_drop_index: rule('error', 'blocks', 'The index of a partitioned table cannot be dropped concurrently.'),
  partitioned_type_change: rule(
    'error',
    'blocks',
    'The type of a column of a partitioned table cannot be changed by a shadow.',
  ),
  refresh: rule('error', 'blocks', 'REFRESH without CONCURRENTLY keeps readers out.'),
  vacuum_full: rule('error', 'blocks', 'VACUUM FULL rewrites the table while nobody can read or write it.'),
  cluster: rule('error', 'blocks', 'CLUSTER rewrites the table while nobody can read or write it.'),
  lock_table: rule('error', 'blocks', 'A lock by hand lasts no longer than its own step.'),
  not_in_batches: rule('error', 'blocks', 'Batches would not give what the one statement gives.'),
  // What clients notice.
  rename: rule('error', 'breaks clients', 'Clients that use the old name fail at once.'),
  required_column: rule(
    'warning',
    'breaks clients',
    'A new NOT NULL column without a default refuses the inserts of old clients.',
  ),
  positional_use: rule('warning', 'breaks clients', 'Statements that the database has seen use columns by position.'),
  row_type_used: rule(
    'warning',
    'breaks clients',
    'The row type of the table is used elsewhere, and its columns change order.',
  ),
  drop_breaks_clients: rule(
    'warning',
    'breaks clients',
    'Clients that use what is dropped fail; it is hidden first, and one rename saves them.',
  ),
  nulls_appear: rule('info', 'breaks clients', 'Clients may read NULL from a column that never had it.'),
  cached_plan: rule(
    'info',
    'breaks clients',
    'A prepared statement over the column fails once with "cached plan must not change result type".',
  ),
  // No way back.
  no_way_back: rule('error', 'no way back', 'The step cannot be taken back.'),
  truncate: rule('error', 'no way back', 'TRUNCATE throws all rows away.'),
  cascade: rule('error', 'no way back', 'CASCADE drops what nobody has named.'),
  drop_database: rule('error', 'no way back', 'A database cannot be taken back.'),
  sequence_stays: rule(
    'info',
    'no way back',
    'A sequence that was widened with its column stays as it is on the way back.',
  ),
  // Not done here.
  not_understood: rule('error', 'not understood', 'Neither the locks nor the way back of the statement are known.'),
  transaction_control: rule('error', 'not understood', 'Each step is a transaction of its own.', true),
  create_database: rule('error', 'not understood', 'pgshift changes one database.'),
  alter_system: rule('error', 'not understood', 'Server settings are no part of a schema.'),
  copy: rule('error', 'not understood', 'COPY moves data that the plan does not hold.'),
  do_block: rule('error', 'not understood', 'What a DO block does is known only when it runs.'),
  set: rule('error', 'not understood', 'Each step has a session of its own.'),
  temporary: rule('error', 'not understood', 'A temporary object is gone with the session that makes it.'),
  only_parent: rule('error', 'not understood', 'ONLY leaves the children of the table as they are.'),
  inherited: rule('error', 'not understood', 'The object comes from the parent of the table.'),
  partition: rule('error', 'not understood', 'The table is a part of another.'),
  partition_key: rule('error', 'not understood', 'The column is in the partition key.'),
  no_plain_table: rule('error', 'not understood', 'The relation is no plain table.'),
  separate_migration: rule(
    'error',
    'not understood',
    'What an earlier statement does in contract is not there yet for a later one.',
  ),
  shared_type_change: rule('error', 'not understood', 'Two changes of type share an index or a constraint.'),
  generated_column: rule('error', 'not understood', 'A generated column stands in the way.'),
  trigger_always: rule('error', 'not understood', 'A trigger that is always on would change what is filled.'),
  deferrable_key: rule('error', 'not understood', 'A deferrable key stands in the way.'),
  published_filter: rule('error', 'not understood', 'A publication filters by the column.'),
  dependent_refused: rule('error', 'not understood', 'Something that needs the column cannot be moved with it.'),
  dependents: rule('error', 'not understood', 'Something else needs what is dropped or changed; it is named.'),
  drop_key_column: rule('error', 'not understood', 'The column is in the primary key, which would go with it.'),
  index_of_constraint: rule('error', 'not understood', 'The index belongs to a constraint.'),
  name_in_use: rule('error', 'names', 'Something of that name is there and is not what is asked.'),
  identifier_too_long: rule('warning', 'names', 'Postgres cuts names at 63 bytes.'),
  nothing_to_do: rule('info', 'names', 'It is there already, or not there, as asked.'),
  // Data.
  stable_cast: rule('error', 'data', 'The cast depends on session settings.'),
  foreign_key_type: rule('warning', 'data', 'The types of the two sides of a foreign key differ.'),
  no_where: rule('warning', 'data', 'Every row of the table is changed.'),
  not_validated: rule('warning', 'data', 'The constraint stays NOT VALID.'),
  triggers_fire: rule('warning', 'data', 'Filling fires the triggers of the table.'),
  replica_identity: rule('warning', 'data', 'The index is the replica identity.'),
  published_table: rule('warning', 'data', 'Subscribers of the table must have the same shape.'),
  invalid_index: rule('warning', 'data', 'An index of that name is there but invalid.'),
  unused_transform: rule('warning', 'data', 'No statement asks for the transform.'),
  duplicate_assignment: rule('error', 'data', 'One column is assigned twice.'),
  foreign_key_without_index: rule('info', 'advice', 'Deleting a referenced row reads the whole table.'),
  // Advice of lint alone.
  index_built_concurrently: rule(
    'info',
    'advice',
    'Plain CREATE and DROP INDEX block writers; pgshift does them concurrently.',
  ),
  constraint_validated_later: rule(
    'info',
    'advice',
    'A plain constraint is checked under a lock; pgshift adds it NOT VALID and validates it.',
  ),
  unique_over_index: rule(
    'info',
    'advice',
    'A plain key is built under a lock; pgshift builds its index concurrently and attaches it.',
  ),
  filled_in_batches: rule(
    'info',
    'advice',
    'A volatile default or a serial rewrites the table; pgshift fills old rows in batches.',
  ),
  not_null_by_check: rule('info', 'advice', 'SET NOT NULL reads the table under a lock; pgshift validates first.'),
  type_by_shadow: rule(
    'info',
    'advice',
    'The change of type may rewrite the table; pgshift then makes a shadow column.',
  ),
  wide_index: rule('info', 'advice', 'An index of more than three columns is rarely used in full.'),
  duplicate_index: rule('warning', 'advice', 'Another index begins with the same columns.'),
  index_corruption: rule('warning', 'advice', 'Postgres 14.0 to 14.3 can corrupt indexes that are built concurrently.'),
  no_primary_key: rule(
    'warning',
    'advice',
    'A table without a key cannot be changed in safe batches or replicated well.',
  ),
  prefer_bigint: rule('warning', 'types', 'A key of 32 bits or less ends.'),
  prefer_identity: rule('info', 'types', 'An identity column keeps its sequence better than serial.'),
  prefer_text: rule('info', 'types', 'A length is easier to change as a CHECK than as a type.'),
  ban_char: rule('warning', 'types', 'char(n) pads with blanks and is never faster.'),
  prefer_timestamptz: rule('warning', 'types', 'A timestamp without time zone does not say which moment it is.'),
  prefer_jsonb: rule('info', 'types', 'json has no equality: DISTINCT and GROUP BY fail on it.'),
  ban_money: rule('warning', 'types', 'money depends on a setting of the server.'),
  domain_with_constraint: rule('info', 'types', 'The constraint of a domain is hard to change later.'),
} as const satisfies Readonly<Record<string, Rule>>;

export type RuleName = keyof typeof RULES;
