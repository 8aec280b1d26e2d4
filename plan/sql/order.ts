/**
 * Steps run by phase, not in the order in which their statements were written: what adds comes first, rows are changed in batches, what takes
 * away or changes a shape comes last. Keeps true: where that order would give another end than the written one, the plan is refused and says
 * which two statements belong into two migrations.
 */
import { PHASES } from '../model/steps';
import { shownRelation } from '../model/quote';
import { factsOf } from './facts';
import { Overlay } from './overlay';
import { sameName } from './ast';
import type { RelationName } from '../model/steps';
import type { PlanBuilder, Retype } from './context';
import type { Facts, ShapeChange } from './facts';
import type { Statement } from './parse';

type Draft = PlanBuilder['drafts'][number];

interface Timed {
  readonly facts: Facts;
  readonly statement: Statement;
  /** Ranks of the phases in which the statement's own effect begins and ends. */
  readonly first: number;
  readonly last: number;
  /** Tables whose rows its steps write, by the phase that does it. */
  readonly writes: readonly { readonly table: RelationName; readonly rank: number }[];
}

const rank = (phase: Draft['phase']): number => PHASES.indexOf(phase);
const BACKFILL = rank('backfill');
const CONTRACT = rank('contract');

const written = (draft: Draft): RelationName[] => {
  const { run } = draft;
  if (run.kind === 'backfill' || run.kind === 'dml') return [run.table];
  return run.kind === 'insert-select' ? [run.target] : [];
};

function timed(builder: PlanBuilder, statement: Statement, retypes: readonly Retype[]): Timed {
  const facts = factsOf(statement.ast, new Overlay(builder.overlay.base, builder.overlay.searchPath), retypes);
  const drafts = builder.drafts.filter((d) => d.of === statement && d.phase !== 'cleanup');
  const own = drafts.filter((d) => !d.own).map((d) => rank(d.phase));
  return {
    facts,
    statement,
    first: Math.min(...own),
    last: Math.max(...own),
    writes: [
      ...drafts
        .filter((d) => d.phase === 'backfill')
        .flatMap((d) => written(d).map((table) => ({ table, rank: BACKFILL }))),
      ...(facts.target && facts.movesRows && own.includes(BACKFILL) ? [{ table: facts.target, rank: BACKFILL }] : []),
    ],
  };
}

/** Adds a refusal for each statement that would run on the wrong side of an earlier one. Call it when every step is known. */
export function refuseWrongOrder(
  builder: PlanBuilder,
  statements: readonly Statement[],
  retypes: readonly Retype[],
): void {
  const all = statements.map((statement) => timed(builder, statement, retypes));
  for (const [j, later] of all.entries())
    for (const earlier of all.slice(0, j)) {
      const why = conflict(builder, earlier, later);
      if (why === null) continue;
      builder.context(later.statement).refuse({
        rule: 'separate_migration',
        message: `statement ${later.statement.number} would not see what statement ${earlier.statement.number} does, or would be seen by it: ${why}`,
        alternative: `put statement ${later.statement.number} into a migration that depends on this one`,
        relation: later.facts.target ? shownRelation(later.facts.target) : null,
      });
      break;
    }
}

function conflict(builder: PlanBuilder, earlier: Timed, later: Timed): string | null {
  return (
    swapsComeLast(earlier.facts, later.facts) ??
    shapeComesLater(builder, earlier, later) ??
    rulesChangeFirst(builder, earlier, later) ??
    rulesChangeLater(earlier, later) ??
    readsTooEarly(builder, earlier, later)
  );
}

