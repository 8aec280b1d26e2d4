/**
 * Subscriptions of native logical replication, from a slot that is there already. Keeps true: the connection string, password and all, never appears in
 * an error and (as far as our rights go) in no log of the server; a subscription is taken away in the order that touches nothing but itself.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../../plan/model/errors';
import { ident, literal } from '../ident';
import type { Session } from '../session';
import { addressOf, inTransaction } from '../session';
import { sqlstate } from '../toProblem';
import type { Target } from '../types';
import type { ReplicationNames } from './names';

export interface SubscriptionState {
  readonly enabled: boolean;
  /** Its apply worker runs. */
  readonly running: boolean;
  readonly slot: string | null;
  readonly tables: number;
  /** Tables that are not in state r. */
  readonly notReady: number;
  /** Transactions that somebody had it leave out; a switch that rests on it would lose them. */
  readonly skips: boolean;
  /** Errors so far; null = not counted by this version. */
  readonly errors: number | null;
}

/** null = none of that name in this database. */
export async function subscriptionState(session: Session, name: string): Promise<SubscriptionState | null> {
  const errors =
    session.serverVersion >= 150000
      ? `(SELECT s.apply_error_count::int FROM pg_catalog.pg_stat_subscription_stats AS s WHERE s.subid = u.oid)`
      : 'NULL::int';
  const skips = session.serverVersion >= 150000 ? `u.subskiplsn <> '0/0'` : 'false';
  const row = await session.one<SubscriptionState & Record<string, unknown>>(
    `SELECT u.subenabled AS enabled, u.subslotname::text AS slot, ${skips} AS skips, ${errors} AS errors,
            EXISTS (SELECT 1 FROM pg_catalog.pg_stat_subscription AS w WHERE w.subid = u.oid AND w.pid IS NOT NULL) AS running,
            (SELECT count(*)::int FROM pg_catalog.pg_subscription_rel AS r WHERE r.srsubid = u.oid) AS tables,
            (SELECT count(*)::int FROM pg_catalog.pg_subscription_rel AS r WHERE r.srsubid = u.oid AND r.srsubstate <> 'r') AS "notReady"
       FROM pg_catalog.pg_subscription AS u
      WHERE u.subname = $1 AND u.subdbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())`,
    [name],
  );
  return row ?? null;
}

/** How libpq on the other server reads it: without what only our driver knows. */
export function conninfoOf({ name, url }: Target): string {
  try {
    const parsed = new URL(url);
    parsed.searchParams.delete('uselibpqcompat');
    return parsed.toString();
  } catch {
    throw new Problem('InvalidConfig', `the URL of connection ${name} cannot be read (it is not shown)`);
  }
}

/** Logs and statistics keep the text of statements; this one holds a password. Superusers alone may turn that off: best effort. */
const UNLOGGED = [
  `log_statement = 'none'`,
  `log_min_duration_statement = -1`,
  `log_min_error_statement = 'panic'`,
  `log_duration = off`,
  `pg_stat_statements.track_utility = off`,
];

async function unlogged(session: Session): Promise<void> {
  for (const setting of UNLOGGED) {
    await session.run('SAVEPOINT setting');
    await session.run(`SET LOCAL ${setting}`).catch(() => session.run('ROLLBACK TO setting'));
    await session.run('RELEASE setting').catch(() => undefined);
  }
}

/** Postgres' own sentence may quote the connection string: ours does not. */
function cannotSubscribe(error: unknown, session: Session, publisher: Target): Error {
  const state = sqlstate(error);
  if (state === undefined) return error as Error;
  const said = error instanceof Error ? error.message : '';
  const { where } = addressOf(publisher);
  const to = `${session.name}: its server cannot connect to ${publisher.name} at ${where}`;
  const details = { sqlstate: state };
  if (/authentication failed|no password supplied|pg_hba|does not exist|is not permitted to log in/.test(said))
    return new Problem('LoginFailed', `${to}: the login is refused`, {
      details,
      hint: `set PGSHIFT_DATABASE_${publisher.name.toUpperCase()}_FROM_PEER; the role needs LOGIN, REPLICATION and a line in pg_hba.conf`,
    });
  if (/permission denied|must be superuser|password is required|must have privileges|REPLICATION/.test(said))
    return new Problem('PrivilegeMissing', `${session.name}: role ${session.role} may not make a subscription`, {
      details,
      hint:
        session.serverVersion >= 160000
          ? `GRANT pg_create_subscription TO ${ident(session.role)}; and a password in the connection`
          : `before version 16 it takes a superuser:  ALTER ROLE ${ident(session.role)} SUPERUSER;`,
    });
  if (state.startsWith('08')) return new Problem('Unreachable', `${to}: it does not answer`, { details });
  return new Problem(
    'StepFailed',
    `${session.name}: Postgres refused the subscription to ${publisher.name} [${state}]`,
    {
      details,
    },
  );
}

