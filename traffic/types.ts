/**
 * What every way of moving clients can do. Keeps true, whatever the adapter: each call may be made again, after any crash and with the
 * same key, and then changes nothing; a pause that is not complete by its deadline is taken back before the call fails, so that nobody
 * is left waiting; what cannot be seen is never called paused, drained or moved.
 */
import type { Share } from '../plan/model/routing';
import type { AdapterPlan, ServerAddress, Side } from '../plan/model/traffic';
import type { Target } from '../postgres/types';

export interface TrafficCall {
  /** The same over all tries of one step of one run: `<workflow id>/<run>/<step>`. */
  readonly idempotencyKey: string;
  /** From now, ms: for a pause until it is complete, for anything else until it is done. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  /** How long a pause may last at most before clients that can go on by themselves do (router), ms. Default 20 s. */
  readonly lastsMs?: number;
  /** Epoch of the attempt. Where it is kept (router) an attempt with a lower one is refused: FenceBroken. */
  readonly token?: number;
}

export const DEFAULT_LASTS_MS = 20_000;

export interface TrafficState {
  /** Where clients go, or will when they go on. null = it cannot be seen, or not all the same way. */
  readonly target: Side | null;
  /** New work waits, everywhere. */
  readonly paused: boolean;
  /** Paused, and nothing from before is under way any more. */
  readonly drained: boolean;
  /** What is missing, for people: "2 of 3 routers have not acknowledged". No URLs. */
  readonly because: string | null;
}

/** Something that would spoil a switch, found before it. */
export interface TrafficFinding {
  readonly check: string;
  readonly level: 'error' | 'warning' | 'info';
  readonly message: string;
  readonly remedy: string;
}

export interface TrafficAdapter {
  readonly type: AdapterPlan['type'];
  /** For people and records: `pgbouncer app`. */
  readonly name: string;
  /** Looks, changes nothing. An empty list = nothing to say against it. */
  check(call: TrafficCall): Promise<readonly TrafficFinding[]>;
  /** Current target, paused?, drained? */
  status(call: TrafficCall): Promise<TrafficState>;
  /**
   * New work waits, work under way ends; answers when nothing is under way any more.
   * @throws Problem SwitchOverran when the deadline passed (the pause is taken back), TrafficFailed when it cannot be done or seen.
   */
  pause(call: TrafficCall): Promise<TrafficState>;
  /** Says where clients will go. Leaves them paused; pauses them first when they are not. @throws Problem TrafficFailed. */
  point(side: Side, call: TrafficCall): Promise<TrafficState>;
  /** Lets clients go on, where they point. @throws Problem TrafficFailed. */
  resume(call: TrafficCall): Promise<TrafficState>;
  /** As if nothing had happened, with clients on `side`; right after any of the others, half done or never done. @throws Problem TrafficFailed. */
  undo(side: Side, call: TrafficCall): Promise<TrafficState>;
  /**
   * Who goes to green before the writes do. Where an adapter cannot tell people apart it has no such method. Answers once every router that lives has heard
   * of it, or at the deadline. @throws Problem TrafficFailed, FenceBroken (a later change, or a later run, was here).
   */
  share?(asked: ShareAsked, call: TrafficCall): Promise<ShareHeard>;
  /** Reads may go over for so long from now, ms. @throws Problem TrafficFailed. */
  keepFresh?(ms: number, call: TrafficCall): Promise<void>;
  close(): Promise<void>;
}

/** A change of the share. */
export interface ShareAsked {
  /** null = everybody is where the writes are; then one database that answers is enough. */
  readonly share: Pick<Share, 'salt' | 'percent' | 'keys' | 'moves'> | null;
  /** The run, and its changes counted: a change that was given up and comes late is refused. */
  readonly run: string;
  readonly number: number;
}

export interface ShareHeard {
  readonly alive: number;
  readonly heard: number;
}

/** What an adapter is made of beside its plan. */
export interface TrafficDeps {
  /** Direct connections of pgshift's own. */
  readonly sides: Readonly<Record<Side, Target>>;
  /** A configured connection by name; throws UnknownDatabase. */
  readonly connection: (name: string) => Target;
  /** Where `env:NAME` is looked up. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: (level: 'info' | 'warn', message: string) => void;
}

export type Servers = Readonly<Record<Side, ServerAddress>>;
