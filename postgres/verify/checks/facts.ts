/**
 * What both sides say about the same table, laid side by side: facts are pairs of a name and a definition in Postgres' own words. Tables whose shape the
 * plan changes are left out: there is nothing to compare them with.
 */
import type { CheckName, VerifyFinding } from '../../../plan/model/validation';
import type { Pair } from '../pairs';
import type { Phase } from '../prepared';
import { onBoth } from '../tally';

export interface Fact extends Record<string, unknown> {
  readonly rel: string;
  /** For people and as identity: `column note`, `index (note)`. */
  readonly what: string;
  readonly definition: string;
}

export type FactsByTable = ReadonlyMap<string, ReadonlyMap<string, string>>;

function grouped(facts: readonly Fact[]): FactsByTable {
  const tables = new Map<string, Map<string, string>>();
  for (const { rel, what, definition } of facts) {
    const table = tables.get(rel) ?? new Map<string, string>();
    // The same index twice counts twice.
    const name = table.has(what) ? `${what} (again)` : what;
    table.set(name, definition);
    tables.set(rel, table);
  }
  return tables;
}

export interface Sides {
  readonly source: FactsByTable;
  readonly target: FactsByTable;
}

/** `sql` answers rel (oid as text), what, definition; it may depend on the version. */
export const readFacts = async ({ sessions }: Phase, sql: (version: number) => string): Promise<Sides> =>
  onBoth(async (side) => grouped(await sessions[side].rows<Fact>(sql(sessions[side].serverVersion))));

export const unmapped = ({ pairs }: Phase): readonly Pair[] => pairs.filter((pair) => !pair.mapped);

export interface Wording {
  readonly check: CheckName;
  /** What only the target has is a warning, or as bad as what it lacks. */
  readonly extra: 'error' | 'warning';
}

export interface Findings {
  readonly errors: VerifyFinding[];
  readonly warnings: VerifyFinding[];
}

export const nothing = (): Findings => ({ errors: [], warnings: [] });

/** Differences of the facts of every pair. */
export function compareFacts(pairs: readonly Pair[], facts: Sides, { check, extra }: Wording): Findings {
  const found = nothing();
  const none: ReadonlyMap<string, string> = new Map();
  for (const pair of pairs) {
    const here = facts.source.get(pair.source.oid) ?? none;
    const there = facts.target.get(pair.target.oid) ?? none;
    const say = (list: VerifyFinding[], message: string): void => void list.push({ check, table: pair.label, message });
    for (const [what, definition] of here) {
      const other = there.get(what);
      if (other === undefined) say(found.errors, `${what} is missing on the target`);
      else if (other !== definition)
        say(found.errors, `${what} is ${other} on the target, ${definition} on the source`);
    }
    for (const what of there.keys())
      if (!here.has(what)) say(extra === 'error' ? found.errors : found.warnings, `${what} is on the target only`);
  }
  return found;
}
