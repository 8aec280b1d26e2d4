/**
 * Follows the source: reads its changes, applies them in commit order, confirms what is durable. Keeps true: the slot is told of a position only after
 * the target has committed it, so whatever dies, every change is applied once; one attempt at a time reads the slot. It ends when asked to, when
 * a position is reached, or when a change cannot be applied.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Problem } from '../../plan/model/errors';
import type { RunPhase } from '../../plan/model/steps';
import { openCopySession } from '../copy/context';
import { beginAttempt, finishAttempt } from '../fence';
import type { Session } from '../session';
import { mustSlot } from '../switch/slot';
import { checkSignal } from '../work';
import type { Culprit } from './apply';
import { Unapplied } from './apply';
import { Applier, openApplySession, problemOf } from './applier';
import { identityOf, refuseOtherServer } from './begin';
import { captureNames } from './capture';
import { readChanges } from './changes';
import { Intake } from './intake';
import { lsnOf, lsnText } from './lsn';
import type { StreamJob } from './types';
import type { Wire } from './wire';
import { openWire } from './wire';

export const STREAM_STEP = 'follow.1';

/** How it stands, once a second. */
export interface StreamLook {
  readonly position: string;
  /** From the position to the end of the source's log. */
  readonly lagBytes: number;
  /** Age of the oldest change that may not be here; 0 = none. */
  readonly lagMs: number;
  readonly transactions: number;
  readonly changes: number;
  readonly skipped: number;
  /** Bytes of WAL that the slot keeps, and how many more it may; null = no limit. */
  readonly keptBytes: number | null;
  readonly safeBytes: number | null;
}

export interface FollowOptions {
  /** Until everything is applied that the source had committed when it was asked; then `reached`. */
  readonly drain: boolean;
  readonly onLook: (look: StreamLook) => 'go on' | 'stop';
  readonly phase?: RunPhase;
}

export interface Held {
  readonly table: string;
  readonly code: Problem['code'];
  readonly message: string;
  /** Its transaction; skipUntil() leaves out what cannot be applied up to there. */
  readonly lsn: string;
}

export interface Followed {
  /** held = a change cannot be applied and a person decides (`onError: retry`); ended = it was over before. */
  readonly verdict: 'later' | 'reached' | 'held' | 'ended';
  readonly position: string;
  readonly held: Held | null;
}

const LOOK_MS = 1_000;
const PERSIST_MS = 250;
const OLD_READER_MS = 10_000;

const nameOf = (job: StreamJob): string => `pgshift/${job.migration}/stream`.slice(0, 63);

/** A reader of ours that was given up may still hold the slot. */
async function endOldReader(job: StreamJob, source: Session): Promise<void> {
  for (const until = performance.now() + OLD_READER_MS; performance.now() < until;) {
    const slot = await mustSlot(source, job.slot);
    if (slot.activePid === null || slot.consumer !== nameOf(job)) return;
    await source.run('SELECT pg_terminate_backend($1)', [slot.activePid]);
    await sleep(50);
  }
}

/** Where the source's log is, after a commit of ours that makes even an idle one move on. */
async function positionNow(source: Session): Promise<bigint> {
  await source.run(`SELECT pg_logical_emit_message(true, 'pgshift', '')`);
  const row = await source.one<{ lsn: string }>(`SELECT pg_current_wal_flush_lsn()::text AS lsn`);
  return lsnOf(row?.lsn ?? '');
}

/** @throws Problem SlotLost, TimelineChanged, Unreachable, FenceBroken, and what a change was refused with. */
export async function followStream(job: StreamJob, options: FollowOptions): Promise<Followed> {
  const target = await openApplySession(job);
  try {
    const source = await openCopySession(job, job.source, 'stream-look');
    try {
      const ref = { migration: job.migration, stepId: STREAM_STEP, phase: options.phase ?? 'follow' } as const;
      const begun = await beginAttempt(target, ref, 'do', job.signal);
      if (begun.state === 'already') return { verdict: 'ended', position: '0/0', held: null };
      const applier = await Applier.start(job, begun.attempt, target, source);
      const read = job.capture === 'triggers' ? readCaptured : readLog;
      const followed = await read(job, options, applier, source);
      await finishAttempt(target, begun.attempt, { status: 'pending', rows: applier.changes, result: {} });
      return followed;
    } finally {
      await source.close();
    }
  } finally {
    await target.close();
  }
}

