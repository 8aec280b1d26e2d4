/**
 * Object ids to names. Every object that a row is or points to is named once, by pg_identify_object; column numbers by pg_attribute. Also
 * decides what does not count: everything that is a PART of an ignored schema. A thing elsewhere that only points there counts.
 */
import { UNORDERED } from './references';
import type { CatalogTable } from './layout';
import type { ReadRows } from './session';

/** A catalogue's row; `oid` where it has one. */
export type RawRow = Readonly<Record<string, unknown>>;
export type Contents = ReadonlyMap<CatalogTable, readonly RawRow[]>;

const NEVER_COUNT = /^pg_(toast|temp_|toast_temp_)/;
/** Tables keep no order of columns here (a swapped column goes to the end); a view's or an index's columns do. */
const ORDER_ASIDE: readonly unknown[] = ['r', 'p', 'f'];
/** No class of pg_identify_object: they are named by what they belong to. */
const UNIDENTIFIED: readonly string[] = ['pg_enum', 'pg_largeobject_metadata'];

const key = (classid: unknown, oid: unknown): string => `${String(classid)}/${String(oid)}`;
const quoted = (name: string): string => (/^[a-z_][a-z0-9_$]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);
const isEmpty = (value: unknown): boolean => value === null || value === false || value === '';

export class Names {
  readonly #classes: ReadonlyMap<string, number>;
  readonly #identities = new Map<string, string>();
  readonly #columns = new Map<string, string>();
  readonly #kinds = new Map<unknown, unknown>();
  readonly #hidden = new Set<string>();

  private constructor(private readonly contents: Contents) {
    this.#classes = new Map([...contents.keys()].map((table) => [table.name, table.oid]));
  }

  static async resolve(read: ReadRows, contents: Contents, ignore: readonly string[]): Promise<Names> {
    const names = new Names(contents);
    names.#hide(ignore);
    await names.#nameColumns(read);
    await names.#nameObjects(read);
    names.#nameInternalTriggers();
    return names;
  }

  /** The row's line, or nothing when it does not count. */
  line(table: CatalogTable, row: RawRow): string[] {
    if (this.#isHidden(table, row)) return [];
    const fields: Record<string, unknown> = {};
    for (const column of table.columns) {
      const value = this.#value(table, row, column.name);
      if (!isEmpty(value)) fields[column.name] = value;
    }
    if (table.name === 'pg_attribute') {
      if (ORDER_ASIDE.includes(this.#kinds.get(row.attrelid))) delete fields.attnum;
      delete fields.attrelid;
      delete fields.attname;
    }
    for (const { classid, objid, subid } of table.any) {
      const of = `${classid.startsWith('ref') ? 'ref' : ''}object`;
      delete fields[classid];
      delete fields[objid];
      if (subid !== null) delete fields[subid];
      if (of === 'refobject') fields[of] = this.#any(row[classid], row[objid], subid === null ? 0 : row[subid]);
    }
    const target = typeof fields.refobject === 'string' ? ` -> ${fields.refobject}` : '';
    delete fields.refobject;
    return [`${table.name} ${this.#subject(table, row)}${target} ${JSON.stringify(fields)}`];
  }

  /** What the row is about. */
  #subject(table: CatalogTable, row: RawRow): string {
    const own = table.any[0];
    if (own) return this.#any(row[own.classid], row[own.objid], own.subid === null ? 0 : row[own.subid]);
    if (table.name === 'pg_attribute') return this.#column(row.attrelid, row.attnum);
    if (table.name === 'pg_enum') return `${this.#object('pg_type', row.enumtypid)}.${quoted(String(row.enumlabel))}`;
    if (table.name === 'pg_largeobject_metadata') return String(row.oid);
    if (table.hasOid) return this.#object(table.name, row.oid);
    const value = table.owner === null ? '' : this.#value(table, row, table.owner);
    return isEmpty(value) ? '-' : String(value);
  }

  #value(table: CatalogTable, row: RawRow, name: string): unknown {
    const column = table.columns.find((c) => c.name === name);
    const value = row[name];
    if (!column || column.holds.kind === 'value' || value === null || value === undefined) return value ?? null;
    const { holds } = column;
    const one = (part: unknown): unknown =>
      holds.kind === 'object'
        ? Number(part) === 0
          ? null
          : this.#object(holds.target, part)
        : Number(part) === 0
          ? 0
          : (this.#columns.get(key(row[holds.relation], part)) ?? part);
    if (!Array.isArray(value)) return one(value);
    const list = value.map(one);
    // A check's columns stand in the order of their numbers.
    const unordered = UNORDERED.includes(`${table.name}.${name}`) || (name === 'conkey' && row.contype === 'c');
    return unordered ? list.map(String).sort() : list;
  }

  #any(classid: unknown, oid: unknown, subid: unknown): string {
    if (Number(oid) === 0) return '-';
    if (Number(classid) === this.#classes.get('pg_class') && Number(subid) !== 0) return this.#column(oid, subid);
    const name = this.#identities.get(key(classid, oid)) ?? `unknown ${String(oid)}`;
    return Number(subid) === 0 || subid === undefined ? name : `${name} ${String(subid)}`;
  }

  #object(catalog: string, oid: unknown): string {
    return this.#identities.get(key(this.#classes.get(catalog) ?? catalog, oid)) ?? `unknown ${String(oid)}`;
  }

  #column(relation: unknown, number: unknown): string {
    const name = this.#columns.get(key(relation, number));
    return `${this.#object('pg_class', relation)}.${name === undefined ? String(number) : quoted(name)}`;
  }

