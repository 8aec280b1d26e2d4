/** For tests of a switch: blue and green with schema pgshift, sessions in both, and clients that write. */
import type { Client } from 'pg';
import { openGuards } from '../../postgres/switch/guard';
import type { Both, Pair } from '../../postgres/switch/pair';
import type { Session } from '../../postgres/session';
import { openSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { target } from '../../postgres/types';
import type { FreshDatabase, ServerVersion } from './database';
import { freshDatabase, hasVersion } from './database';
import { drawn } from './whole';

export const SWITCH = 'bg1';

/** Majors from blue to green; a pair of which one is missing here is shown as skipped. */
export function describePairs(title: string, body: (from: ServerVersion, to: ServerVersion) => void): void {
  const pairs = [
    [18, 18],
    [15, 18],
    [18, 15],
  ] as const;
  for (const [from, to] of drawn(pairs))
    (hasVersion(from) && hasVersion(to) ? describe : describe.skip)(`${title} (${from} to ${to})`, () =>
      body(from, to),
    );
}

export interface TestPair {
  readonly blue: FreshDatabase;
  readonly green: FreshDatabase;
  readonly pair: Pair;
  readonly both: Both;
  readonly session: (side: 'blue' | 'green', purpose?: string) => Promise<Session>;
  readonly drop: () => Promise<void>;
}

export async function testPair(versions: readonly [ServerVersion, ServerVersion], setup: string): Promise<TestPair> {
  const blue = await freshDatabase(versions[0], setup);
  const green = await freshDatabase(versions[1], setup);
  const pair: Pair = { migration: SWITCH, blue: target('blue', blue.url), green: target('green', green.url) };
  const open: Session[] = [];
  const session = async (side: 'blue' | 'green', purpose = 'test'): Promise<Session> => {
    const one = await openSession(pair[side], { purpose });
    open.push(one);
    return one;
  };
  const both: Both = { blue: await session('blue'), green: await session('green') };
  await install(both.blue);
  await install(both.green);
  await openGuards(both, SWITCH, { names: { blue: 'blue', green: 'green' } });
  return {
    blue,
    green,
    pair,
    both,
    session,
    async drop() {
      await Promise.all(open.map((one) => one.close()));
      for (const database of [blue, green]) await forget(database);
      await Promise.all([blue.drop(), green.drop()]);
    },
  };
}

/** A database with subscriptions or slots cannot be dropped. */
export async function forget(database: FreshDatabase): Promise<void> {
  const subscriptions = await database.query<{ name: string }>(
    `SELECT quote_ident(subname) AS name FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  for (const { name } of subscriptions) {
    await database.query(`ALTER SUBSCRIPTION ${name} DISABLE`);
    await database.query(`ALTER SUBSCRIPTION ${name} SET (slot_name = NONE)`);
    await database.query(`DROP SUBSCRIPTION ${name}`);
  }
  await database.query(
    `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL`,
  );
  for (let tried = 0; tried < 50; tried += 1) {
    const left = await database
      .query(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
      .catch(() => null);
    if (left !== null) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** SQLSTATE of what a statement was refused with; 'none' = it was not. */
export const stateOf = async (client: Client, sql: string): Promise<string> =>
  client.query(sql).then(
    () => 'none',
    (error: { code?: string }) => error.code ?? 'broken',
  );
