/** Where the plan's `archive` keeps what is dropped: a schema (one table for each thing) or a directory for pg_dump. */
import { createHash } from 'node:crypto';
import { clip } from '../names';
import { ident, literal } from '../../model/quote';
import { brief, risk } from '../figures';
import { transaction } from './shared';
import type { ArchiveRun, RelationName } from '../../model/steps';
import type { PlanContext } from '../context';

/** A schema name has neither slash nor leading dot. */
const isDirectory = (to: string): boolean => to.includes('/') || to.startsWith('.') || to.includes('\\');

const hash = (...parts: readonly string[]): string =>
  createHash('sha256').update(parts.join('\0'), 'utf8').digest('hex').slice(0, 8);

/** null = the plan keeps no archive. The name is the same each time the same plan is made. */
export function archiveTarget(ctx: PlanContext, table: RelationName, what: string): ArchiveRun['to'] | null {
  const { archive } = ctx.plan;
  if (archive === 'none') return null;
  if (isDirectory(archive.to)) return { directory: archive.to };
  return { table: archiveTable(ctx, archive.to, table, what) };
}

function archiveTable(ctx: PlanContext, schema: string, table: RelationName, what: string): RelationName {
  ensureSchema(ctx, schema);
  const readable = clip([table.name, what].filter((part) => part !== '').join('_'), 44);
  return {
    schema,
    name: `archive_${readable}_${hash(ctx.plan.name, table.schema, table.name, what, String(ctx.statement.number))}`,
  };
}

/** The archive for old rows of UPDATE and DELETE must be a table: batches and archive commit together. */
export function archiveTableOf(ctx: PlanContext, table: RelationName, what: string): RelationName | null {
  const to = archiveTarget(ctx, table, what);
  return to && 'table' in to ? to.table : null;
}

/** Another change may keep its own rows there by now: then the schema stays. */
const dropWhenEmpty = (schema: string): string =>
  `DO ${literal(`BEGIN DROP SCHEMA IF EXISTS ${ident(schema)}; EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END`).trimStart()}`;

/** Made once, first in expand, when it is not there. Our own schema is there whenever a step runs, and is never ours to drop. */
function ensureSchema(ctx: PlanContext, schema: string): void {
  const key = `archive schema ${schema}`;
  if (schema === 'pgshift' || ctx.catalog.schemas.includes(schema) || ctx.shared.has(key)) return;
  ctx.shared.set(key, true);
  ctx.add({
    phase: 'expand',
    order: -1,
    action: 'create_schema',
    title: `create schema ${schema} for the archive`,
    run: transaction([`CREATE SCHEMA IF NOT EXISTS ${ident(schema)}`]),
    undo: [transaction([dropWhenEmpty(schema)])],
    locks: [],
    work: 'metadata',
    estimate: brief(),
    risk: risk(),
    own: true,
  });
  ctx.asked(`+ schema ${schema}`);
}
