/**
 * Who decided what, into pgshift.audit: beside the phases, so that a decision does not wait for its record; drained before the run ends or
 * continues as new. Nothing is written before the name is claimed: a run that is refused leaves nothing.
 */
import { condition } from '@temporalio/workflow';
import { failed } from './failure';
import type { Run } from './run';

/** Where the record lies; a blue that was dropped has none any more. */
const claimed = (run: Run): boolean =>
  run.state.marks.includes('prepared') &&
  run.state.control?.mode !== 'dry-run' &&
  !run.state.marks.includes('blue:gone');

async function writeAll(run: Run): Promise<void> {
  const s = run.state;
  while (s.inbox.audit.length > 0) {
    const audit = s.inbox.audit.slice(0, 50);
    try {
      await run.ask('record', { database: s.database, migration: s.name, audit }, `record ${audit.length} decisions`);
    } catch (error) {
      // Retried for ever unless Postgres refuses it for good: then the history of this run has it, and the change is not held up.
      run.state.measured['auditNotWritten'] = failed(error).code;
    }
    s.inbox = { ...s.inbox, audit: s.inbox.audit.slice(audit.length) };
  }
}

/** Runs until the run is settled or continues as new. */
export async function recordDecisions(run: Run): Promise<void> {
  for (;;) {
    const due = () => claimed(run) && run.state.inbox.audit.length > 0;
    await condition(() => due() || run.settled || run.draining);
    if (due()) await writeAll(run);
    else return;
  }
}

/** What is left when everything else is over. */
export async function drainDecisions(run: Run): Promise<void> {
  if (claimed(run)) await writeAll(run);
}
