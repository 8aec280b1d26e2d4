/**
 * Kind `canary` from any JSON, with every default filled in. Keeps true: stages only ever add people; only what this version can move is moved; a condition
 * has one meaning by its name. The same function runs in the CLI and in the workflow.
 */
import { analysesOf, analysisOf, canarySchema, DEFAULT_STAGES, STAGE_NAME } from './canary';
import { READS_CONNECTIONS, withMeaning } from './canaryDefaults';
import type { CanaryPlan } from './canary';
import type { BlueGreenPlan } from './blueGreen';
import { Problem } from './errors';
import type { Condition } from './plan';
import { everyMs, LEAST_PERCENT, LOOKS, weightsFor } from './readsCheck';
import { CANARY_STEPS } from './steps';
import { checkCondition, checkGate, checkPair, isObject, validateBlueGreen } from './validate';
import { parseDuration } from './values';

const bad = (path: string, what: string, hint?: string): Problem =>
  new Problem('InvalidPlan', `${path}: ${what}`, { where: { path }, ...(hint === undefined ? {} : { hint }) });

/** Whole keys are not moved yet: what only they need is not passed over. */
function refuseNotYet({ routing }: Record<string, unknown>): void {
  if (!isObject(routing)) return;
  const not = (path: string, what: string): never => {
    throw new Problem('NotYet', `${path}: ${what}`, {
      where: { path },
      value: path,
      hint: 'say  moves: shadow-reads  or  moves: reads: the writes go over in one switch at the last stage',
    });
  };
  if (routing.moves === 'keys') not('routing.moves', 'keys: moving the writes of single keys is not built yet');
  if (isObject(routing.tables) && Object.keys(routing.tables).length > 0)
    not('routing.tables', 'only the writes of single keys need them, and moving those is not built yet');
}

/** A gate of a stage that does not say what its expiry does goes by `onGateExpiry`. */
function withExpiry(json: Record<string, unknown>): Record<string, unknown> {
  const { onGateExpiry, stages } = json;
  if (onGateExpiry === undefined || !Array.isArray(stages)) return json;
  const one = (gate: unknown): unknown =>
    isObject(gate) && gate.type === 'manual' && gate.onExpiry === undefined
      ? { ...gate, onExpiry: onGateExpiry }
      : gate;
  const of = (stage: unknown): unknown =>
    isObject(stage) && stage.gate !== undefined
      ? { ...stage, gate: Array.isArray(stage.gate) ? stage.gate.map(one) : one(stage.gate) }
      : stage;
  return { ...json, stages: stages.map(of) };
}

/** What looks like a stage's name: gates and windows may name it. */
const namesOf = (json: unknown): string[] =>
  isObject(json) && Array.isArray(json.stages)
    ? json.stages.flatMap((stage) => {
        const name = isObject(stage) ? stage.name : null;
        return typeof name === 'string' && STAGE_NAME.test(name) ? [name] : [];
      })
    : DEFAULT_STAGES.map(({ name }) => name);

/** @throws Problem InvalidPlan, NotYet, SameDatabase, DependencyCycle, with where.path. */
export function validateCanary(json: unknown): CanaryPlan {
  if (isObject(json)) refuseNotYet(json);
  const given = isObject(json) ? { ...withExpiry(json), ...analysesIn(json) } : json;
  const plan = checkPair(given, 'canary', canarySchema, namesOf(json));
  if ((parseDuration(plan.maxReadLag) ?? 0) <= 0) throw bad('maxReadLag', 'longer than 0s');
  checkStages(plan);
  checkAnalyses(plan);
  checkGateways(plan);
  return plan;
}

const analysesIn = (json: Record<string, unknown>): { readonly analyses?: unknown } =>
  json.analyses === undefined ? {} : { analyses: withMeaning(json.analyses) };