export interface SubscribeOptions {
  readonly names: ReplicationNames;
  /** The publisher as the subscriber's SERVER reaches it. */
  readonly publisher: Target;
  /** none = changes that came to the publisher by replication stay there; told by the publisher, from 16 on. */
  readonly origin: 'any' | 'none';
}

const create = ({ names, publisher, origin }: SubscribeOptions, version: number): string => {
  const options = [
    'create_slot = false',
    'copy_data = false',
    'enabled = false',
    'connect = true',
    `slot_name = ${literal(names.slot)}`,
    // What is prepared on one side would have to be prepared, or walled, on the other.
    ...(version >= 150000 ? ['two_phase = false', 'disable_on_error = false'] : []),
    ...(version >= 160000 ? [`origin = ${origin}`] : []),
  ];
  return (
    `CREATE SUBSCRIPTION ${ident(names.subscription)} CONNECTION ${literal(conninfoOf(publisher))} ` +
    `PUBLICATION ${ident(names.publication)} WITH (${options.join(', ')})`
  );
};

/** Makes it, not enabled yet. One that is there stays. Throws LoginFailed, Unreachable, PrivilegeMissing, StepFailed. */
export async function ensureSubscription(session: Session, options: SubscribeOptions): Promise<void> {
  if (await subscriptionState(session, options.names.subscription)) return;
  try {
    await inTransaction(session, async () => {
      await unlogged(session);
      await session.run(create(options, session.serverVersion));
    });
  } catch (error) {
    throw cannotSubscribe(error, session, options.publisher);
  }
}

/** Proves that the subscriber's server reaches the publisher and may make a subscription, and leaves nothing. Throws as `ensureSubscription`. */
export async function probeSubscription(session: Session, publisher: Target, name: string): Promise<void> {
  await session.run('BEGIN');
  try {
    await unlogged(session);
    await session.run(
      `CREATE SUBSCRIPTION ${ident(name)} CONNECTION ${literal(conninfoOf(publisher))} PUBLICATION ${ident(name)}
         WITH (create_slot = false, copy_data = false, enabled = false, connect = true, slot_name = NONE)`,
    );
  } catch (error) {
    throw cannotSubscribe(error, session, publisher);
  } finally {
    if (!session.lost) await session.run('ROLLBACK');
  }
}

export const enableSubscription = (session: Session, name: string): Promise<number> =>
  session.run(`ALTER SUBSCRIPTION ${ident(name)} ENABLE`);

const POLL_MS = 10;
/** Before version 16 a worker looks up only once a second: it is ended. What it had not applied comes again, from its origin's position. */
const PATIENCE_MS = 30;

/** Turns it off and waits until its worker is gone: from then on nothing of it arrives. Idempotent. Throws Timeout. */
export async function disableSubscription(session: Session, name: string, deadlineMs = 10_000): Promise<void> {
  const state = await subscriptionState(session, name);
  if (state === null) return;
  if (state.enabled) await session.run(`ALTER SUBSCRIPTION ${ident(name)} DISABLE`);
  for (const began = performance.now(); ;) {
    if (!(await subscriptionState(session, name))?.running) return;
    const spent = performance.now() - began;
    if (spent > PATIENCE_MS) await endWorkers(session, name);
    if (spent > deadlineMs) throw new Problem('Timeout', `${session.name}: the apply worker of ${name} does not end`);
    await sleep(POLL_MS);
  }
}

/** Its workers are of our own role; where they are not, waiting has to do. */
const endWorkers = (session: Session, name: string): Promise<unknown> =>
  session
    .rows(
      `SELECT pg_catalog.pg_terminate_backend(w.pid) FROM pg_catalog.pg_stat_subscription AS w
         JOIN pg_catalog.pg_subscription AS u ON u.oid = w.subid
        WHERE u.subname = $1 AND NOT u.subenabled AND w.pid IS NOT NULL
          AND u.subdbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())`,
      [name],
    )
    .catch(() => undefined);

/**
 * Takes it away without asking the publisher anything: its slot is dropped there, by whoever reaches it. Never on a way that goes on afterwards: with
 * the subscription goes its origin, that is, the knowledge of what has been applied. Idempotent.
 */
export async function dropSubscription(session: Session, name: string): Promise<void> {
  if ((await subscriptionState(session, name)) === null) return;
  await disableSubscription(session, name);
  await inTransaction(session, async () => {
    await session.run(`SET LOCAL lock_timeout = '5s'`);
    await session.run(`ALTER SUBSCRIPTION ${ident(name)} SET (slot_name = NONE)`);
    await session.run(`DROP SUBSCRIPTION ${ident(name)}`);
  });
}
