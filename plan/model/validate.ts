/**
 * From any JSON to a plan with every default filled in, or one Problem that says where. The same function runs in the CLI (which adds line and
 * column) and inside the workflow, so that a bare Temporal start is refused for the same reasons. Values are never echoed: a URL
 * with its password may be among them.
 */
import type { z } from 'zod';
import { parseExpression } from './expression';
import { ROUTER_METRICS } from './counters';
import { comparesSides } from './health';
import { Problem } from './errors';
import type { DataMigrationPlan } from './dataMigration';
import { BULK, NOT_YET_VALUES, dataMigrationSchema } from './dataMigration';
import { checkModes, withFinishGate } from './dataModes';
import type { Condition, Gate, RollbackPlan, SchemaMigrationPlan } from './plan';
import type { BlueGreenPlan, PairPlan } from './blueGreen';
import { blueGreenSchema, DEFAULT_GATES, INSIDE_THE_PAUSE, NEVER_ALLOWED } from './blueGreen';
import { BUILT_KINDS, KINDS, NOT_YET_KEYS, rollbackSchema, schemaMigrationSchema } from './plan';
import type { ValidationPlan } from './validation';
import { NOT_YET_MAP_KEYS, validationSchema } from './validation';
import { listOf } from './tableMapping';
import { parseColumnName, parseTableName } from './tableNames';
import { refuseTogether } from './together';
import { CONNECTION_NAME, MIGRATION_NAME } from './values';
import { DATA_PHASES, pairSteps, PHASES } from './steps';
import { checkWindow } from './window';

/** What a large plan is started with: the plan itself lies in `pgshift.plans` of the database. */
export interface PlanReference {
  readonly kind: 'schema-migration';
  readonly name: string;
  readonly database: string;
  readonly planRef: string;
}

const STEP_ID = new RegExp(`^(${PHASES.join('|')})\\.[1-9]\\d*$`);
export const isObject = (json: unknown): json is Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json);

/** `gates.contract.expires`, `allow[0].rule`; text that could be a secret is not shown. */
function pathText(path: readonly PropertyKey[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += `${text === '' ? '' : '.'}${shownKey(String(part))}`;
  }
  return text;
}

const shownKey = (key: string): string => (/:\/\/|password/i.test(key) || key.length > 80 ? '(not shown)' : key);

type Issue = z.core.$ZodIssue;

/** A union reports every branch: the branch that came furthest says best what is wrong. */
function deepest(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue;
  const inner = issue.errors
    .flat()
    .map((i) => deepest(i as Issue))
    .filter((i) => i.path.length > 0 || i.code === 'unrecognized_keys');
  const best = inner.sort((a, b) => b.path.length - a.path.length)[0];
  return best ? { ...best, path: [...issue.path, ...best.path] } : issue;
}

function refuse(issue: Issue): Problem {
  const found = deepest(issue);
  if (found.code === 'unrecognized_keys') {
    const key = String(found.keys[0] ?? '');
    const path = pathText([...found.path, key]);
    return new Problem('InvalidPlan', `${path}: unknown key`, {
      where: { path },
      hint: 'keys are listed by pgshift schema; a misspelt key is never ignored',
    });
  }
  const path = pathText(found.path);
  const inner = found.code === 'invalid_key' ? (found.issues[0]?.message ?? found.message) : found.message;
  if (found.code === 'invalid_union')
    return new Problem('InvalidPlan', `${path}: none of the forms that it may have`, {
      where: { path },
      hint: path.startsWith('gates')
        ? 'none, manual, {type: manual, expires, onExpiry, quorum, roles, notBy}, {type: metric, ...condition}, or a list of these'
        : 'forms are listed by pgshift schema',
    });
  const message = found.code === 'invalid_type' && /undefined/.test(inner) ? 'is required' : inner;
  return new Problem('InvalidPlan', `${path === '' ? 'plan' : path}: ${message}`, { where: { path } });
}

