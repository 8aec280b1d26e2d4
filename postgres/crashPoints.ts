/**
 * Crash points: places where the process may die, each with what is left and who mends it. The kill tests walk this list, and
 * ARCHITECTURE.md's table is checked against it. `PGSHIFT_CRASH_AT=name[@step][:n]` kills this process with SIGKILL at the
 * n-th pass (default 1), of that step alone when one is named (as `transaction.before-commit@contract.1`); `PGSHIFT_CRASH_MARK=FILE` makes the kill happen once over all restarts (the file is made just before).
 */
import { existsSync, writeFileSync } from 'node:fs';

export const CRASH_POINTS = {
  'claim.before': 'nothing written; the activity runs again',
  'claim.after': 'name claimed; the same workflow finds its own claim',
  'step.begin.after': 'epoch bumped, nothing done; the next attempt bumps again',
  'transaction.before-commit': 'Postgres rolls the transaction back; the ladder runs again',
  'transaction.after-commit': 'the record committed with the change; the next attempt finds it done',
  'index.before': 'no index; built by the next attempt',
  'index.building': 'an invalid index is left; the next attempt drops it concurrently and builds again',
  'index.built': 'a valid index and no record; the next attempt looks at it and records it',
  'batch.before-commit': 'the batch rolls back; done again by the next attempt',
  'batch.after-commit': 'batch and checkpoint are committed; the next attempt goes on behind it',
  'proof.range': 'ranges done so far are recorded; proof goes on, or starts again, reading only',
  'undo.before': 'nothing undone; the next attempt undoes',
  'undo.after': 'undone and recorded; the next attempt finds it so',
  'finish.before': 'everything done but the final status; written by the next attempt',
  'wayback.published': 'a publication that nobody reads; found and kept by the next attempt, or dropped',
  'wayback.slot': 'a slot that nobody consumes yet; found and kept by the next attempt, or dropped',
  'direction.unsubscribed': 'slot and publication are left on the other end; dropped by the next attempt',
  'switch.armed': 'one row knows of the attempt, the side still takes writes; a new attempt takes a higher epoch',
  'wayback.ready': 'both sides are fenced, the way back is on, nothing is lifted; gone on with, or taken back',
  'lift.before': 'everything is ready, both sides are fenced; gone on with, or taken back',
  'lift.after': 'the other side takes writes: the point of no return; the next attempt finds it lifted and goes on',
  'fence.revoked':
    'CONNECT is taken and recorded, the wall is not up; the side still takes writes; gone on with, or given back',
  'fence.walled':
    'the side is fenced, its position is not known; asked for again, or the wall is opened and taken down',
  'unfence.disarmed':
    'nobody can lift the other side any more, both are fenced; the side is opened by the next attempt',
  'unfence.opened': 'the side takes writes; CONNECT and triggers are put back by the next attempt',
  'unfence.granted': 'the side is as before but for triggers that let everything through; dropped by the next attempt',
} as const;

export type CrashPoint = keyof typeof CRASH_POINTS;

const asked = /^([a-z.-]+?)(?:@([^:]+))?(?::(\d+))?$/.exec(process.env.PGSHIFT_CRASH_AT ?? '');
let passes = 0;

/** `step` is the id of the step that passes here, when there is one. */
export function crashPoint(name: CrashPoint, step?: string): void {
  if (asked?.[1] !== name) return;
  if (asked[2] !== undefined && asked[2] !== step) return;
  passes += 1;
  if (passes < Number(asked[3] ?? 1)) return;
  const mark = process.env.PGSHIFT_CRASH_MARK;
  if (mark) {
    if (existsSync(mark)) return;
    writeFileSync(mark, name);
  }
  process.kill(process.pid, 'SIGKILL');
}
