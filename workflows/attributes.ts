/** Search attributes of a run: written on a change of phase or status only, each upsert being an event of the history. */
import { defineSearchAttributeKey } from '@temporalio/common';
import type { SearchAttributeUpdatePair } from '@temporalio/common';
import type { RunState } from '../plan/model/state';
import { shownPhase } from '../plan/model/view';

export function attributesOf(s: RunState, needsApproval: boolean): ReadonlyMap<string, string | boolean> {
  return new Map<string, string | boolean>([
    ['MigrationName', s.name],
    ['MigrationDatabase', s.database],
    ['MigrationKind', s.kind],
    ['MigrationPhase', shownPhase(s)],
    ['MigrationStatus', s.status],
    ['MigrationEnvironment', s.environment],
    ...(s.facts ? [['MigrationRisk', s.facts.risk] as const] : []),
    ['NeedsApproval', needsApproval],
  ]);
}

export function changedAttributes(
  before: ReadonlyMap<string, string | boolean>,
  after: ReadonlyMap<string, string | boolean>,
): SearchAttributeUpdatePair[] {
  return [...after]
    .filter(([name, value]) => before.get(name) !== value)
    .map(([name, value]) =>
      typeof value === 'boolean'
        ? { key: defineSearchAttributeKey(name, 'BOOL'), value }
        : { key: defineSearchAttributeKey(name, 'KEYWORD'), value },
    );
}