/** Views of the snapshot that are made of a column, of any depth, count as the column's table. */
function speaksOf(builder: PlanBuilder, facts: Facts, change: ShapeChange): boolean {
  const named = change.columns === null || change.columns.some((c) => facts.names.has(c));
  if (facts.tables.some((t) => sameName(t, change.table)))
    return named || facts.shapeOf.some((t) => sameName(t, change.table));
  const table = builder.overlay.base.tables.find((t) => sameName(t, change.table));
  return (table?.dependents ?? []).some(
    (d) =>
      (d.type === 'view' || d.type === 'matview') &&
      (change.columns === null || d.columns.length === 0 || d.columns.some((c) => change.columns?.includes(c))) &&
      facts.tables.some((t) => shownRelation(t) === d.name || t.name === d.name),
  );
}

/** Columns with another type are swapped in when all else in contract is done, by the names that they and their table had. */
function swapsComeLast(earlier: Facts, later: Facts): string | null {
  for (const a of earlier.shape)
    for (const b of later.shape) {
      if (!sameName(a.table, b.table)) continue;
      const kinds = [a.kind, b.kind];
      const twice = a.kind === 'type' && b.kind === 'type' && a.columns?.some((c) => b.columns?.includes(c));
      if (twice || (kinds.includes('type') && kinds.includes('name')))
        return `${a.what} and ${b.what} do not go together`;
    }
  return null;
}

/** A name or type that is there only after contract. */
function shapeComesLater(builder: PlanBuilder, earlier: Timed, later: Timed): string | null {
  if (!later.facts.usesShape || later.first >= CONTRACT) return null;
  const change = earlier.facts.shape.find((s) => earlier.last >= CONTRACT && speaksOf(builder, later.facts, s));
  return change ? `${change.what} is done in contract` : null;
}

/** What decides how rows are written changes in expand, before the rows of the earlier statement are written. */
function rulesChangeFirst(builder: PlanBuilder, earlier: Timed, later: Timed): string | null {
  if (!earlier.facts.movesRows || earlier.last < BACKFILL || later.first >= BACKFILL) return null;
  const { facts } = earlier;
  const { target } = facts;
  for (const rule of later.facts.rules) {
    if (rule.kind === 'function') {
      const trigger = builder.overlay.base.tables
        .find((t) => target !== null && sameName(t, target))
        ?.triggers.some((t) => t.definition.includes(`${rule.name}(`));
      if (facts.functions.has(rule.name) || trigger)
        return `function ${rule.name} is replaced in expand, rows are written after it`;
      continue;
    }
    const touches = target !== null && sameName(target, rule.table);
    if (rule.kind === 'trigger' && touches)
      return `triggers and rules of ${shownRelation(rule.table)} change in expand, its rows are written after it`;
    if (rule.kind === 'default' && touches && facts.takesDefault(rule.name))
      return `the default of ${shownRelation(rule.table)}.${rule.name} changes in expand, rows are inserted after it`;
    if (rule.kind === 'column' && facts.star && facts.tables.some((t) => sameName(t, rule.table)))
      return `${shownRelation(rule.table)} gets a column in expand, which * stands for too`;
  }
  return null;
}

/** What decides how rows are written goes in contract, after the rows of the later statement are written. */
function rulesChangeLater(earlier: Timed, later: Timed): string | null {
  if (earlier.last < CONTRACT || !later.facts.movesRows || later.first >= CONTRACT) return null;
  const { target } = later.facts;
  const rule = earlier.facts.gone.find((name) => target !== null && sameName(name, target));
  return rule
    ? `what statement ${earlier.statement.number} drops from ${shownRelation(rule)} is there until contract`
    : null;
}

/** A table or materialized view is filled in expand, rows that it reads are written in the backfill. */
function readsTooEarly(builder: PlanBuilder, earlier: Timed, later: Timed): string | null {
  if (!later.facts.movesRows || later.first >= BACKFILL) return null;
  const found = earlier.writes.find(
    ({ table }) =>
      later.facts.tables.some((t) => sameName(t, table)) ||
      speaksOf(builder, later.facts, { table, columns: null, kind: 'name', what: '' }),
  );
  return found ? `it is filled in expand, and rows of ${shownRelation(found.table)} are written after that` : null;
}
