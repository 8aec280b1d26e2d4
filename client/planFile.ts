/**
 * From a path (or stdin) to a validated plan that knows where every part of it was written. What is refused, is refused with file, line, column
 * and a caret; `sqlFile` is inlined here, because the worker cannot read the starter's files.
 */
import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative } from 'node:path';
import { Problem, isProblem } from '../plan/model/errors';
import type { Where } from '../plan/model/errors';
import type { DataMigrationPlan } from '../plan/model/dataMigration';
import type { SchemaMigrationPlan } from '../plan/model/plan';
import { validateDataMigration, validatePlan, validateValidation } from '../plan/model/validate';
import type { AnyPairPlan } from '../plan/model/validateCanary';
import { validatePair } from '../plan/model/validateCanary';
import type { ValidationPlan } from '../plan/model/validation';
import { CONNECTION_NAME, MIGRATION_NAME } from '../plan/model/values';
import { PlanSource, lineText } from './planSource';

/** The largest plan that is read: more is a data set, not a plan. */
const MAX_BYTES = 16 * 1024 * 1024;
const STDIN = '<stdin>';

export interface LoadedPlan {
  /** As it was named, or `<stdin>`. */
  readonly file: string;
  /** The workflow's argument: as typed, with the SQL inlined and overrides applied; no defaults. */
  readonly input: Readonly<Record<string, unknown>>;
  /** With every default. */
  readonly plan: SchemaMigrationPlan;
  readonly sql: string;
  /** Where line and column (from 1) of the SQL text were written. */
  at(line: number, column: number, length?: number): Where;
  /** Where a key of the plan was written. */
  locate(path: string, aim?: 'key' | 'value'): Where;
}

export interface LoadOptions {
  readonly database?: string | undefined;
  readonly dryRun?: boolean | undefined;
}

function read(path: string, what: string): string {
  try {
    if (path !== STDIN && statSync(path).isFile() && statSync(path).size > MAX_BYTES)
      throw new Problem('InvalidPlan', `${what} is larger than 16 MB`, { where: { file: path } });
    return readFileSync(path === STDIN ? 0 : path, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    if (isProblem(error)) throw error;
    const reason = (error as NodeJS.ErrnoException).code;
    const why = { ENOENT: 'does not exist', EISDIR: 'is a folder', EACCES: 'may not be read' }[reason ?? ''];
    throw new Problem('NoSuchFile', `${what} ${why ?? 'cannot be read'}: ${path}`);
  }
}

/** The text of a plan of any kind; `-` reads stdin. @throws Problem NoSuchFile, InvalidPlan. */
export const readPlanText = (path: string): { readonly file: string; readonly text: string } => {
  const file = path === '-' ? STDIN : path;
  return { file, text: read(file, 'the plan') };
};

/** Offset of line and column (from 1) in a text. */
function offsetOf(text: string, line: number, column: number): number {
  let start = 0;
  for (let n = 1; n < line; n += 1) {
    const next = text.indexOf('\n', start);
    if (next < 0) return text.length;
    start = next + 1;
  }
  return Math.min(text.length, start + column - 1);
}

/** The word that begins there, for the caret. */
export const wordLength = (text: string, offset: number): number =>
  /^[\w$]+|^"[^"\n]*"/.exec(text.slice(offset, offset + 80))?.[0].length ?? 1;

const inText =
  (file: string, text: string): LoadedPlan['at'] =>
  (line, column, length = wordLength(text, offsetOf(text, line, column))) => ({
    file,
    line,
    column,
    length,
    ...lineText(text.split('\n')[line - 1] ?? ''),
  });

function checkDatabase(database: string | undefined): void {
  if (database === undefined || CONNECTION_NAME.test(database)) return;
  throw new Problem(
    'InvalidPlan',
    'database: a connection is a name ([a-z][a-z0-9_]*), never a URL; the value is not shown',
    {
      where: { path: 'database' },
    },
  );
}

/** A problem that knows its path in the plan learns its line and column. */
export function placed(problem: Problem, locate: (path: string, aim: 'key' | 'value') => Where): Problem {
  const path = problem.where?.path;
  if (path === undefined || problem.where?.line !== undefined) return problem;
  const aim =
    problem.code === 'NotYet' || /unknown key|no such phase|a hook is named/.test(problem.message) ? 'key' : 'value';
  return new Problem(problem.code, problem.message, {
    where: { ...locate(path, aim), path },
    hint: problem.hint,
    details: problem.details,
    ...(problem.value === undefined ? {} : { value: problem.value }),
  });
}

/** A problem in the SQL (line and column of the SQL text), or with a key of the plan, is shown where that was written. */
export function placedInPlan(error: unknown, loaded: LoadedPlan): unknown {
  if (!isProblem(error)) return error;
  if (error.where?.line === undefined) return placed(error, (path, aim) => loaded.locate(path, aim));
  if (error.where.file !== undefined) return error;
  const { line, column, length, path } = error.where;
  return new Problem(error.code, error.message, {
    where: { ...loaded.at(line, column ?? 1, length), ...(path === undefined ? {} : { path }) },
    hint: error.hint,
    details: error.details,
    ...(error.value === undefined ? {} : { value: error.value }),
  });
}

function loadSql(file: string, { database, dryRun }: LoadOptions): LoadedPlan {
  const sql = read(file, 'the file');
  const name = basename(file).replace(/\.sql$/, '');
  if (database === undefined)
    throw new Problem('InvalidUsage', 'a .sql file does not say its database', { hint: `add --database NAME` });
  if (!MIGRATION_NAME.test(name))
    throw new Problem('InvalidPlan', `${name}.sql: the file's name is the migration's: [a-z0-9][a-z0-9_.-]{0,99}`, {
      where: { file },
      hint: 'rename the file, or write a plan with a name of its own',
    });
  const input = { kind: 'schema-migration', name, database, ...(dryRun ? { mode: 'dry-run' } : {}), sql };
  return { file, input, plan: validatePlan(input), sql, at: inText(file, sql), locate: () => ({ file }) };
}