function checkKind(json: Record<string, unknown>, expected: (typeof BUILT_KINDS)[number]): void {
  const kind = json.kind;
  if (kind === undefined || kind === expected) return;
  if (typeof kind !== 'string' || !(KINDS as readonly string[]).includes(kind))
    throw new Problem('InvalidPlan', `kind: not one of ${KINDS.join(', ')}`, { where: { path: 'kind' } });
  if (!(BUILT_KINDS as readonly string[]).includes(kind))
    throw new Problem('NotYet', `kind: ${kind} is not built yet`, { where: { path: 'kind' }, value: kind });
  throw new Problem('InvalidPlan', `kind: says ${kind}, but this is read as ${expected}`, { where: { path: 'kind' } });
}

function parse<T extends z.ZodType>(schema: T, json: Record<string, unknown>, kind: string): z.output<T> {
  for (const key of NOT_YET_KEYS[kind] ?? [])
    if (json[key] !== undefined)
      throw new Problem('NotYet', `${key}: not built yet`, { where: { path: key }, value: key });
  const result = schema.safeParse({ ...json, kind });
  if (result.success) return result.data;
  throw refuse(result.error.issues[0] as Issue);
}

/** Where a condition compares the sides, each source must say how it is asked for one of them: `$side` is the side's connection. */
const SIDE = '$side';

/** @param sides is this the condition of a pair, which knows `blue` and `green`? */
export function checkCondition(condition: Condition, path: string, sides = false): void {
  const bad = (what: string, at = path) => new Problem('InvalidPlan', `${at}: ${what}`, { where: { path: at } });
  if (condition.source === 'router' && !sides)
    throw new Problem('NotYet', `${path}.source: router is built for blue-green and canary`, {
      where: { path: `${path}.source` },
    });
  if (condition.source === 'router' && !(ROUTER_METRICS as readonly unknown[]).includes(condition.query))
    throw bad(`one of ${ROUTER_METRICS.join(', ')}`, `${path}.query`);
  const asks = condition.query ?? condition.url ?? condition.jsonPath;
  if (condition.source === 'connections' && asks !== undefined)
    throw bad('connections counts the client sessions of a side: it takes no query, url or jsonPath');
  if (
    condition.source !== 'connections' &&
    (condition.source === 'http' ? !condition.url || !condition.jsonPath : !condition.query)
  )
    throw bad(condition.source === 'http' ? 'http needs url and jsonPath' : `${condition.source} needs a query`);
  if (condition.failWhen === undefined && condition.successWhen === undefined)
    throw bad('needs failWhen or successWhen');
  for (const key of ['failWhen', 'successWhen'] as const) {
    const text = condition[key];
    if (text === undefined) continue;
    const used = parseExpression(text, `${path}.${key}`).names;
    const foreign = used.find((name) => name === 'blue' || name === 'green');
    if (foreign && !sides) throw bad(`${foreign} is known to blue-green and canary only`, `${path}.${key}`);
  }
  if (!sides || condition.source === 'router' || !comparesSides(condition)) return;
  if (condition.database !== undefined) throw bad('both sides are read: leave it out', `${path}.database`);
  const asked = condition.source === 'http' ? condition.url : condition.query;
  if (!['sql', 'connections'].includes(condition.source) && !asked?.includes(SIDE))
    throw bad(`is asked for each side: write ${SIDE} where the connection's name goes`);
}

export function checkGate(gate: Gate, path: string, sides = false): void {
  const list = Array.isArray(gate) ? gate : [gate];
  const manual = list.filter((g) => g === 'manual' || (typeof g === 'object' && g.type === 'manual'));
  if (manual.length > 1)
    throw new Problem('InvalidPlan', `${path}: one manual gate is enough; use quorum`, { where: { path } });
  list.forEach((g, i) => {
    if (typeof g === 'object' && g.type === 'metric')
      checkCondition(g, Array.isArray(gate) ? `${path}[${i}]` : path, sides);
  });
}

type Checked = Pick<SchemaMigrationPlan, 'name' | 'gates' | 'health' | 'window' | 'dependsOn' | 'throttle'>;

