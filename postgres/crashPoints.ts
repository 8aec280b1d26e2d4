/**
 * Crash points: places where the process may die, each with what is left and who mends it. The kill tests walk this list, and
 * ARCHITECTURE.md's table is checked against it. `PGSHIFT_CRASH_AT=name[@step][:n]` kills this process with SIGKILL at the
 * n-th pass (default 1), of that step alone when one is named (as `transaction.before-commit@contract.1`); `PGSHIFT_CRASH_MARK=FILE` makes the
 * kill happen once over all restarts (the file is made just before). Several, joined by commas, each have their own mark (FILE, FILE.1, ...);
 * one that ends with `!stop` freezes the process there instead (SIGSTOP): what dies at that instant is then a server, and SIGCONT goes on.
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
  'epoch.before': 'no snapshot, or one that nobody uses; the next attempt opens its own and the old holder ends',
  'epoch.after': 'the snapshot is held by its own process; the next attempt finds it alive',
  'load.disabled': 'triggers, constraints or indexes are off and recorded; put back after the load, or by the way back',
  'range.before-commit': 'the rows of the range roll back with its checkpoint; copied again by the next attempt',
  'range.after-commit': 'rows and checkpoint are committed; the next attempt goes on with the other ranges',
  'stream.published': 'a publication that nobody reads; found and kept by the next attempt, or dropped',
  'stream.slot': 'a slot whose snapshot is lost; dropped and made again by the next attempt',
  'stream.before-commit':
    'changes and position roll back together; they are read and applied again by the next attempt',
  'stream.after-commit':
    'changes and position are committed, the slot does not know; the next attempt begins at the position',
  'stream.piece': 'a part of a large transaction rolls back; the whole of it comes again',
  'stream.unslotted': 'the slot is gone, its publication is left; dropped by the next attempt',
  'increment.before-commit': 'the slice rolls back with its bound; read again by the next attempt',
  'increment.after-commit': 'rows and bound are committed; the next attempt goes on behind them',
  'item.before-commit': 'the object rolls back with its record; made again by the next attempt',
  'item.after-commit': 'the object and its record are committed; the next attempt passes over it',
  'proof.range': 'ranges done so far are recorded; proof goes on, or starts again, reading only',
  'verify.range': 'the range, its counts and the keys that differ are committed; verification goes on behind it',
  'undo.before': 'nothing undone; the next attempt undoes',
  'undo.after': 'undone and recorded; the next attempt finds it so',
  'finish.before': 'everything done but the final status; written by the next attempt',
  'wayback.published': 'a publication that nobody reads; found and kept by the next attempt, or dropped',
  'wayback.slot': 'a slot that nobody consumes yet; found and kept by the next attempt, or dropped',
  'direction.unsubscribed': 'slot and publication are left on the other end; dropped by the next attempt',
  'share.before': 'people are where the last finished stage had them; told by the next attempt',
  'share.after': 'routers know the new share, the run does not know that they do; told the same again',
  'sync.slot': 'a slot whose snapshot nobody holds; the next attempt drops it and makes its own',
  'switch.armed': 'one row knows of the attempt, the side still takes writes; a new attempt takes a higher epoch',
  'pause.done': 'clients wait, nothing is fenced; the pause is taken back, or ends by itself',
  'catchup.reached': 'the other side has the position, forward replication is on; gone on with, or taken back',
  'sequences.set': 'sequences of the other side are ahead, nothing is lifted; gone on with, or taken back',
  'wayback.ready': 'both sides are fenced, the way back is on, nothing is lifted; gone on with, or taken back',
  'lift.before': 'everything is ready, both sides are fenced; gone on with, or taken back',
  'lift.after': 'the other side takes writes: the point of no return; the next attempt finds it lifted and goes on',
  'flip.before':
    'the other side takes writes, clients wait and lead to the old one; pointed and let go by the next attempt',
  'flip.after': 'clients lead to the other side and wait; let go by the next attempt',
  'resume.after': 'clients work on the other side; walls and the old direction are taken down by the next attempt',
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

interface Asked {
  readonly point: string;
  readonly step: string | undefined;
  readonly pass: number;
  readonly how: 'SIGKILL' | 'SIGSTOP';
  readonly mark: string | null;
  passes: number;
}

function asks(): Asked[] {
  const mark = process.env.PGSHIFT_CRASH_MARK;
  return (process.env.PGSHIFT_CRASH_AT ?? '').split(',').flatMap((text, index) => {
    const found = /^([a-z.-]+?)(?:@([^:!]+))?(?::(\d+))?(!stop)?$/.exec(text);
    if (!found?.[1]) return [];
    return {
      point: found[1],
      step: found[2],
      pass: Number(found[3] ?? 1),
      how: found[4] ? 'SIGSTOP' : 'SIGKILL',
      mark: mark ? `${mark}${index === 0 ? '' : `.${index}`}` : null,
      passes: 0,
    };
  });
}

const asked = asks();

/** `step` is the id of the step that passes here, when there is one. */
export function crashPoint(name: CrashPoint, step?: string): void {
  for (const one of asked) {
    if (one.point !== name || (one.step !== undefined && one.step !== step)) continue;
    one.passes += 1;
    if (one.passes < one.pass) continue;
    if (one.mark !== null) {
      if (existsSync(one.mark)) continue;
      writeFileSync(one.mark, name);
    }
    process.kill(process.pid, one.how);
  }
}
