/**
 * The catalogue as plain data (plan/model/catalog.ts): a fixed number of set-based queries in one snapshot, put together here. Reads
 * nothing but the catalogue and sizes; writes nothing.
 */
import type { ClientBase } from 'pg';
import type { Catalog, Table } from '../../plan/model/catalog';
import { DEPENDENTS, VIEWS, dependentsByRelation } from './dependents';
import type { DependentRow, Relation, ViewRow } from './dependents';
import * as objects from './objects';
import * as parts from './parts';
import * as relations from './relations';
import { withSnapshot } from './session';
import type { ReadRows } from './session';
import { readStatements } from './statements';

type Connection = Pick<Catalog, 'serverVersion' | 'database' | 'user' | 'superuser' | 'settings'>;

/**
 * Reads everything a plan needs to know. `client` must not be in a transaction; its settings are left as they were. Works on 13 and later;
 * throws Problem LockTimeout when a relation stays locked for 5 s, otherwise Postgres' errors.
 */
export async function readCatalog(client: ClientBase): Promise<Catalog> {
  let connection: Connection | undefined;
  return withSnapshot(
    client,
    (read) => readAll(read, connection as Connection),
    async (read) => {
      [connection] = await read<Connection>(objects.CONNECTION);
    },
  );
}

async function readAll(read: ReadRows, connection: Connection): Promise<Catalog> {
  const { serverVersion, superuser } = connection;
  const canSetReplicationRole =
    superuser || (serverVersion >= 150000 && (await read<{ may: boolean }>(objects.REPLICATION_ROLE))[0]?.may === true);
  const schemas = await read<{ name: string }>(objects.SCHEMAS);
  return {
    ...connection,
    canSetReplicationRole,
    schemas: schemas.map((s) => s.name),
    tables: await readTables(read, serverVersion),
    types: await read<objects.TypeInfo>(objects.TYPES),
    casts: await read<objects.Cast>(objects.CASTS),
    functions: await read<objects.FunctionInfo>(objects.FUNCTIONS),
    sequences: await read<objects.Sequence>(objects.SEQUENCES),
    publications: await read<objects.Publication>(objects.publicationsSql(serverVersion)),
    extensions: await read<{ name: string; version: string }>(objects.EXTENSIONS),
    statements: await readStatements(read),
  };
}

async function readTables(read: ReadRows, serverVersion: number): Promise<Table[]> {
  const many = (await read<{ many: boolean }>(relations.MANY))[0]?.many === true;
  const rows = await read<relations.RelationRow>(relations.relationsSql(many));
  const columns = grouped<relations.ColumnRow>(await read(relations.columnsSql(serverVersion)));
  const indexes = grouped<parts.IndexRow>(await read(parts.indexesSql(serverVersion, many)));
  const allConstraints = await read<parts.ConstraintRow>(parts.constraintsSql(serverVersion));
  const constraints = grouped(allConstraints.map(({ refers: _refers, ...constraint }) => constraint));
  const incoming = grouped(
    allConstraints
      .filter((k) => k.type === 'foreign')
      .map(({ refers, ...constraint }) => ({ ...constraint, rel: refers })),
  );
  const triggers = grouped<parts.TriggerRow>(await read(parts.TRIGGERS));
  const policies = grouped<parts.PolicyRow>(await read(parts.POLICIES));
  const rules = grouped<parts.RuleRow>(await read(parts.RULES));
  const statistics = grouped<parts.StatisticsRow>(await read(parts.STATISTICS));
  const tables = rows.map((table): Relation => {
    const { oid } = table;
    const own = indexes(oid);
    return {
      ...table,
      totalBytes: table.heapBytes + table.totalBytes + own.reduce((sum, index) => sum + index.bytes, 0),
      columns: columns(oid),
      indexes: own,
      constraints: constraints(oid),
      incoming: incoming(oid),
      triggers: triggers(oid),
      policies: policies(oid),
      rules: rules(oid),
      statistics: statistics(oid),
    };
  });
  const dependents = dependentsByRelation(await read<DependentRow>(DEPENDENTS), await read<ViewRow>(VIEWS), tables);
  return tables.map(({ oid, ...table }) => ({ ...table, dependents: dependents(oid) }));
}

/** Rows by their `rel`, which is taken off. */
function grouped<Row extends { readonly rel: number }>(rows: readonly Row[]): (rel: number) => Omit<Row, 'rel'>[] {
  const groups = new Map<number, Omit<Row, 'rel'>[]>();
  for (const { rel, ...rest } of rows) {
    const group = groups.get(rel);
    if (group) group.push(rest);
    else groups.set(rel, [rest]);
  }
  return (rel) => groups.get(rel) ?? [];
}
