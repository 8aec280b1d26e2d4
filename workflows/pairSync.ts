/** Green is made and filled: blue's schema, then the rows of a slot's own snapshot, then everything that the slot has kept since. */
import { Back, causeOf } from './failure';
import { copyState, copyTables, openSnapshot, withSnapshot } from './dataCopy';
import { pairArgs, pairState, seenOf, syncArgs, timed } from './pairRun';
import { work } from './pairProof';
import type { Run } from './run';

export async function createGreen(run: Run): Promise<void> {
  await timed(
    run,
    'create_green',
    async () => {
      await work(run, 'create_green', async () => {
        await run.ask('noteSchemas', pairArgs(run), 'what both databases are like now');
        await openSnapshot(run, null);
      });
      return work(run, 'create_green', () =>
        withSnapshot(run, async () => {
          await run.ask('makeSchema', syncArgs(run, 0), 'make the schema of blue on green, without indexes');
          await run.ask('closeSnapshot', syncArgs(run, 0), 'let the snapshot go');
          return run.ask('wallGreen', pairArgs(run), 'fence green');
        }),
      );
    },
    seenOf,
  );
  pairState(run).schemaEpoch = copyState(run).epoch;
}

/** A slot and its snapshot; with a new slot everything is copied again. */
async function openSlot(run: Run, why: string | null): Promise<void> {
  const c = copyState(run);
  if (why !== null) c.lost.push(`epoch ${c.epoch}: ${why}`);
  const opened = await run.ask(
    'openSync',
    syncArgs(run, pairState(run).schemaEpoch),
    'publication, slot and its snapshot',
  );
  c.epoch = opened.epoch;
  c.tables = opened.tables;
  c.bytes = opened.bytes;
  c.queue = [...opened.pieces];
  c.quarantined = [];
  if (why !== null) Object.assign(c, { copied: 0, rows: 0, bytesDone: 0 });
  if (c.lost.length > 0) run.state.measured['snapshotsLost'] = c.lost.slice(-10);
  run.show();
}

export async function sync(run: Run): Promise<void> {
  const s = run.state;
  const c = copyState(run);
  if (!s.marks.includes('sync:slot')) {
    await work(run, 'sync', () => openSlot(run, null));
    s.marks.push('sync:slot');
  }
  await timed(
    run,
    'sync',
    async () => {
      await copyTables(run, openSlot);
      if (c.quarantined.some(({ skipped }) => skipped))
        throw new Back(causeOf('Rejected', 'a table was left out of the copy: a switch takes every table'));
      // Rows are all there and their slot keeps what came since: here a new snapshot will do, and a new slot would leave out what lies between.
      await work(run, 'sync', () =>
        withSnapshot(run, () => run.ask('buildRest', syncArgs(run, 0), 'foreign keys, triggers, positions, views')),
      );
      await work(run, 'sync', () => run.ask('closeSnapshot', syncArgs(run, 0), 'let the snapshot go'));
      return work(run, 'sync', () =>
        run.ask('subscribe', pairArgs(run), 'subscribe from the slot, until the lag is small'),
      );
    },
    (lag) => ({ ...seenOf(lag), tables: c.tables, rows: c.rows, bytes: c.bytesDone, epochs: c.epoch }),
  );
  pairState(run).direction = 'forward';
  s.measured['copy'] = { tables: c.tables, rows: c.rows, bytes: c.bytesDone };
}