/** The SQL of a plan and the way from a place in it to the file that holds it. */
function sqlOf(source: PlanSource, json: Readonly<Record<string, unknown>>): { sql: string; at: LoadedPlan['at'] } {
  if (typeof json['sql'] === 'string') {
    const sql = json['sql'];
    const inside = source.insideOf('sql');
    const at: LoadedPlan['at'] = (line, column, length = wordLength(sql, offsetOf(sql, line, column))) =>
      inside === null ? source.locate('sql', 'key') : inside(offsetOf(sql, line, column), length);
    return { sql, at };
  }
  return readNamed(source, String(json['sqlFile']), 'sqlFile');
}

/** A file that the plan names, from the plan's own folder. */
function readNamed(source: PlanSource, named: string, key: string): { sql: string; at: LoadedPlan['at'] } {
  const folder = source.file === STDIN ? '.' : dirname(source.file);
  const path = isAbsolute(named) ? relative('.', named) || named : join(folder, named);
  try {
    const sql = read(path, 'sqlFile');
    return { sql, at: inText(path, sql) };
  } catch (error) {
    if (!isProblem(error)) throw error;
    throw new Problem(error.code, error.message, { where: source.locate(key) });
  }
}

interface Asked {
  readonly source: PlanSource;
  readonly asked: Record<string, unknown>;
}

function openYaml(file: string, options: LoadOptions): Asked {
  const source = new PlanSource(file, read(file === STDIN ? STDIN : file, 'the plan'));
  const json = source.json();
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new Problem('InvalidPlan', 'a plan is a map of keys', { where: source.at(0) });
  const asked: Record<string, unknown> = { ...json };
  if (asked['kind'] === undefined)
    throw new Problem('InvalidPlan', 'kind: is required', {
      where: { ...source.at(0), path: 'kind' },
      hint: 'add  kind: schema-migration',
    });
  if (options.database !== undefined) asked['database'] = options.database;
  if (options.dryRun) asked['mode'] = 'dry-run';
  return { source, asked };
}

function loadYaml({ source, asked }: Asked): LoadedPlan {
  const { file } = source;
  try {
    const plan = validatePlan(asked);
    const { sql, at } = sqlOf(source, asked);
    const input: Record<string, unknown> = { ...asked, sql };
    delete input['sqlFile'];
    const { sqlFile: _named, ...complete } = plan;
    const locate: LoadedPlan['locate'] = (path, aim) => source.locate(path, aim);
    return { file, input, plan: { ...complete, sql }, sql, at, locate };
  } catch (error) {
    throw isProblem(error) ? placed(error, (path, aim) => source.locate(path, aim)) : error;
  }
}

/** A plan without SQL of its own, as it was written. */
export interface LoadedOf<P> {
  readonly file: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly plan: P;
  /** Where a key of the plan was written. */
  locate(path: string, aim?: 'key' | 'value'): Where;
}
export type LoadedData = LoadedOf<DataMigrationPlan>;

function loadBy<P>({ source, asked }: Asked, validate: (json: unknown) => P): LoadedOf<P> {
  const locate: LoadedOf<P>['locate'] = (path, aim) => source.locate(path, aim);
  try {
    return { file: source.file, input: asked, plan: validate(asked), locate };
  } catch (error) {
    throw isProblem(error) ? placed(error, locate) : error;
  }
}

/** A blue-green or a canary as it was written, its change inlined. */
export interface LoadedPair {
  readonly file: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly plan: AnyPairPlan;
}

function loadPair({ source, asked }: Asked): LoadedPair {
  try {
    const plan = validatePair(asked);
    if (plan.change?.sqlFile === undefined) return { file: source.file, input: asked, plan };
    const change = { sql: readNamed(source, plan.change.sqlFile, 'change.sqlFile').sql };
    return { file: source.file, input: { ...asked, change }, plan: { ...plan, change } };
  } catch (error) {
    throw isProblem(error) ? placed(error, (path, aim) => source.locate(path, aim)) : error;
  }
}

/**
 * Reads FILE: YAML or JSON, plain SQL by its name's end, or stdin as `-`.
 * @throws Problem NoSuchFile, InvalidPlan, InvalidUsage, NotYet, DependencyCycle.
 */
export function loadPlan(file: string, options: LoadOptions = {}): LoadedPlan {
  checkDatabase(options.database);
  if (file === '-') return loadYaml(openYaml(STDIN, options));
  return file.endsWith('.sql') ? loadSql(file, options) : loadYaml(openYaml(file, options));
}

/** A plan of a kind that runs, as `start` and `plan` take it. */
export type Startable =
  | { readonly schema: LoadedPlan }
  | { readonly data: LoadedData }
  | { readonly pair: LoadedPair }
  | { readonly validation: LoadedOf<ValidationPlan> };

/** What `start` takes: a plan of any kind. @throws Problem as loadPlan, SameDatabase. */
export function loadStartable(file: string, options: LoadOptions = {}): Startable {
  checkDatabase(options.database);
  if (file !== '-' && file.endsWith('.sql')) return { schema: loadSql(file, options) };
  const opened = openYaml(file === '-' ? STDIN : file, options);
  switch (opened.asked['kind']) {
    case 'data-migration':
      return { data: loadBy(opened, validateDataMigration) };
    case 'validation':
      return { validation: loadBy(opened, validateValidation) };
    case 'blue-green':
    case 'canary':
      return { pair: loadPair(opened) };
    default:
      return { schema: loadYaml(opened) };
  }
}
