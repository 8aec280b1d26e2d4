/**
 * The way back of a migration as a psql script, from its stored plan: for the day on which Temporal, or all of pgshift, is gone. Keeps true: steps go back
 * last first; each part is idempotent and right when its step never happened, so the script may be run again from the top; every
 * lock has a timeout; an attempt that still runs somewhere commits nothing more (its epoch is over before anything else happens).
 */
import { ident, literal, relation } from '../model/quote';
import type { ProofRun, SchemaPlan, Step, StepRun, TransactionRun } from '../model/steps';

export interface ScriptInput {
  readonly plan: SchemaPlan;
  /** Ids of the steps that may have left something; null = all of the plan. */
  readonly begun: readonly string[] | null;
  /** Where unqualified names of the user's own SQL are looked up. */
  readonly searchPath?: readonly string[];
}

/** A script is run by a person who looks on: longer than the engine's own rungs, and tried again by hand. */
const LOCK_TIMEOUT = '2s';

const settings = (given: Readonly<Record<string, string>> = {}): string[] =>
  Object.entries(given).map(([name, value]) => `SET LOCAL ${ident(name)} = ${literal(value).trim()};`);

const inTransaction = (lines: readonly string[]): string[] => [
  'BEGIN;',
  `SET LOCAL lock_timeout = '${LOCK_TIMEOUT}';`,
  ...lines,
  'COMMIT;',
];

const terminated = (statement: string): string => (/;\s*$/.test(statement) ? statement : `${statement};`);

const transaction = (run: TransactionRun): string[] =>
  inTransaction([
    ...settings(run.settings),
    ...run.lockFirst.map(
      (lock, i) => `LOCK TABLE ${relation(lock.relation)} IN ${lock.mode} MODE${i === 0 ? '' : ' NOWAIT'};`,
    ),
    ...run.statements.map(terminated),
  ]);

/** Every character of a comment on lines of its own. */
const comment = (text: string): string[] => text.split('\n').map((line) => `-- ${line}`);

/** A part that has nothing to do where its step never happened, or is taken back already. */
const only = (condition: string | undefined, part: readonly string[]): string[] =>
  condition === undefined
    ? [...part]
    : [`SELECT (${condition}) AS pgshift_due \\gset`, '\\if :pgshift_due', ...part, '\\endif'];

const stop = (message: string): string =>
  `DO ${literal(`BEGIN RAISE EXCEPTION ${literal(message).trim()}; END`).trim()};`;

/** Rows that cannot go back stop the script; `report` ones only until a person says that they may be lost. */
function proof(run: ProofRun): string[] {
  return run.checks.flatMap((check) => {
    const message = `rows of ${check.column} cannot go back as they are`;
    const refusal = stop(
      `${message}; look at them first${run.onDiffer === 'report' ? ', then run with --set accept_loss=1' : ''}`,
    );
    return [
      'BEGIN;',
      ...settings(run.settings),
      `SELECT count(*) AS pgshift_rows, count(*) > 0 AS pgshift_differ FROM ${relation(run.table)} AS t WHERE (${check.remaining}) OR (${check.differing}) \\gset`,
      'COMMIT;',
      '\\if :pgshift_differ',
      `\\warn :pgshift_rows ${literal(message).trim()}`,
      ...(run.onDiffer === 'report' ? ['\\if :{?accept_loss}', '\\else', refusal, '\\endif'] : [refusal]),
      '\\endif',
    ];
  });
}

/** Steps that a living worker might still run are closed to it; steps that were begun are marked as going back. */
const fence = (plan: SchemaPlan, name: string): string[] =>
  plan.steps.length === 0
    ? []
    : [
        'INSERT INTO pgshift.steps (migration_name, step_id, phase, status, epoch) VALUES',
        plan.steps
          .map((step) => `  (${name}, ${literal(step.id).trim()}, ${literal(step.phase).trim()}, 'undoing', 1)`)
          .join(',\n'),
        "  ON CONFLICT (migration_name, step_id) DO UPDATE SET status = 'undoing', epoch = steps.epoch + 1;",
        `UPDATE pgshift.lanes SET epoch = epoch + 1 WHERE migration_name = ${name};`,
      ];

function lines(run: StepRun): string[] {
  switch (run.kind) {
    case 'transaction':
      return transaction(run);
    case 'create-index':
      return only(run.onlyWhen, [
        `DROP INDEX CONCURRENTLY IF EXISTS ${relation(run.index)};`,
        terminated(run.statement),
      ]);
    case 'drop-index':
      return [`DROP INDEX CONCURRENTLY IF EXISTS ${relation(run.index)};`];
    case 'autocommit':
      return [terminated(run.statement)];
    case 'backfill':
      return only(
        run.onlyWhen,
        inTransaction([
          ...settings({ ...run.settings, ...(run.quiet ? { session_replication_role: 'replica' } : {}) }),
          `UPDATE ${relation(run.table)} AS t SET ${run.set.join(', ')} WHERE ${run.pending};`,
        ]),
      );
    case 'dml':
    case 'insert-select':
      return inTransaction([...settings(run.settings), terminated(run.statement.replaceAll('$RANGE', 'true'))]);
    case 'proof':
      return only(run.onlyWhen, proof(run));
    case 'duplicates':
    case 'archive':
      return [];
  }
}

function stepLines(step: Step): string[] {
  const head = ['', ...comment(`${step.id} ${step.title}`)];
  if (step.undo.length > 0) return [...head, ...step.undo.flatMap(lines)];
  return step.wayBack === null && step.because !== null ? [...head, ...comment(`no way back: ${step.because}`)] : [];
}

/** The whole script; it ends by marking the migration as rolled back. */
export function rollbackScript({ plan, begun, searchPath = ['public'] }: ScriptInput): string {
  const steps = plan.steps.filter((step) => begun === null || begun.includes(step.id)).reverse();
  const name = literal(plan.name).trim();
  const lost = steps.filter((step) => step.wayBack !== null && !step.wayBack.lossless && step.undo.length > 0);
  return [
    ...comment(`The way back of ${plan.name} on ${plan.database}, written by pgshift.`),
    ...comment(`Run it with:  psql --no-psqlrc --file THIS_FILE "$URL"`),
    ...comment(
      'It may be run again from the top: what is taken back already is left alone. It stops at the first error.',
    ),
    ...lost.flatMap((step) => comment(`DATA IS LOST: ${step.id} ${step.title}`)),
    '\\set ON_ERROR_STOP on',
    `SET search_path = ${searchPath.map(ident).join(', ')};`,
    `SET lock_timeout = '${LOCK_TIMEOUT}';`,
    'SET client_min_messages = warning;',
    '',
    ...comment('An attempt that still runs somewhere commits nothing from here on.'),
    ...inTransaction(fence(plan, name)),
    ...steps.flatMap(stepLines),
    '',
    ...inTransaction([
      `UPDATE pgshift.steps SET status = 'undone', finished_at = clock_timestamp() WHERE migration_name = ${name};`,
      `UPDATE pgshift.migrations SET status = 'rolled_back', updated_at = now() WHERE name = ${name};`,
      `INSERT INTO pgshift.migration_log (migration_name, level, message) VALUES (${name}, 'info', 'taken back by script');`,
    ]),
    '',
  ].join('\n');
}
