/**
 * RESUME, without a trap of PgBouncer's: a client that arrives during the pause at a pool with no server connection yet (its user's first,
 * or PgBouncer was just started) counts as a failed login there, and waits for server_login_retry, 15 s, after the RESUME. So that setting
 * is low for as long as such pools wait. A crash in between leaves it low until the next RELOAD, which is part of every switch.
 */
import type { Deadline } from '../deadline';
import type { Console, ConsoleRow } from './console';

const LOW = '0.1';
const COLD_MS = 2_000;

export async function resumeWithoutDelay(
  console: Console,
  quoted: string,
  database: string,
  deadline: Deadline,
): Promise<void> {
  const before = await retryOf(console, deadline);
  const lowered = before !== null && Number(before) > Number(LOW);
  // Not being allowed to is no reason to keep clients waiting for good.
  if (lowered) await console.rows(`SET server_login_retry = '${LOW}'`, deadline).catch(() => undefined);
  try {
    await console.rows(`RESUME ${quoted}`, deadline);
    if (!lowered) return;
    const until = performance.now() + COLD_MS;
    while (performance.now() < until && !deadline.isOver && (await isCold(console, database, deadline)))
      await deadline.wait(20);
  } finally {
    if (lowered) await console.rows(`SET server_login_retry = '${before}'`, deadline).catch(() => undefined);
  }
}

/** As SHOW CONFIG prints it, a number of seconds; null when it does not. */
async function retryOf(console: Console, deadline: Deadline): Promise<string | null> {
  const row = (await console.rows('SHOW CONFIG', deadline)).find((one) => one.key === 'server_login_retry');
  return row?.value && /^[0-9.]+$/.test(row.value) ? row.value : null;
}

const count = (row: ConsoleRow, columns: readonly string[]): number =>
  columns.reduce((sum, column) => sum + Number(row[column] ?? 0), 0);

/** Clients wait at a pool that has no connection at all. */
async function isCold(console: Console, database: string, deadline: Deadline): Promise<boolean> {
  const pools = (await console.rows('SHOW POOLS', deadline)).filter((row) => row.database === database);
  return pools.some(
    (row) => count(row, ['cl_waiting']) > 0 && count(row, ['sv_active', 'sv_idle', 'sv_used', 'sv_tested']) === 0,
  );
}
