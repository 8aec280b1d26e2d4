/** The stream that belongs to a copy: same source, same target, the plan's own numbers. */
import { bufferBytes, flushMs } from '../../plan/model/dataModes';
import { Problem } from '../../plan/model/errors';
import type { CopyContext } from '../copy/context';
import { capturedMap } from '../map/onward';
import { mapOfTable } from '../map/store';
import { specOf } from '../map/table';
import { streamNames } from './names';
import type { StreamJob } from './types';

/** Throws Bug for a copy that follows nothing. */
export function jobOf(context: CopyContext): StreamJob {
  const { streaming } = context.control;
  if (!streaming) throw new Problem('Bug', 'this copy has no stream');
  const { source, target, migration, lockTimeoutMs, lockBudgetMs, signal, admit, log } = context;
  const { slot, publication } = streamNames(migration, source, target, streaming.slot);
  return {
    source,
    target,
    migration,
    capture: streaming.capture,
    slot,
    publication,
    bufferBytes: bufferBytes(streaming),
    flushMs: flushMs(streaming),
    onError: streaming.onError,
    mappingOf: async (table, sessions) => {
      const map = await mapOfTable(sessions.target, migration, table);
      return map === null ? null : capturedMap(await specOf(context, sessions, { ...table, map }));
    },
    lockTimeoutMs,
    lockBudgetMs,
    signal,
    admit,
    log,
  };
}
