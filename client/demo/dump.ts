/**
 * `--data FILE.sql`: any plain dump instead of our own shop. It is loaded by psql, its largest plain table with a key that can be grown
 * is grown, and a schema migration is derived from the columns it has. It keeps true: what is chosen is said with its reason, what is
 * passed over too, and nothing is guessed about the data's meaning (a type change only ever widens).
 */
import { spawn } from 'node:child_process';
import { basename } from 'node:path';
import { Problem } from '../../plan/model/errors';
import { ident, relation } from '../../postgres/ident';
import type { DemoChange } from './change';
import { isInteger, planGrowth } from './growth';
import type { Growth } from './growth';
import type { DumpColumn, DumpTable } from './dumpTables';

/**
 * Loads a plain dump with psql into the database of `env` (PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD: never on the command
 * line). Stops at the first error. Throws InvalidUsage with psql's own first lines, which hold no row (`VERBOSITY terse`).
 */
export function loadDump(psql: string, file: string, env: Readonly<Record<string, string>>): Promise<void> {
  const args = ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=terse', '-f', file];
  return new Promise((resolve, reject) => {
    const child = spawn(psql, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(0, 4_000)));
    child.on('error', () => reject(new Problem('NoSuchFile', `psql could not be started`, { value: psql })));
    child.on('close', (code) => {
      if (code === 0) return resolve();
      const first = errors.split('\n').find((line) => line.includes('ERROR')) ?? errors.split('\n')[0] ?? '';
      const line = /:(\d+): ERROR/.exec(first)?.[1];
      reject(
        new Problem('InvalidUsage', `the dump does not load: ${first.replace(/^.*?ERROR:\s*/, '')}`, {
          where: { file: basename(file), ...(line ? { line: Number(line) } : {}) },
          hint: 'it must be a plain SQL dump (pg_dump -Fp) for an empty database',
        }),
      );
    });
  });
}

export interface Choice {
  readonly growth: Growth;
  /** Tables that are larger and were passed over, with the reason. */
  readonly passedOver: readonly { readonly table: string; readonly reason: string }[];
}

/** The largest table that can be grown to `rows` and has a column whose type can be widened. Throws InvalidUsage when there is none. */
export function chooseTable(tables: readonly DumpTable[], rows: number): Choice {
  const passedOver: { table: string; reason: string }[] = [];
  for (const table of tables) {
    const growth = table.rows === 0 ? 'it is empty' : planGrowth(table, rows);
    if (typeof growth !== 'string' && widening(table)) return { growth, passedOver };
    passedOver.push({
      table: table.name,
      reason: typeof growth === 'string' ? growth : 'none of its columns has a wider type to go to',
    });
  }
  throw new Problem('InvalidUsage', 'no table of the dump can be grown and changed', {
    hint:
      passedOver.map((p) => `${p.table}: ${p.reason}`).join('; ') || 'the dump holds no plain table with a primary key',
  });
}

interface Widening {
  readonly column: DumpColumn;
  readonly to: string;
  readonly why: string;
}

/** The column to widen: money first, then counters, then references. Never a key, whose change would reach other tables. */
export function widening(table: DumpTable): Widening | null {
  const open = table.columns.filter((c) => !c.generated && !c.unique && c.sequences.length === 0);
  for (const column of open) {
    const numeric = /^numeric\((\d+),(\d+)\)$/.exec(column.fullType);
    const precision = Number(numeric?.[1]);
    const scale = Number(numeric?.[2]);
    if (numeric && precision < 200)
      return { column, to: `numeric(${precision + 4},${scale + 2})`, why: 'two more decimals and two more digits' };
  }
  const integer = (c: DumpColumn): boolean => c.type === 'integer' || c.type === 'smallint';
  const counter = open.find((c) => integer(c) && !c.foreign) ?? open.find(integer);
  return counter ? { column: counter, to: 'bigint', why: `${counter.type} will be too small one day` } : null;
}

const freeName = (table: DumpTable, wanted: string): string => {
  const taken = new Set(table.columns.map((c) => c.name));
  for (let n = 1; ; n += 1) {
    const name = n === 1 ? wanted : `${wanted}_${n}`;
    if (!taken.has(name)) return name;
  }
};

/** The smallest other table with one integer key and a row in it: what the new foreign key refers to. */
function parentFor(table: DumpTable, tables: readonly DumpTable[]): { parent: DumpTable; key: DumpColumn } | null {
  const fits = [...tables].reverse().flatMap((parent) => {
    const key = parent.columns.find((c) => c.name === parent.key[0]);
    const ok = parent.key.length === 1 && key && isInteger(key.type) && key.min !== null && parent.name !== table.name;
    return ok ? [{ parent, key }] : [];
  });
  return fits.find(({ parent }) => !table.parents.includes(parent.name)) ?? fits[0] ?? null;
}

/** The schema migration for the chosen table, as the SQL that a person would write, with a reason for each statement. */
export function deriveChange(table: DumpTable, tables: readonly DumpTable[]): DemoChange {
  const widen = widening(table);
  if (!widen) throw new Problem('InvalidUsage', `no column of ${relation(table)} can be widened`);
  const name = relation(table);
  const token = freeName(table, 'public_id');
  const statements = [
    {
      sql: `ALTER TABLE ${name} ALTER COLUMN ${ident(widen.column.name)} TYPE ${widen.to}`,
      why: `${widen.column.fullType} to ${widen.to}: ${widen.why}`,
    },
    {
      sql: `ALTER TABLE ${name} ADD COLUMN ${ident(token)} uuid NOT NULL DEFAULT gen_random_uuid()`,
      why: 'a NOT NULL column whose default differs in every row: plain SQL would rewrite the table under its strongest lock',
    },
  ];
  const added = [token];
  const other = parentFor(table, tables);
  if (other) {
    const reference = freeName(table, `origin_${other.parent.name}_id`.slice(0, 60));
    added.push(reference);
    statements.push(
      {
        sql: `ALTER TABLE ${name} ADD COLUMN ${ident(reference)} ${other.key.type} NOT NULL DEFAULT ${Number(other.key.min)}`,
        why: `where each row came from; ${other.parent.name} is the smallest table with a plain key`,
      },
      {
        sql: `CREATE INDEX ON ${name} (${ident(reference)})`,
        why: 'so that the foreign key below is cheap from its other side',
      },
      {
        sql: `ALTER TABLE ${name} ADD FOREIGN KEY (${ident(reference)}) REFERENCES ${relation(other.parent)} (${ident(other.key.name)})`,
        why: 'plain SQL would check every row under a lock that stops writers of both tables',
      },
    );
  }
  const unindexed = table.columns.find(
    (c) => !c.indexed && c.name !== widen.column.name && /^(date|time|int|text|char)/.test(c.type),
  );
  statements.push({
    sql: `CREATE INDEX ON ${name} (${ident(unindexed?.name ?? token)})`,
    why: `${unindexed?.name ?? token} has no index yet; plain SQL would stop all writers while it builds`,
  });
  return {
    schema: table.schema,
    table: table.name,
    key: table.key,
    column: widen.column.name,
    oldType: widen.column.fullType,
    newType: widen.to,
    added,
    statements,
  };
}
