/**
 * What a fingerprint of the catalogue leaves out, and how it prints what cannot be printed as it is. Nothing here names an object of the
 * user; every other column of every catalogue is printed as it stands. Left out are only: data, statistics, storage, hints that
 * VACUUM corrects, and numbers that say where a thing lies instead of what it is.
 */

/** Whole catalogues: planner statistics, and large objects' data. */
export const ASIDE_CATALOGS: readonly string[] = ['pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject'];

export const ASIDE: Readonly<Record<string, readonly string[]>> = {
  pg_class: [
    'relfilenode',
    'relpages',
    'reltuples',
    'relallvisible',
    'relallfrozen',
    'relfrozenxid',
    'relminmxid',
    // Dropped columns count in relnatts; the flags stay up after the last index, rule, trigger or child is gone. Each is told by its own rows.
    'relnatts',
    'relchecks',
    'relhasindex',
    'relhasrules',
    'relhastriggers',
    'relhassubclass',
  ],
  // attmissingval is a row's value: how a constant default of ADD COLUMN is stored until the table is rewritten.
  pg_attribute: ['attcacheoff', 'attmissingval', 'atthasmissing', 'attisdropped'],
  // Only says which snapshots may use the index yet.
  pg_index: ['indcheckxmin', 'indnatts', 'indnkeyatts'],
  pg_database: ['datname', 'datfrozenxid', 'datminmxid', 'datlastsysoid', 'dathasloginevt'],
  pg_subscription_rel: ['srsublsn'],
};

const hashed = (column: string): string => `md5(x.${column}::text)`;

/**
 * SQL over row x instead of the column itself: expression trees hold object ids, so Postgres prints them; toast tables are storage, only
 * what was SET for them counts; what may hold a password is hashed. null = another column's text says it.
 */
export const RENDERED: Readonly<Record<string, string | null>> = {
  'pg_attrdef.adbin': 'pg_get_expr(x.adbin, x.adrelid)',
  'pg_class.relpartbound': 'pg_get_expr(x.relpartbound, x.oid)',
  'pg_class.reltoastrelid': `(SELECT o.reloptions FROM pg_class o WHERE o.oid = x.reltoastrelid)`,
  'pg_constraint.conbin': 'pg_get_constraintdef(x.oid)',
  'pg_index.indexprs': 'pg_get_indexdef(x.indexrelid)',
  'pg_index.indpred': null,
  'pg_partitioned_table.partexprs': 'pg_get_partkeydef(x.partrelid)',
  'pg_policy.polqual': 'pg_get_expr(x.polqual, x.polrelid)',
  'pg_policy.polwithcheck': 'pg_get_expr(x.polwithcheck, x.polrelid)',
  'pg_proc.proargdefaults': 'pg_get_function_arguments(x.oid)',
  'pg_proc.prosqlbody': 'pg_get_function_sqlbody(x.oid)',
  'pg_publication_rel.prqual': 'pg_get_expr(x.prqual, x.prrelid)',
  'pg_rewrite.ev_action': 'pg_get_ruledef(x.oid)',
  'pg_rewrite.ev_qual': null,
  'pg_statistic_ext.stxexprs': 'pg_get_expr(x.stxexprs, x.stxrelid)',
  // Triggers of foreign keys have an object id in their name.
  'pg_trigger.tgname': 'CASE WHEN NOT x.tgisinternal THEN x.tgname END',
  'pg_trigger.tgqual': 'CASE WHEN NOT x.tgisinternal THEN pg_get_triggerdef(x.oid) END',
  'pg_type.typdefaultbin': 'pg_get_expr(x.typdefaultbin, 0)',
  'pg_foreign_server.srvoptions': hashed('srvoptions'),
  'pg_subscription.subconninfo': hashed('subconninfo'),
  'pg_user_mapping.umoptions': hashed('umoptions'),
};

/** What an unset ACL means, so that GRANT and then REVOKE is no difference: acldefault()'s letter and the owner's column. */
export const DEFAULT_ACL: Readonly<Record<string, string>> = {
  'pg_class.relacl': `acldefault(CASE x.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, x.relowner)`,
  'pg_proc.proacl': `acldefault('f', x.proowner)`,
  'pg_type.typacl': `acldefault('T', x.typowner)`,
  'pg_namespace.nspacl': `acldefault('n', x.nspowner)`,
  'pg_language.lanacl': `acldefault('l', x.lanowner)`,
  'pg_database.datacl': `acldefault('d', x.datdba)`,
  'pg_foreign_server.srvacl': `acldefault('S', x.srvowner)`,
  'pg_foreign_data_wrapper.fdwacl': `acldefault('F', x.fdwowner)`,
};