/** What holds for every kind that runs through phases. */
function checkPlan<P extends Checked>(plan: P, phases: readonly string[], stepId: RegExp | null, sides = false): P {
  for (const [name, gate] of Object.entries(plan.gates)) {
    const path = `gates.${shownKey(name)}`;
    if (!phases.includes(name) && stepId?.test(name) !== true)
      throw new Problem('InvalidPlan', `${path}: no such phase or step`, {
        where: { path },
        hint: `phases: ${phases.join(', ')}${stepId === null ? '' : '; a step is written as contract.1'}`,
      });
    checkGate(gate, path, sides);
  }
  const names = new Set<string>();
  plan.health.forEach((condition, i) => {
    checkCondition(condition, `health[${i}]`, sides);
    if (names.has(condition.name))
      throw new Problem('InvalidPlan', `health[${i}].name: used twice`, { where: { path: `health[${i}].name` } });
    names.add(condition.name);
    const foreign = condition.phases?.find((phase) => !phases.includes(phase));
    if (foreign !== undefined) {
      const path = `health[${i}].phases`;
      throw new Problem('InvalidPlan', `${path}: ${foreign} is no phase of this kind`, { where: { path } });
    }
  });
  if (plan.window) checkWindow(plan.window, phases);
  if (plan.dependsOn.includes(plan.name))
    throw new Problem('DependencyCycle', `dependsOn: ${plan.name} depends on itself`, { where: { path: 'dependsOn' } });
  if (plan.throttle !== 'none' && plan.throttle.batch.min > plan.throttle.batch.max)
    throw new Problem('InvalidPlan', 'throttle.batch.min: greater than max', { where: { path: 'throttle.batch.min' } });
  return plan;
}

/** kind `schema-migration`. @throws Problem InvalidPlan, NotYet, DependencyCycle, with where.path. */
export function validatePlan(json: unknown): SchemaMigrationPlan {
  if (!isObject(json)) throw new Problem('InvalidPlan', 'plan: not an object', { where: { path: '' } });
  checkKind(json, 'schema-migration');
  return checkPlan(parse(schemaMigrationSchema, json, 'schema-migration'), PHASES, STEP_ID);
}

/** kind `data-migration`, also the argument of its workflow. @throws Problem InvalidPlan, NotYet, SameDatabase, DependencyCycle. */
export function validateDataMigration(json: unknown): DataMigrationPlan {
  if (!isObject(json)) throw new Problem('InvalidPlan', 'plan: not an object', { where: { path: '' } });
  checkKind(json, 'data-migration');
  for (const [key, value] of NOT_YET_VALUES)
    if (json[key] === value)
      throw new Problem('NotYet', `${key}: ${String(value)} is not built yet`, {
        where: { path: key },
        value: String(value),
      });
  const plan = checkPlan(parse(dataMigrationSchema, withProfile(json), 'data-migration'), DATA_PHASES, null);
  if (plan.source === plan.target)
    throw new Problem('SameDatabase', 'target: the same connection as source', { where: { path: 'target' } });
  checkModes(plan);
  refuseTogether(plan, shownKey);
  checkLoad(plan);
  checkMap(plan);
  return withFinishGate(plan);
}

/** `profile: bulk` fills what the plan leaves out. */
function withProfile(json: Record<string, unknown>): Record<string, unknown> {
  if (json.profile !== 'bulk') return json;
  const given = isObject(json.parallel) ? json.parallel : {};
  const parallel =
    json.parallel === undefined || isObject(json.parallel) ? { ...BULK.parallel, ...given } : json.parallel;
  return { timeout: BULK.timeout, errors: BULK.errors, ...json, parallel };
}

function checkLoad({ load }: DataMigrationPlan): void {
  const bad = (path: string, what: string, hint: string) =>
    new Problem('InvalidPlan', `${path}: ${what}`, { where: { path }, hint });
  if (load.method === 'copy' && load.onConflict !== undefined)
    throw bad('load.onConflict', 'COPY knows no conflicts', 'say  method: insert  or  method: upsert');
  if (load.method === 'insert' && load.onConflict === 'update')
    throw bad('load.onConflict', 'an insert that updates is an upsert', 'say  method: upsert');
}