async function readLog(job: StreamJob, options: FollowOptions, applier: Applier, source: Session): Promise<Followed> {
  await endOldReader(job, source);
  const until = options.drain ? await positionNow(source) : null;
  let wire: Wire | null = null;
  const intake = new Intake(job.bufferBytes, () => wire);
  intake.urgent = options.drain;
  const opened = await openWire(
    job.source,
    {
      slot: job.slot,
      publication: job.publication,
      from: applier.position,
      name: nameOf(job),
      onMessage: (message, bytes) => intake.add(message, bytes),
      onIdle: (walEnd) => intake.quiet(walEnd),
    },
    (identity) => refuseOtherServer(source.name, applier.row, identity),
  );
  wire = opened;
  let broken: unknown = null;
  opened.broken.catch((error: unknown) => {
    broken = error;
    intake.wake();
  });
  const onAbort = (): void => intake.wake();
  job.signal.addEventListener('abort', onAbort, { once: true });
  const looking = new Looking(job, applier, source);
  let persisted = 0;
  const answer = (verdict: Followed['verdict'], held: Held | null = null): Followed => ({
    verdict,
    position: lsnText(applier.position),
    held,
  });
  try {
    for (;;) {
      checkSignal(job.signal);
      if (broken !== null) throw broken;
      if (intake.isDue(job.flushMs)) {
        await applier.apply(intake.take());
        intake.applied();
        opened.confirm(applier.position);
      }
      const idle = applier.isOpen() ? null : intake.idleAt();
      if (idle !== null && idle > applier.position) {
        opened.confirm(idle);
        if ((until !== null && idle >= until) || performance.now() - persisted >= PERSIST_MS) {
          await applier.advance(idle);
          persisted = performance.now();
        }
      }
      if (until !== null && applier.position >= until) return answer('reached');
      if (looking.isDue()) {
        const look = await looking.look();
        // A transaction that is half here is finished first.
        if (options.onLook(look) === 'stop' && !applier.isOpen()) return answer('later');
      }
      if (intake.isDue(job.flushMs)) continue;
      const due = intake.dueInMs(job.flushMs) ?? LOOK_MS;
      await intake.wait(Math.min(due, looking.inMs(), idle !== null && idle > applier.position ? PERSIST_MS : LOOK_MS));
    }
  } catch (error) {
    if (!(error instanceof Unapplied)) throw error;
    return await refused(job, applier, error.culprit, answer);
  } finally {
    job.signal.removeEventListener('abort', onAbort);
    await opened.close();
  }
}

/** Of a source whose triggers write down what changes. */
async function readCaptured(
  job: StreamJob,
  options: FollowOptions,
  applier: Applier,
  source: Session,
): Promise<Followed> {
  refuseOtherServer(source.name, applier.row, await identityOf(source));
  const looking = new Looking(job, applier, source);
  const answer = (verdict: Followed['verdict'], held: Held | null = null): Followed => ({
    verdict,
    position: lsnText(applier.position),
    held,
  });
  const onRound = async (): Promise<'go on' | 'stop'> =>
    looking.isDue() ? options.onLook(await looking.look()) : 'go on';
  const { flushMs, signal, publication } = job;
  const rounds = { source, applier, names: captureNames(publication), onRound, flushMs, signal };
  try {
    const ended = await readChanges(rounds, options.drain);
    return answer(ended === 'reached' ? 'reached' : 'later');
  } catch (error) {
    if (!(error instanceof Unapplied)) throw error;
    return await refused(job, applier, error.culprit, answer);
  }
}

async function refused(
  job: StreamJob,
  applier: Applier,
  culprit: Culprit,
  answer: (verdict: Followed['verdict'], held: Held) => Followed,
): Promise<Followed> {
  await applier.quarantine(culprit);
  const { table, code, message, change } = culprit;
  job.log('warn', `${table}: a change could not be applied: ${code}`, { code });
  if (job.onError !== 'retry') throw problemOf(culprit);
  return answer('held', { table, code, message, lsn: lsnText(change.tx.commitLsn) });
}

/** Lag by what was seen of the source's log, by this machine's clock alone. */
class Looking {
  private readonly seen: { readonly at: number; readonly lsn: bigint }[] = [];
  private next = 0;
  private warned = false;

  constructor(
    private readonly job: StreamJob,
    private readonly applier: Applier,
    private readonly source: Session,
  ) {}

  isDue = (): boolean => performance.now() >= this.next;
  inMs = (): number => Math.max(1, this.next - performance.now());

  async look(): Promise<StreamLook> {
    this.next = performance.now() + LOOK_MS;
    const slot = this.job.capture === 'triggers' ? null : await mustSlot(this.source, this.job.slot);
    const row = await this.source.one<{ lsn: string }>(`SELECT pg_current_wal_flush_lsn()::text AS lsn`);
    const now = lsnOf(row?.lsn ?? '');
    const { position, transactions, changes, skipped } = this.applier;
    if (this.seen.length < 10_000) this.seen.push({ at: performance.now(), lsn: now });
    while (this.seen[0] && this.seen[0].lsn <= position) this.seen.shift();
    if (slot?.walStatus === 'unreserved' && !this.warned) {
      this.warned = true;
      this.job.log(
        'warn',
        `${this.source.name}: the slot is about to lose WAL: max_slot_wal_keep_size is nearly used up`,
      );
    }
    const oldest = this.seen[0];
    return {
      position: lsnText(position),
      lagBytes: now > position ? Number(now - position) : 0,
      lagMs: oldest ? Math.round(performance.now() - oldest.at) : 0,
      transactions,
      changes,
      skipped,
      keptBytes: slot?.keptBytes ?? null,
      safeBytes: slot?.safeBytes ?? null,
    };
  }
}