/** Who can send some over: the router library tells people apart; a proxy sends a share of reads, whoever asks them; a pooler neither. */
function checkGateways(plan: CanaryPlan): void {
  const { traffic, routing, stages, maxReadLag } = plan;
  const gateways = traffic.flatMap((one, i) =>
    one.type === 'haproxy' && one.reads !== undefined ? [{ reads: one.reads, backend: one.backend, i }] : [],
  );
  for (const { reads, backend, i } of gateways) {
    const path = `traffic[${i}].reads`;
    if (reads.backend === backend)
      throw bad(
        `${path}.backend`,
        'clients write there: a share of it would be writes',
        'give reads their own backend',
      );
    if (gateways.some((other) => other.i < i && other.reads.backend === reads.backend))
      throw bad(
        `${path}.backend`,
        'used twice: several proxies with one backend are one adapter',
        'list them in its admin',
      );
    if (routing.moves !== 'reads') continue;
    if (LOOKS * everyMs(reads) > (parseDuration(maxReadLag) ?? 0))
      throw bad(
        `${path}.check.every`,
        `HAProxy must look ${LOOKS} times within maxReadLag (${maxReadLag})`,
        'say  maxReadLag: 5s  or more, or look more often',
      );
    stages.forEach(({ percent }, n) => {
      if (weightsFor(percent) === null)
        throw bad(`stages[${n}].percent`, `weights of HAProxy (0..256) say ${LEAST_PERCENT} percent at least`);
    });
  }
  if (traffic.some(({ type }) => type === 'router')) return;
  if (gateways.length === 0)
    throw bad(
      'traffic',
      'nobody here can send a few over: PgBouncer has no weights and never asks how old a server is, a command moves everybody',
      'add {type: router, route: NAME} (any share, keys by name), or  reads  to haproxy (a share of reads)',
    );
  if (routing.moves !== 'reads')
    throw bad('routing.moves', 'only the router library asks twice and compares', 'say  moves: reads');
  stages.forEach(({ keys, percent }, n) => {
    if (keys.length > 0)
      throw bad(
        `stages[${n}].keys`,
        'a proxy does not know keys',
        'add {type: router, route: NAME}, or leave them out',
      );
    const own = analysesOf(plan, n).filter(({ name }) => name !== READS_CONNECTIONS);
    if (percent > 0 && ![...own, ...plan.health].some(({ dryRun, onFail }) => !dryRun && onFail !== 'alert'))
      throw bad(
        `stages[${n}].analysis`,
        'nothing judges it: without routers nobody counts errors and latencies',
        'name an analysis: an error rate from Prometheus, SQL on either side, JSON over HTTP',
      );
  });
}

function checkStages({ stages, gates }: CanaryPlan): void {
  const seen = new Set<string>();
  let reached = 0;
  stages.forEach(({ name, percent, gate }, i) => {
    const path = `stages[${i}]`;
    if (seen.has(name)) throw bad(`${path}.name`, 'used twice');
    if ((CANARY_STEPS as readonly string[]).includes(name) || name === 'switch_back')
      throw bad(`${path}.name`, 'a step of the road is called so');
    seen.add(name);
    if (percent < reached) throw bad(`${path}.percent`, 'less than the stage before it: a stage only ever adds people');
    reached = percent;
    const last = i === stages.length - 1;
    if (last && percent !== 100)
      throw bad(
        `${path}.percent`,
        'the last stage is 100: the writes go over there',
        'end with {name: production, percent: 100}',
      );
    if (!last && percent === 100) throw bad(`${path}.percent`, 'only the last stage is 100: the writes go over there');
    if (gate === undefined) return;
    if (gates[name] !== undefined)
      throw bad(`${path}.gate`, `gates.${name} is waited for before the stage, this one after it: name one of them`);
    checkGate(gate, `${path}.gate`, true);
  });
}

/** A name stands for one condition, wherever it is used. */
function checkAnalyses(plan: CanaryPlan): void {
  const { analyses, stages } = plan;
  const known = new Map<string, string>();
  const add = (condition: Condition, path: string): void => {
    checkCondition(condition, path, true);
    if (condition.phases !== undefined) throw bad(`${path}.phases`, 'an analysis holds in its stage');
    if (known.has(condition.name)) throw bad(`${path}.name`, 'used twice', 'put it under analyses and name it there');
    known.set(condition.name, path);
  };
  plan.health.forEach(({ name }, i) => known.set(name, `health[${i}]`));
  plan.monitor.health.forEach(({ name }, i) => known.set(name, `monitor.health[${i}]`));
  for (const [name, one] of Object.entries(analyses)) {
    if (one.name !== undefined && one.name !== name)
      throw bad(`analyses.${name}.name`, 'is not the name it stands under', 'leave it out');
    add({ ...one, name }, `analyses.${name}`);
  }
  stages.forEach((stage, i) =>
    stage.analysis.forEach((one, n) => {
      const path = `stages[${i}].analysis[${n}]`;
      if (typeof one !== 'string') return add(one, path);
      if (analysisOf(plan, one) === null)
        throw bad(path, 'no such analysis', `analyses: ${Object.keys(analyses).join(', ') || 'there are none'}`);
      if (stage.analysis.indexOf(one) !== n) throw bad(path, 'is there twice');
    }),
  );
}

export type AnyPairPlan = BlueGreenPlan | CanaryPlan;

/** Of either kind, as it says itself; a bare start of `blueGreen` may leave its kind out. */
export const validatePair = (json: unknown): AnyPairPlan =>
  isObject(json) && json.kind === 'canary' ? validateCanary(json) : validateBlueGreen(json);