/** Names that must not be there twice, and orders that must be given. Whether tables and columns exist is asked in preflight. */
function checkMap({ map, load, schema }: DataMigrationPlan): void {
  const bad = (path: string, what: string, hint?: string) =>
    new Problem('InvalidPlan', `${path}: ${what}`, { where: { path }, ...(hint === undefined ? {} : { hint }) });
  const taken = new Map<string, string>();
  for (const [text, entry] of Object.entries(map)) {
    const path = `map.${shownKey(text)}`;
    const source = parseTableName(text);
    const to = parseTableName(entry.to ?? text) ?? source;
    const key = JSON.stringify(to);
    if (taken.has(key) && (load.method === 'copy' || schema === 'create'))
      throw bad(
        `${path}.to`,
        `two tables go to the same one`,
        'say  schema: existing  and  load: { method: insert }  or upsert',
      );
    taken.set(key, path);
    const made = new Set(Object.keys(entry.columns).map((name) => parseColumnName(name)));
    for (const name of Object.keys(entry.enrich))
      if (made.has(parseColumnName(name))) throw bad(`${path}.enrich.${shownKey(name)}`, 'is under columns too');
    for (const name of entry.omit)
      if (made.has(parseColumnName(name)) && typeof entry.columns[name] !== 'string')
        throw bad(`${path}.omit`, `${shownKey(name)} is under columns too`);
    const { deduplicate } = entry;
    if (deduplicate && deduplicate.keep !== 'first' && listOf(deduplicate.order).length === 0)
      throw bad(`${path}.deduplicate.order`, `is required: keep: ${deduplicate.keep} needs an order of the rows`);
  }
}

/** Values of built keys of blue-green that are not built. */
function refuseNotYet(json: Record<string, unknown>): void {
  const not = (path: string, what: string): never => {
    throw new Problem('NotYet', `${path}: ${what}`, { where: { path }, value: path });
  };
  if (json.onDdl === 'follow') not('onDdl', 'follow is not built yet');
  if (isObject(json.sync) && json.sync.apply === 'pgshift') not('sync.apply', 'pgshift is not built yet');
  if (isObject(json.tables)) {
    const { include, exclude } = json.tables;
    const all = include === undefined || (Array.isArray(include) && include.length === 1 && include[0] === '*.*');
    if (!all) not('tables.include', 'a switch takes every table: only *.* is built yet');
    if (Array.isArray(exclude) && exclude.length > 0) not('tables.exclude', 'a switch takes every table');
  }
}

/** What holds for both kinds of a pair. `more` = what a gate may be named after besides the steps. */
export function checkPair<P extends PairPlan>(
  json: unknown,
  kind: 'blue-green' | 'canary',
  schema: z.ZodType<P>,
  more: readonly string[] = [],
): P {
  if (!isObject(json)) throw new Problem('InvalidPlan', 'plan: not an object', { where: { path: '' } });
  checkKind(json, kind);
  refuseNotYet(json);
  const phases = [...pairSteps(kind).filter((step) => !INSIDE_THE_PAUSE.includes(step)), 'switch_back', ...more];
  const given = checkPlan(parse(schema, json, kind), phases, null, true);
  const bad = (path: string, what: string) => new Problem('InvalidPlan', `${path}: ${what}`, { where: { path } });
  if (given.gates.pause !== undefined)
    throw bad('gates.pause', 'the gate before the pause is called switch_traffic: nobody waits for a person then');
  const late = Object.keys(given.hooks).find((at) => INSIDE_HOOKS.test(at));
  if (late !== undefined) throw bad(`hooks.${late}`, 'clients wait there: use before:pause or after:resume');
  given.monitor.health.forEach((condition, i) => checkCondition(condition, `monitor.health[${i}]`, true));
  const twice = given.monitor.health.findIndex(({ name }) => given.health.some((one) => one.name === name));
  if (twice >= 0) throw bad(`monitor.health[${twice}].name`, 'used twice');
  const never = given.allow.findIndex(({ rule }) => NEVER_ALLOWED.includes(rule));
  if (never >= 0) throw bad(`allow[${never}].rule`, 'nobody can answer for this guardrail');
  const routes = given.traffic.flatMap((one) => (one.type === 'router' ? [one.route] : []));
  if (new Set(routes).size < routes.length) throw bad('traffic', 'a route is moved by one adapter');
  if (given.blue === given.green)
    throw new Problem('SameDatabase', 'green: the same connection as blue', { where: { path: 'green' } });
  return { ...given, gates: { ...DEFAULT_GATES, ...given.gates } };
}

