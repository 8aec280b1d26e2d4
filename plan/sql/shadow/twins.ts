/**
 * Statements that give the shadow what the visible column has: grants, comments, options, indexes' marks, statistics. Keeps true: each is
 * written from Postgres' own definition with the column renamed in it, never from parts guessed.
 */
import { ident, relation } from '../../model/quote';
import { columnGrants } from './acl';
import { comment, quotedTable, tableName } from './change';
import { renameColumn } from './rename';
import type { Statistics } from '../../model/catalog';
import type { Change } from './change';

/** What hangs on the column itself. It stays there through the swap, which exchanges names only. */
export function dressColumn(change: Change): string[] {
  const { column, shadow } = change;
  const on = quotedTable(change);
  const alter = (action: string): string => `ALTER TABLE ${on} ALTER COLUMN ${ident(shadow)} ${action}`;
  const variable = !/^(bool|bytea)$/.test(change.to.name) && isVariable(change);
  return [
    ...(column.storageChanged === true && variable ? [alter(`SET STORAGE ${column.storage.toUpperCase()}`)] : []),
    ...(column.compression !== null && variable ? [alter(`SET COMPRESSION ${column.compression}`)] : []),
    ...(column.statisticsTarget === null ? [] : [alter(`SET STATISTICS ${column.statisticsTarget}`)]),
    ...(column.options.length === 0 ? [] : [alter(`SET (${column.options.join(', ')})`)]),
    // SELECT * of a role that holds column grants only must go on working.
    ...columnGrants(column.acl, tableName(change), shadow),
    ...comment(`COLUMN ${on}.${ident(shadow)}`, column.comment),
  ];
}

/** Types that can be stored out of line; only for those do storage and compression mean anything. */
const isVariable = (change: Change): boolean =>
  change.to.array ||
  ['text', 'varchar', 'bpchar', 'bytea', 'json', 'jsonb', 'numeric', 'xml', 'citext', 'tsvector'].includes(
    change.to.name,
  );

export function addStatistics(change: Change, statistics: Statistics, name: string, column: string): string[] {
  const full = relation({ schema: statistics.schema, name });
  const renamed = renameColumn(statistics.definition, change.column.name, column);
  const head =
    /^CREATE STATISTICS\s+(?:"(?:[^"]|"")*"|[^\s".]+)(?:\.(?:"(?:[^"]|"")*"|[^\s".(]+))?/.exec(renamed)?.[0] ?? '';
  return [
    `CREATE STATISTICS ${full}${renamed.slice(head.length)}`,
    ...(statistics.owner === change.table.owner
      ? []
      : [`ALTER STATISTICS ${full} OWNER TO ${ident(statistics.owner)}`]),
    ...(statistics.target === null ? [] : [`ALTER STATISTICS ${full} SET STATISTICS ${statistics.target}`]),
    ...comment(`STATISTICS ${full}`, statistics.comment),
  ];
}

/** Marks of the shadow's indexes, its extended statistics, then ANALYZE: one transaction without a lock that blocks writes. */
export function dressIndexes(change: Change): string[] {
  const wide = change.statistics.length > 0 || change.indexes.some((i) => i.index.keys.includes(null));
  return [
    ...change.indexes.flatMap((i) => {
      const name = relation({ schema: i.index.schema, name: i.twin });
      return [
        ...comment(`INDEX ${name}`, i.index.comment),
        ...i.index.statisticsTargets.map(
          (t) => `ALTER INDEX ${name} ALTER COLUMN ${t.number} SET STATISTICS ${t.target}`,
        ),
      ];
    }),
    ...change.statistics.flatMap((item) => addStatistics(change, item.statistics, item.twin, change.shadow)),
    wide ? `ANALYZE ${quotedTable(change)}` : `ANALYZE ${quotedTable(change)} (${ident(change.shadow)})`,
  ];
}