  #isHidden(table: CatalogTable, row: RawRow): boolean {
    if (table.hasOid && this.#hidden.has(key(table.oid, row.oid))) return true;
    const own = table.any[0];
    if (own) return this.#hidden.has(key(row[own.classid], row[own.objid]));
    const owner = table.columns.find((c) => c.name === table.owner);
    if (owner?.holds.kind !== 'object') return false;
    return this.#hidden.has(key(this.#classes.get(owner.holds.target) ?? owner.holds.target, row[owner.name]));
  }

  /** Schemas first, then what lies in them, then the parts of that: two passes, since parts have no parts with an object id. */
  #hide(ignore: readonly string[]): void {
    for (const [table, rows] of this.contents) {
      if (table.name !== 'pg_namespace') continue;
      for (const row of rows) {
        const name = String(row.nspname);
        if (NEVER_COUNT.test(name) || ignore.includes(name)) this.#hidden.add(key(table.oid, row.oid));
      }
    }
    for (let pass = 0; pass < 2; pass += 1) {
      for (const [table, rows] of this.contents) {
        if (!table.hasOid) continue;
        for (const row of rows) if (this.#isHidden(table, row)) this.#hidden.add(key(table.oid, row.oid));
      }
    }
  }

  async #nameColumns(read: ReadRows): Promise<void> {
    for (const [table, rows] of this.contents) {
      if (table.name === 'pg_class') for (const row of rows) this.#kinds.set(row.oid, row.relkind);
      if (table.name !== 'pg_attribute') continue;
      for (const row of rows) this.#columns.set(key(row.attrelid, row.attnum), String(row.attname));
    }
    const builtIn = await read<{ rel: number; num: number; name: string }>(
      'SELECT attrelid::int8 AS rel, attnum AS num, attname AS name FROM pg_attribute WHERE attrelid < 16384 OR attnum < 0',
    );
    for (const { rel, num, name } of builtIn) this.#columns.set(key(rel, num), name);
  }

  async #nameObjects(read: ReadRows): Promise<void> {
    const wanted = new Map<number, Set<number>>();
    const want = (classid: unknown, oid: unknown) => {
      if (classid === undefined || Number(classid) === 0 || Number(oid) === 0) return;
      const set = wanted.get(Number(classid));
      if (set) set.add(Number(oid));
      else wanted.set(Number(classid), new Set([Number(oid)]));
    };
    const classes = new Map(this.#classes);
    for (const { name, oid } of await read<{ name: string; oid: number }>(
      `SELECT relname AS name, oid::int8 AS oid FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'`,
    )) {
      classes.set(name, oid);
    }
    for (const [table, rows] of this.contents) {
      const objects = table.columns.flatMap(({ name, holds }) =>
        holds.kind === 'object' ? [{ name, classid: classes.get(holds.target) }] : [],
      );
      for (const row of rows) {
        if (this.#isHidden(table, row)) continue;
        if (table.hasOid && !UNIDENTIFIED.includes(table.name)) want(table.oid, row.oid);
        for (const { classid, objid } of table.any) want(row[classid], row[objid]);
        for (const { name, classid } of objects) {
          const value = row[name];
          for (const oid of Array.isArray(value) ? value : [value]) if (oid !== null) want(classid, oid);
        }
      }
    }
    const named = await read<{ classid: number; oid: number; name: string | null }>(
      [...wanted]
        .map(
          ([
            classid,
            oids,
          ]) => `SELECT ${classid} AS classid, o AS oid, (pg_identify_object(${classid}, o::oid, 0)).identity AS name
            FROM unnest('{${[...oids].join(',')}}'::int8[]) AS o`,
        )
        .join(' UNION ALL '),
    );
    for (const { classid, oid, name } of named) if (name !== null) this.#identities.set(key(classid, oid), name);
    for (const [name, oid] of classes) {
      // References to catalogues that are not read themselves (roles, tablespaces) are looked up by name.
      if (this.#classes.has(name)) continue;
      for (const one of wanted.get(oid) ?? []) {
        this.#identities.set(key(name, one), this.#identities.get(key(oid, one)) ?? String(one));
      }
    }
    for (const [table, rows] of this.contents) {
      // Two databases can be compared: their own names are no difference.
      if (table.name === 'pg_database')
        for (const row of rows) this.#identities.set(key(table.oid, row.oid), 'this database');
    }
  }

  /** `RI_ConstraintTrigger_a_16444` tells nothing and differs after every rebuild; what it does for which constraint is its name. */
  #nameInternalTriggers(): void {
    for (const [table, rows] of this.contents) {
      if (table.name !== 'pg_trigger') continue;
      for (const row of rows) {
        if (row.tgisinternal !== true || this.#isHidden(table, row)) continue;
        const does = this.#object('pg_proc', row.tgfoid);
        const name = `${does} for ${this.#object('pg_constraint', row.tgconstraint)} at ${this.#object('pg_class', row.tgrelid)}`;
        this.#identities.set(key(table.oid, row.oid), name);
      }
    }
  }
}