/** kind `blue-green`, also the argument of its workflow. @throws Problem InvalidPlan, NotYet, SameDatabase, DependencyCycle. */
export const validateBlueGreen = (json: unknown): BlueGreenPlan => checkPair(json, 'blue-green', blueGreenSchema);

/** After the pause began and before it is over: clients wait there. */
const INSIDE_HOOKS = new RegExp(
  `^(before|after):(switch_traffic|${INSIDE_THE_PAUSE.filter((step) => step !== 'resume').join('|')})$|^after:pause$|^before:resume$`,
);

/** kind `rollback`. @throws Problem InvalidPlan. */
export function validateRollback(json: unknown): RollbackPlan {
  if (!isObject(json)) throw new Problem('InvalidPlan', 'plan: not an object', { where: { path: '' } });
  checkKind(json, 'rollback');
  return parse(rollbackSchema, json, 'rollback');
}

/** kind `validation`, also the argument of its workflow. @throws Problem InvalidPlan, NotYet, with where.path. */
export function validateValidation(json: unknown): ValidationPlan {
  if (!isObject(json)) throw new Problem('InvalidPlan', 'plan: not an object', { where: { path: '' } });
  checkKind(json, 'validation');
  refuseMapKeys(json.map);
  const plan = parse(validationSchema, json, 'validation');
  const twice = plan.checks.find((check, index) => plan.checks.indexOf(check) !== index);
  if (twice !== undefined)
    throw new Problem('InvalidPlan', `checks: ${twice} is there twice`, { where: { path: 'checks' } });
  return plan;
}

/** Keys of the contract's `map` that verification does not know how to compare. */
function refuseMapKeys(map: unknown): void {
  for (const [table, entry] of Object.entries(isObject(map) ? map : {})) {
    if (!isObject(entry)) continue;
    const refuse = (key: string): never => {
      const path = `map.${shownKey(table)}.${key}`;
      throw new Problem('NotYet', `${path}: verification does not know it yet`, { where: { path }, value: key });
    };
    for (const key of NOT_YET_MAP_KEYS) if (entry[key] !== undefined) refuse(key);
    for (const [column, of] of Object.entries(isObject(entry.columns) ? entry.columns : {}))
      if (isObject(of) && of.lookup !== undefined) refuse(`columns.${shownKey(column)}.lookup`);
  }
}

/** The argument of workflow `schemaMigration`: a plan, or a reference to a large one. A worker cannot read the starter's files: no sqlFile. */
export function validateStart(json: unknown): SchemaMigrationPlan | PlanReference {
  if (isObject(json) && json.planRef !== undefined) return reference(json);
  const plan = validatePlan(json);
  if (plan.sqlFile !== undefined)
    throw new Problem('InvalidPlan', 'sqlFile: the worker cannot read your files', {
      where: { path: 'sqlFile' },
      hint: 'put the text under sql, or start it with pgshift start, which does that',
    });
  return plan;
}

function reference(json: Record<string, unknown>): PlanReference {
  checkKind(json, 'schema-migration');
  const { name, database, planRef } = json;
  const bad = (path: string, what: string) => new Problem('InvalidPlan', `${path}: ${what}`, { where: { path } });
  const extra = Object.keys(json).find((k) => !['kind', 'name', 'database', 'planRef'].includes(k));
  if (extra !== undefined) throw bad(shownKey(extra), 'unknown key beside planRef');
  if (typeof name !== 'string' || !MIGRATION_NAME.test(name)) throw bad('name', 'a name is [a-z0-9][a-z0-9_.-]{0,99}');
  if (typeof database !== 'string' || !CONNECTION_NAME.test(database))
    throw bad('database', 'a connection is a name, never a URL (the value is not shown)');
  if (typeof planRef !== 'string' || !/^[a-z0-9_.:/-]{1,200}$/i.test(planRef)) throw bad('planRef', 'not a reference');
  return { kind: 'schema-migration', name, database, planRef };
}

export const isReference = (start: SchemaMigrationPlan | PlanReference): start is PlanReference => 'planRef' in start;
