/**
 * What activities of a blue-green work with: a session in each database, the adapters that move clients, and the addresses by which the two servers reach
 * each other. Everything is opened for one activity and closed at its end.
 */
import type { PairControl } from '../plan/model/blueGreen';
import type { Side } from '../plan/model/traffic';
import type { Guardrail } from '../postgres/switch/guardrails';
import type { Both, Pair } from '../postgres/switch/pair';
import { withBoth } from '../postgres/switch/pair';
import type { Patience } from '../postgres/switch/patience';
import type { Target } from '../postgres/types';
import { target } from '../postgres/types';
import { createAdapter, together } from '../traffic';
import type { TrafficCall } from '../traffic';
import { databaseConfig, resolveTarget } from '../worker/config';
import { parseDuration } from '../plan/model/values';
import type { Tools } from './context';
import type { PairArgs } from './types';

export interface OpenPair {
  readonly both: Both;
  readonly pair: Pair;
  /** Each side as the OTHER side's server reaches it. */
  readonly peers: { readonly [side in Side]: Target };
  /** Roles with which the other server comes in: the fence lets them stay. */
  readonly peerRoles: { readonly [side in Side]: readonly string[] };
  readonly control: PairControl;
  readonly traffic: ReturnType<typeof together>;
  /** `what` names the try, so that the same one has the same key. */
  readonly call: (what: string, deadlineMs: number, more?: Partial<TrafficCall>) => TrafficCall;
  /** For what may take its time. */
  readonly patience: Patience;
}

const userOf = ({ url }: Target): readonly string[] => {
  try {
    const { username } = new URL(url);
    return username === '' ? [] : [decodeURIComponent(username)];
  } catch {
    return [];
  }
};

export type Sides = { readonly [side in Side]: Target };

const sidesOf = ({ pair }: PairArgs, { deps }: Tools): Sides => ({
  blue: resolveTarget(deps.config, pair.blue),
  green: resolveTarget(deps.config, pair.green),
});

const callOf =
  (tools: Tools): OpenPair['call'] =>
  (what, deadlineMs, more = {}) => ({
    idempotencyKey: `${tools.workflowId}/${what}`,
    deadlineMs,
    signal: tools.signal,
    ...more,
  });

/** The adapters alone: they make do with one database where the other one is gone. */
export async function withTraffic<T>(
  args: PairArgs,
  tools: Tools,
  work: (open: Pick<OpenPair, 'traffic' | 'call'> & { readonly sides: Sides }) => Promise<T>,
): Promise<T> {
  const sides = sidesOf(args, tools);
  const traffic = together(
    args.pair.traffic.map((plan) =>
      createAdapter(plan, {
        sides,
        connection: (name) => resolveTarget(tools.deps.config, name),
        env: process.env,
        log: (level, message) => tools.log[level]({}, message),
      }),
    ),
  );
  try {
    return await work({ traffic, call: callOf(tools), sides });
  } finally {
    await traffic.close();
  }
}

/** Throws Unreachable, LoginFailed, UnknownDatabase, and what `work` throws. */
export function withPair<T>(args: PairArgs, tools: Tools, work: (open: OpenPair) => Promise<T>): Promise<T> {
  const { config } = tools.deps;
  const { pair: control, migration, options } = args;
  return withTraffic(args, tools, ({ traffic, call, sides }) => {
    const peerOf = (name: string): Target => target(name, databaseConfig(config, name).peerUrl());
    const peers = { blue: peerOf(control.blue), green: peerOf(control.green) };
    const pair: Pair = { migration, ...sides };
    return withBoth(pair, 'switch', (both) =>
      work({
        both,
        pair,
        peers,
        peerRoles: { blue: userOf(peers.blue), green: userOf(peers.green) },
        control,
        traffic,
        call,
        patience: {
          lockTimeoutMs: parseDuration(options.lockTimeout) ?? 200,
          budgetMs: parseDuration(options.lockBudget) ?? 3_600_000,
          signal: tools.signal,
        },
      }),
    );
  });
}

export interface GuardrailSummary {
  readonly passed: number;
  /** What a person should know: warnings, and what they answer for. */
  readonly warnings: readonly string[];
}

const SHOWN = 20;

export const summaryOf = (found: readonly Guardrail[]): GuardrailSummary => ({
  passed: found.filter(({ verdict }) => verdict === 'pass').length,
  warnings: found
    .filter(({ verdict }) => verdict !== 'pass')
    .slice(0, SHOWN)
    .map(({ check, side, evidence }) => `${check} (${side}): ${evidence}`),
});
