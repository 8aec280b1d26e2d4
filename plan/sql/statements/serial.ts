/**
 * serial and identity columns of a table that has rows. serial is a sequence, a default and NOT NULL, made in that order. Identity cannot
 * be there before NOT NULL, so a sequence of ours feeds the column meanwhile, and contract hands its position to the identity.
 */
import { as, sqlOf } from '../ast';
import { brief, risk } from '../figures';
import { postgresName } from '../names';
import { ident, literal, relation } from '../../model/quote';
import { addBare, addFill, columnCommand, finishColumn } from './addColumn';
import { both, columnIsIdentity, columnLabel, lockTarget, locksOf, not, relationExists, transaction } from './shared';
import type { ColumnDef, Constraint as ConstraintNode, Node, TypeName } from 'libpg-query';
import type { Column, Table } from '../../model/catalog';
import type { RelationName } from '../../model/steps';
import type { PlanContext } from '../context';
import type { ColumnParts } from './columnParts';

const SERIAL: Readonly<Record<string, 'smallint' | 'integer' | 'bigint'>> = {
  smallserial: 'smallint',
  serial2: 'smallint',
  serial: 'integer',
  serial4: 'integer',
  bigserial: 'bigint',
  serial8: 'bigint',
};
const INTERNAL = { smallint: 'int2', integer: 'int4', bigint: 'int8' } as const;

const serialType = (def: ColumnDef): 'smallint' | 'integer' | 'bigint' | null => {
  const names = (def.typeName?.names ?? []).flatMap((n) => as(n, 'String')?.sval ?? []);
  return names.length === 1 ? (SERIAL[names[0] ?? ''] ?? null) : null;
};
export const isSerial = (def: ColumnDef): boolean => serialType(def) !== null;

const builtin = (name: string): TypeName => ({
  names: [{ String: { sval: 'pg_catalog' } }, { String: { sval: name } }],
  typemod: -1,
});

const nextval = (sequence: RelationName): Node => ({
  FuncCall: {
    funcname: [{ String: { sval: 'nextval' } }],
    args: [
      {
        TypeCast: {
          arg: { A_Const: { sval: { sval: relation(sequence) } } },
          typeName: { names: [{ String: { sval: 'regclass' } }], typemod: -1 },
        },
      },
    ],
    funcformat: 'COERCE_EXPLICIT_CALL',
  },
});

const sequenceName = (ctx: PlanContext, table: Table, column: string): RelationName => ({
  schema: table.schema,
  name: postgresName(table.name, column, 'seq', (name) => ctx.overlay.taken({ schema: table.schema, name })),
});

export function planSerial(ctx: PlanContext, table: Table, column: Column, parts: ColumnParts): void {
  const type = serialType(parts.def) ?? 'integer';
  const sequence = sequenceName(ctx, table, column.name);
  const value = nextval(sequence);
  const typed: ColumnParts = {
    ...parts,
    def: { ...parts.def, typeName: builtin(INTERNAL[type]) },
    notNull: parts.notNull ?? { contype: 'CONSTR_NOTNULL', is_enforced: true, initially_valid: true },
  };
  addBare(ctx, table, { ...column, type, typeName: { schema: 'pg_catalog', name: INTERNAL[type] } }, typed, {
    withDefault: false,
    notNull: false,
    before: [`CREATE SEQUENCE ${relation(sequence)} AS ${type}`],
    thenDefault: value,
    after: [`ALTER SEQUENCE ${relation(sequence)} OWNED BY ${relation(table)}.${ident(column.name)}`],
    undo: [`DROP SEQUENCE IF EXISTS ${relation(sequence)}`],
  });
  addFill(ctx, table, column.name, value);
  finishColumn(ctx, table, typed, { filled: true, notNullDone: false });
}

