/**
 * `pgshift fence status` and `pgshift fence release`: which side of a switch takes writes, and the repair when nothing else is there to do it. They use
 * the databases alone; Temporal may be gone.
 */
import { createInterface } from 'node:readline/promises';
import { isProblem, Problem } from '../../plan/model/errors';
import type { Side } from '../../plan/model/traffic';
import { otherSide, SIDES } from '../../plan/model/traffic';
import type { Session } from '../../postgres/session';
import { openSession } from '../../postgres/session';
import { guardsIn } from '../../postgres/switch/guard';
import type { Reachable } from '../../postgres/switch/pair';
import { refuseSame } from '../../postgres/switch/pair';
import { fenceStatus, release } from '../../postgres/switch/release';
import type { FenceStatus, Released } from '../../postgres/switch/release';
import type { Target } from '../../postgres/types';
import type { Context } from '../context';
import { targetOf } from '../direct';
import { Exit } from '../failure';
import { renderFence } from '../render/fence';

interface Flags {
  readonly blue?: string;
  readonly green?: string;
  readonly side?: Side;
  readonly yes?: boolean;
}

type Names = { readonly [side in Side]: string };

const CONNECT_MS = 5_000;
const LOCK_TIMEOUT_MS = 500;
const DEADLINE_MS = 30_000;
const SEQUENCE_GAP = 1_000;
const REFUSED = 3;

interface Opened {
  readonly sessions: Reachable;
  readonly names: Names;
  readonly targets: { readonly [side in Side]: Target };
}

/** null = it does not answer. Everything else (a wrong password, an unknown name) is an error of the caller's. */
async function open(target: Target): Promise<Session | null> {
  try {
    return await openSession(target, { purpose: 'fence', connectTimeoutMs: CONNECT_MS });
  } catch (error) {
    if (isProblem(error) && (error.code === 'Unreachable' || error.code === 'ServerRestarting')) return null;
    throw error;
  }
}

/** The names that were typed; one that was not is in the other side's guard row. */
async function namesOf(context: Context, flags: Flags): Promise<Names> {
  if (flags.blue !== undefined && flags.green !== undefined) return { blue: flags.blue, green: flags.green };
  const side = SIDES.find((one) => flags[one] !== undefined);
  const typed = side === undefined ? undefined : flags[side];
  if (side === undefined || typed === undefined)
    throw new Problem('InvalidUsage', 'fence needs the databases', {
      hint: 'pgshift fence status --blue NAME --green NAME',
    });
  const session = await open(await targetOf(context, typed));
  try {
    const [row] = session === null ? [] : await guardsIn(session);
    if (row === undefined)
      throw new Problem('InvalidUsage', `--${otherSide(side)} is needed: ${typed} does not say what it is`, {
        hint: 'pgshift fence status --blue NAME --green NAME',
      });
    return { ...row.details.names, [side]: typed };
  } finally {
    await session?.close();
  }
}

async function withDatabases<T>(context: Context, flags: Flags, work: (opened: Opened) => Promise<T>): Promise<T> {
  const names = await namesOf(context, flags);
  if (names.blue === names.green) throw new Problem('SameDatabase', `blue and green are both ${names.blue}`);
  const targets = { blue: await targetOf(context, names.blue), green: await targetOf(context, names.green) };
  const [blue, green] = await Promise.all([open(targets.blue), open(targets.green)]);
  try {
    if (blue === null && green === null)
      throw new Problem('Unreachable', `neither ${names.blue} nor ${names.green} answers`);
    if (blue !== null && green !== null) await refuseSame({ blue, green });
    return await work({ sessions: { blue, green }, names, targets });
  } finally {
    await Promise.all([blue?.close(), green?.close()]);
  }
}

function show(context: Context, status: FenceStatus, done: Released | null): void {
  const { terminal } = context;
  if (terminal.json) terminal.printJson(done === null ? status : { ...status, released: done });
  else terminal.print(renderFence(status, done, terminal.colors));
}

async function sure(context: Context, flags: Flags, status: FenceStatus): Promise<void> {
  if (flags.yes === true) return;
  if (!context.terminal.interactive || process.stdin.isTTY !== true)
    throw new Problem('InvalidUsage', 'fence release changes which side takes writes', {
      hint: 'add --yes to mean it',
    });
  const asked = createInterface({ input: process.stdin, output: process.stderr });
  try {
    context.terminal.note(renderFence(status, null, context.terminal.errorColors));
    const answer = await asked.question(
      `Open ${flags.side ?? 'the side shown'} and put back what the fence took? [y/N] `,
    );
    if (!/^y/i.test(answer.trim())) throw new Exit(REFUSED);
  } finally {
    asked.close();
  }
}

export async function fence(context: Context, [action = '']: readonly string[], flags: Flags): Promise<void> {
  if (action !== 'status' && action !== 'release')
    throw new Problem('InvalidUsage', 'fence knows status and release', {
      hint: 'pgshift fence status --blue NAME --green NAME',
    });
  await withDatabases(context, flags, async ({ sessions, names, targets }) => {
    const before = await fenceStatus(sessions, names);
    if (action === 'status') {
      show(context, before, null);
      if (before.writable === 'both') throw new Exit(REFUSED);
      return;
    }
    await sure(context, flags, before);
    const done = await release(sessions, targets, {
      side: flags.side ?? null,
      sequenceGap: SEQUENCE_GAP,
      by: context.by,
      lockTimeoutMs: LOCK_TIMEOUT_MS,
      deadlineMs: DEADLINE_MS,
      signal: new AbortController().signal,
    });
    show(context, await fenceStatus(sessions, names), done);
  });
}
