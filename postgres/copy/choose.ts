/**
 * Which of the dumped objects are made on the target: chosen tables and what belongs to them, everything else in the chosen schemas, and what
 * those need. Pure. Keeps true: nothing is left out that something kept rests on, and nothing is kept that rests on something left out.
 */
import type { CopyControl } from '../../plan/model/dataMigration';
import { tableFilter } from '../../plan/model/tableNames';
import type { DumpItem } from './dump';

const CLASS_RELATION = '1259';

const UNWANTED: Readonly<Record<keyof CopyControl['keep'], readonly string[]>> = {
  indexes: ['INDEX', 'INDEX ATTACH'],
  constraints: ['CONSTRAINT', 'FK CONSTRAINT', 'CHECK CONSTRAINT'],
  triggers: ['TRIGGER', 'EVENT TRIGGER'],
  views: ['VIEW', 'MATERIALIZED VIEW', 'RULE'],
  functions: ['FUNCTION', 'PROCEDURE', 'AGGREGATE'],
};

export interface Choice {
  readonly control: Pick<CopyControl, 'tables' | 'keep'>;
  /** Oids of the chosen tables on the source. */
  readonly tables: ReadonlySet<string>;
  /** Oid of a sequence -> oid of the table that owns it. */
  readonly ownedBy: ReadonlyMap<string, string>;
}

/** Does the schema part of an include pattern choose this schema? Asked with a name that only `*` fits. */
const schemaChosen = (tables: CopyControl['tables'], schema: string): boolean => {
  const patterns = tables.include.map((text) =>
    /\.[^."]*$|\."(?:[^"]|"")*"$/.test(text) ? `${text.replace(/\.(?:[^."]*|"(?:[^"]|"")*")$/, '')}.*` : `public.*`,
  );
  return tableFilter(patterns, [])({ schema, name: 'x' });
};

export function chooseItems(items: readonly DumpItem[], { control, tables, ownedBy }: Choice): DumpItem[] {
  const unwanted = new Set(
    (Object.keys(UNWANTED) as (keyof typeof UNWANTED)[]).flatMap((key) => (control.keep[key] ? [] : UNWANTED[key])),
  );
  const byId = new Map(items.map((item) => [item.id, item]));
  const isTable = (item: DumpItem): boolean => item.classId === CLASS_RELATION && /^(FOREIGN )?TABLE$/.test(item.kind);
  const refused = (item: DumpItem): boolean => {
    if (unwanted.has(item.kind)) return true;
    if (isTable(item)) return !tables.has(item.oid);
    const owner = ownedBy.get(item.oid);
    return item.classId === CLASS_RELATION && owner !== undefined && !tables.has(owner);
  };
  const schemaOf = (item: DumpItem): string | null => (item.kind === 'SCHEMA' ? item.tag : item.schema);
  const kept = new Set<number>();
  const keep = (item: DumpItem): void => {
    if (kept.has(item.id) || refused(item)) return;
    kept.add(item.id);
    for (const id of item.needs) {
      const needed = byId.get(id);
      if (needed) keep(needed);
    }
  };
  for (const item of items) {
    const schema = schemaOf(item);
    const ofTable = item.needs.some((id) => kept.has(id) && isTable(byId.get(id) as DumpItem));
    if (isTable(item) || ofTable || schema === null || schemaChosen(control.tables, schema)) keep(item);
  }
  // What rests on something left out goes too, and then what rests on that.
  for (let changed = true; changed;) {
    changed = false;
    for (const id of kept) {
      const item = byId.get(id);
      if (item?.needs.some((need) => byId.has(need) && !kept.has(need))) {
        kept.delete(id);
        changed = true;
      }
    }
  }
  return items.filter(({ id }) => kept.has(id));
}

/** Tags of objects without dependencies of their own in the dump (comments and grants on them have). */
const WITH_TABLE = new Set(['INDEX', 'CONSTRAINT', 'STATISTICS']);

/** The copied table that an object of the second section can be made with; null = it comes when all tables are there. */
export function tableOf(
  item: DumpItem,
  byId: ReadonlyMap<number, DumpItem>,
  numbers: ReadonlyMap<string, number>,
): number | null {
  if (item.section !== 'post' || !WITH_TABLE.has(item.kind)) return null;
  const found = item.needs
    .map((id) => byId.get(id))
    .filter((need) => need !== undefined && need.classId === CLASS_RELATION);
  const oids = new Set(found.map((need) => need?.oid ?? ''));
  const [oid] = oids;
  return oids.size === 1 && oid !== undefined ? (numbers.get(oid) ?? null) : null;
}
