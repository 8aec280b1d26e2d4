/**
 * Publications that name the column in a list. Keeps true: the list and the row filter stand as before after the swap, and no moment is
 * visible in which the table is not published.
 */
import { identList, relation } from '../../model/quote';
import { ident } from '../../model/quote';
import { quotedTable, sameTable } from './change';
import type { Change } from './change';
import type { Publication } from '../../model/catalog';
import type { RelationName } from '../../model/steps';

export interface Published {
  readonly name: string;
  /** null = all columns. */
  readonly columns: readonly string[] | null;
  readonly where: string | null;
}

export function publishedBy(publications: readonly Publication[], table: RelationName): Published[] {
  return publications.flatMap((publication): Published[] => {
    const entry = publication.tables.find((t) => sameTable(t.table, table));
    if (entry) return [{ name: publication.name, columns: entry.columns, where: entry.where }];
    const whole = publication.allTables || (publication.schemas ?? []).includes(table.schema);
    return whole ? [{ name: publication.name, columns: null, where: null }] : [];
  });
}

/** Lists hold column numbers: after the names were swapped they have to be written again, in both directions. */
export function columnPublications(change: Change): string[] {
  return publishedBy(change.ctx.catalog.publications, change.table)
    .filter((p) => p.columns?.includes(change.column.name))
    .flatMap((p) => [
      `ALTER PUBLICATION ${ident(p.name)} DROP TABLE ${quotedTable(change)}`,
      `ALTER PUBLICATION ${ident(p.name)} ADD TABLE ${relation(change.table)} (${identList(p.columns ?? [])})` +
        (p.where === null ? '' : ` WHERE (${p.where})`),
    ]);
}
