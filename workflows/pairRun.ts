/** What the files of workflow `blueGreen` share: its state, arguments of its activities, and the record of what was done. */
import type { OpenSyncArgs, PairArgs } from '../activities/types';
import type { PairState, PartDone } from '../plan/model/pairState';
import type { BlueGreenPhase } from '../plan/model/steps';
import { copyArgs } from './dataCopy';
import { backup } from './phases';
import type { Run } from './run';
import { nowIso } from './run';

export function pairState(run: Run): PairState {
  if (!run.state.pair) throw new Error('a blue-green without its pair');
  return run.state.pair;
}

export function pairArgs(run: Run): PairArgs {
  const { throttle, lockTimeout, lockBudget, searchPath } = run.options();
  return {
    database: run.state.database,
    migration: run.state.name,
    pair: pairState(run).control,
    options: { throttle, lockTimeout, lockBudget, searchPath },
  };
}

/** Also what the copy engine is told. */
export const syncArgs = (run: Run, schemaEpoch: number): OpenSyncArgs => ({
  ...copyArgs(run),
  ...pairArgs(run),
  schemaEpoch,
});

const PARTS_MAX = 200;

/** Shown in the report at once, kept in blue's record (a record that cannot be written holds nothing up after the switch). */
export async function keepParts(run: Run, done: readonly PartDone[]): Promise<void> {
  if (done.length === 0) return;
  const s = run.state;
  const pair = pairState(run);
  const parts = [...(pair.unrecorded ?? []), ...done];
  delete pair.unrecorded;
  const reports = parts.map(({ id, status, startedAt, endedAt, attempts, evidence }) => ({
    ...{ id, status, startedAt, endedAt, attempts, rows: Number(evidence['rows'] ?? 0), locks: [], evidence },
  }));
  const ids = new Set(reports.map(({ id }) => id));
  s.steps = [...s.steps.filter(({ id }) => !ids.has(id)), ...reports].slice(-PARTS_MAX);
  await run.ask(
    'recordParts',
    { ...pairArgs(run), parts },
    `record ${parts.length === 1 ? (parts[0]?.id ?? '') : `${parts.length} steps`}`,
  );
}

/** As every run makes it. Its record goes with that of the next step: a run that began before it had one is replayed as it was. */
export async function backUpBlue(run: Run): Promise<void> {
  const s = run.state;
  const startedAt = nowIso();
  if (s.marks.includes('backup')) return;
  await backup(run);
  const evidence = seenOf(s.measured['backup']);
  if (s.measured['backup'] === undefined) return;
  const done = { id: 'backup_blue', phase: 'backup_blue', status: 'done', startedAt, endedAt: nowIso() } as const;
  pairState(run).unrecorded = [{ ...done, attempts: 1, evidence }];
}

/** The time of one step of the road, with what was seen. */
export async function timed<T>(
  run: Run,
  phase: BlueGreenPhase,
  work: () => Promise<T>,
  evidence: (result: T) => Readonly<Record<string, unknown>> = () => ({}),
): Promise<T> {
  const startedAt = nowIso();
  const result = await work();
  const seen = evidence(result);
  pairState(run).evidence[phase] = seen;
  await keepParts(run, [
    { id: phase, phase, status: 'done', startedAt, endedAt: nowIso(), attempts: 1, evidence: seen },
  ]);
  return result;
}

/** A value, or nothing where a window closed (none does here) or a person left it out. */
export const seenOf = (seen: unknown): Readonly<Record<string, unknown>> =>
  typeof seen === 'object' && seen !== null ? { ...(seen as Record<string, unknown>) } : {};
