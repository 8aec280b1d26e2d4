/**
 * Which columns of the catalogue hold object ids and column numbers, and of what. Postgres says it itself from 14 on
 * (pg_get_catalog_foreign_keys); for 13 the same is written down here. Columns that a version does not have are skipped.
 */

/** `columns` of `catalog` point to an object of `target`; with two columns (relation, number) to a column of that relation. */
export interface Reference {
  readonly catalog: string;
  readonly columns: readonly string[];
  readonly target: string;
}

export const REFERENCES_SQL = `
  SELECT k.fktable::text AS catalog, k.fkcols AS columns, k.pktable::text AS target FROM pg_get_catalog_foreign_keys() AS k
  WHERE k.pkcols = '{oid}' OR k.pkcols = '{attrelid,attnum}'`;

/** Column numbers that Postgres' own list leaves out. */
export const MORE_REFERENCES: readonly Reference[] = [
  { catalog: 'pg_publication_rel', columns: ['prrelid', 'prattrs'], target: 'pg_attribute' },
  { catalog: 'pg_constraint', columns: ['conrelid', 'confdelsetcols'], target: 'pg_attribute' },
];

/** Whose order Postgres does not define: it follows column numbers, which differ after a swap. */
export const UNORDERED: readonly string[] = [
  'pg_statistic_ext.stxkeys',
  'pg_publication_rel.prattrs',
  'pg_policy.polroles',
];

const OBJECTS_13 = `
  pg_aggregate aggcombinefn proc aggdeserialfn proc aggfinalfn proc aggfnoid proc aggmfinalfn proc aggminvtransfn proc aggmtransfn proc aggmtranstype type aggserialfn proc aggsortop operator aggtransfn proc aggtranstype type
  pg_am amhandler proc
  pg_amop amopfamily opfamily amoplefttype type amopmethod am amopopr operator amoprighttype type amopsortfamily opfamily
  pg_amproc amproc proc amprocfamily opfamily amproclefttype type amprocrighttype type
  pg_attrdef adrelid class
  pg_attribute attcollation collation attrelid class atttypid type
  pg_cast castfunc proc castsource type casttarget type
  pg_class relam am relnamespace namespace reloftype type relowner authid relrewrite class reltablespace tablespace reltype type
  pg_collation collnamespace namespace collowner authid
  pg_constraint conexclop operator conffeqop operator confrelid class conindid class connamespace namespace conparentid constraint conpfeqop operator conppeqop operator conrelid class contypid type
  pg_conversion connamespace namespace conowner authid conproc proc
  pg_database datdba authid dattablespace tablespace
  pg_db_role_setting setdatabase database setrole authid
  pg_default_acl defaclnamespace namespace defaclrole authid
  pg_enum enumtypid type
  pg_event_trigger evtfoid proc evtowner authid
  pg_extension extconfig class extnamespace namespace extowner authid
  pg_foreign_data_wrapper fdwhandler proc fdwowner authid fdwvalidator proc
  pg_foreign_server srvfdw foreign_data_wrapper srvowner authid
  pg_foreign_table ftrelid class ftserver foreign_server
  pg_index indclass opclass indcollation collation indexrelid class indrelid class
  pg_inherits inhparent class inhrelid class
  pg_language laninline proc lanowner authid lanplcallfoid proc lanvalidator proc
  pg_largeobject_metadata lomowner authid
  pg_namespace nspowner authid
  pg_opclass opcfamily opfamily opcintype type opckeytype type opcmethod am opcnamespace namespace opcowner authid
  pg_operator oprcode proc oprcom operator oprjoin proc oprleft type oprnamespace namespace oprnegate operator oprowner authid oprrest proc oprresult type oprright type
  pg_opfamily opfmethod am opfnamespace namespace opfowner authid
  pg_partitioned_table partclass opclass partcollation collation partdefid class partrelid class
  pg_policy polrelid class polroles authid
  pg_proc proallargtypes type proargtypes type prolang language pronamespace namespace proowner authid prorettype type prosupport proc protrftypes type provariadic type
  pg_publication pubowner authid
  pg_publication_rel prpubid publication prrelid class
  pg_range rngcanonical proc rngcollation collation rngsubdiff proc rngsubopc opclass rngsubtype type rngtypid type
  pg_rewrite ev_class class
  pg_sequence seqrelid class seqtypid type
  pg_shdepend dbid database
  pg_statistic_ext stxnamespace namespace stxowner authid stxrelid class
  pg_subscription subdbid database subowner authid
  pg_subscription_rel srrelid class srsubid subscription
  pg_transform trffromsql proc trflang language trftosql proc trftype type
  pg_trigger tgconstraint constraint tgconstrindid class tgconstrrelid class tgfoid proc tgparentid trigger tgrelid class
  pg_ts_config cfgnamespace namespace cfgowner authid cfgparser ts_parser
  pg_ts_config_map mapcfg ts_config mapdict ts_dict
  pg_ts_dict dictnamespace namespace dictowner authid dicttemplate ts_template
  pg_ts_parser prsend proc prsheadline proc prslextype proc prsnamespace namespace prsstart proc prstoken proc
  pg_ts_template tmplinit proc tmpllexize proc tmplnamespace namespace
  pg_type typanalyze proc typarray type typbasetype type typcollation collation typelem type typinput proc typmodin proc typmodout proc typnamespace namespace typoutput proc typowner authid typreceive proc typrelid class typsend proc
  pg_user_mapping umserver foreign_server umuser authid`;

const COLUMNS_13 = `
  pg_attrdef adrelid adnum, pg_constraint conrelid conkey, pg_constraint confrelid confkey, pg_index indrelid indkey,
  pg_statistic_ext stxrelid stxkeys, pg_trigger tgrelid tgattr, pg_partitioned_table partrelid partattrs`;

/** What 13 cannot say itself. */
export function references13(): Reference[] {
  const found: Reference[] = [];
  for (const line of OBJECTS_13.trim().split('\n')) {
    const [catalog = '', ...pairs] = line.trim().split(' ');
    for (let at = 0; at + 1 < pairs.length; at += 2) {
      found.push({ catalog, columns: [pairs[at] ?? ''], target: `pg_${pairs[at + 1]}` });
    }
  }
  for (const entry of COLUMNS_13.split(',')) {
    const [catalog = '', relation = '', number = ''] = entry.trim().split(' ');
    found.push({ catalog, columns: [relation, number], target: 'pg_attribute' });
  }
  return found;
}