export function planIdentity(ctx: PlanContext, table: Table, column: Column, parts: ColumnParts): void {
  const own: RelationName = {
    schema: table.schema,
    name: ctx.names.make('seq', table.schema, table.name, column.name),
  };
  const options = (parts.identity?.options ?? []).flatMap((n) => as(n, 'DefElem') ?? []);
  const type = column.type;
  const value = nextval(own);
  const settings = options.filter((o) => o.defname !== 'sequence_name');
  const create = sqlOf({
    CreateSeqStmt: {
      sequence: { schemaname: own.schema, relname: own.name, inh: true, relpersistence: 'p' },
      options: [
        {
          DefElem: {
            defname: 'as',
            arg: { TypeName: parts.def.typeName ?? builtin('int8') },
            defaction: 'DEFELEM_UNSPEC',
          },
        },
        ...settings.map((o): Node => ({ DefElem: o })),
      ],
    },
  });
  const required: ColumnParts = {
    ...parts,
    notNull: parts.notNull ?? { contype: 'CONSTR_NOTNULL', is_enforced: true, initially_valid: true },
  };
  addBare(ctx, table, { ...column, type }, required, {
    withDefault: false,
    notNull: false,
    before: [create],
    thenDefault: value,
    undo: [`DROP SEQUENCE IF EXISTS ${relation(own)}`],
  });
  addFill(ctx, table, column.name, value);
  finishColumn(ctx, table, required, { filled: true, notNullDone: false });
  if (parts.identity) attachIdentity(ctx, table, column, parts.identity, own, create);
}

/** One short transaction: while its lock is held nobody draws a number, so none is given twice and none is lost. */
function attachIdentity(
  ctx: PlanContext,
  table: Table,
  column: Column,
  identity: ConstraintNode,
  own: RelationName,
  create: string,
): void {
  const name = ident(column.name);
  const { location: _location, ...node } = identity;
  const attach = columnCommand(table, { subtype: 'AT_AddIdentity', name: column.name, def: { Constraint: node } });
  const identitySequence = `pg_catalog.pg_get_serial_sequence(${literal(relation(table))}, ${literal(column.name)})`;
  const position = (from: string): string => `(SELECT last_value, is_called FROM ${from})`;
  const handOver = `SELECT pg_catalog.setval(${identitySequence}, s.last_value, s.is_called) FROM ${position(relation(own))} AS s`;
  const back = `DO ${literal(
    `DECLARE v bigint; c boolean; BEGIN IF ${both(columnIsIdentity(table, column.name), not(relationExists(own)))} THEN ` +
      `EXECUTE 'SELECT last_value, is_called FROM ' || ${identitySequence} INTO v, c; ` +
      `EXECUTE ${literal(create)}; PERFORM pg_catalog.setval(${literal(relation(own))}, v, c); ` +
      `EXECUTE ${literal(`ALTER TABLE ${relation(table)} ALTER COLUMN ${name} DROP IDENTITY`)}; ` +
      `EXECUTE ${literal(`ALTER TABLE ${relation(table)} ALTER COLUMN ${name} SET DEFAULT pg_catalog.nextval(${literal(relation(own))}::pg_catalog.regclass)`)}; END IF; END`,
  ).trimStart()}`;
  ctx.add({
    phase: 'contract',
    action: 'add_identity',
    title: `make ${columnLabel(table, column.name)} an identity column, going on at the number that was reached`,
    run: transaction(
      [
        `ALTER TABLE ${relation(table)} ALTER COLUMN ${name} DROP DEFAULT`,
        attach,
        handOver,
        `DROP SEQUENCE ${relation(own)}`,
      ],
      {
        lockFirst: [lockTarget(table, 'ACCESS EXCLUSIVE')],
      },
    ),
    undo: [transaction([back])],
    wayBack: { statement: `ALTER TABLE ${relation(table)} ALTER COLUMN ${name} DROP IDENTITY`, lossless: true },
    locks: locksOf(ctx, table, 'ACCESS EXCLUSIVE'),
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
  });
  ctx.overlay.changeColumn(table, column.name, { identity: identity.generated_when === 'a' ? 'always' : 'by default' });
}
