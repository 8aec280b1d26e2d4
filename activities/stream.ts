/** Streams and increments: thin calls of postgres/stream and postgres/increment, with heartbeats that say how far behind they are. */
import type { Live } from '../plan/model/state';
import type { CopyContext } from '../postgres/copy/context';
import * as increment from '../postgres/increment/run';
import type { StreamLook } from '../postgres/stream/follow';
import * as stream from '../postgres/stream/run';
import { verifyBoth } from '../postgres/stream/verifyBoth';
import { Reporter } from './context';
import type { Tools } from './context';
import { withContext } from './data';
import type { CopyArgs, FollowArgs, FollowDone, PassDone, StreamDone, StreamVerified } from './types';

const SHOWN = 50;

export async function followStream(args: FollowArgs, tools: Tools): Promise<FollowDone> {
  const reporter = new Reporter();
  const began = performance.now();
  let before: { readonly changes: number; readonly at: number } | null = null;
  let counted = 0;
  const onLook = (look: StreamLook): 'go on' | 'stop' => {
    const at = performance.now();
    const rate = before === null ? 0 : ((look.changes - before.changes) * 1_000) / Math.max(1, at - before.at);
    if (before !== null) counted += look.changes - before.changes;
    before = { changes: look.changes, at };
    const live: Live = {
      step: 'follow',
      attempt: tools.attempt,
      rowsDone: look.changes,
      rowsTotal: look.changes,
      estimated: true,
      bytesDone: 0,
      bytesTotal: 0,
      rowsPerSecond: Math.round(rate),
      etaSeconds: null,
      batchRows: 0,
      throttledBy: null,
      lagBytes: look.lagBytes,
      lagMs: look.lagMs,
      waitingFor: null,
    };
    tools.beat(live);
    reporter.report(live);
    tools.deps.metrics.replicationLag.set({ database: args.copy.source }, look.lagBytes);
    return at - began > args.maxMs && !args.drain ? 'stop' : 'go on';
  };
  const follow = (context: CopyContext) =>
    args.drain ? stream.drainCopy(context, onLook) : stream.followCopy(context, onLook);
  const done = await withContext(args, tools, follow);
  tools.deps.metrics.rows.inc({ operation: 'stream' }, counted);
  return done;
}

export async function verifyStream(args: CopyArgs, tools: Tools): Promise<StreamVerified> {
  const reporter = new Reporter();
  const result = await withContext(args, tools, (context) =>
    verifyBoth(context, (progress) => {
      tools.beat(progress);
      reporter.report({
        step: 'verify',
        attempt: tools.attempt,
        rowsDone: progress.rowsDone,
        rowsTotal: progress.rowsTotal,
        estimated: true,
        bytesDone: 0,
        bytesTotal: 0,
        rowsPerSecond: progress.rowsPerSecond,
        etaSeconds: progress.etaSeconds,
        batchRows: 0,
        throttledBy: null,
        lagBytes: null,
        lagMs: null,
        waitingFor: null,
      });
    }),
  );
  const { tables, errors, notes } = result;
  const shown = [...tables].sort((a, b) => Number(a.equal) - Number(b.equal) || b.sourceRows - a.sourceRows);
  return {
    tables: tables.length,
    rows: result.statistics.rows,
    differing: tables.reduce((sum, table) => sum + table.differing, 0),
    problems: errors.slice(0, SHOWN).map(({ table, message }) => `${table ?? ''}: ${message}`),
    shown: shown.slice(0, SHOWN),
    ...(notes.length > 0 ? { warnings: notes.slice(0, SHOWN) } : {}),
  };
}

export const skipChange = (args: CopyArgs & { readonly lsn: string }, tools: Tools): Promise<void> =>
  withContext(args, tools, async (context) => void (await stream.skipHeld(context, args.lsn)));

export const endStream = (args: CopyArgs, tools: Tools): Promise<StreamDone> =>
  withContext(args, tools, stream.endCopyStream);

export const observeBounds = (args: CopyArgs, tools: Tools): Promise<void> =>
  withContext(args, tools, increment.observeBounds);

export async function incrementPass(args: CopyArgs, tools: Tools): Promise<PassDone> {
  const done = await withContext(args, tools, increment.runPass);
  tools.deps.metrics.rows.inc({ operation: 'increment' }, done.rows);
  return done;
}
