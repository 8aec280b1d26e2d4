/** Clients that write all the time, and remember what was acknowledged: table writes (client int, n int). */
import type { Pool } from 'pg';
import type { FreshDatabase } from './database';

/** Writes with `clients` at once while `during` runs, a third of them in transactions; answers how many writes were acknowledged. Any error fails. */
export async function writing(clients: number, pool: Pool, during: () => Promise<void>): Promise<number> {
  let over = false;
  const insert = 'INSERT INTO writes (client, n) VALUES ($1, $2)';
  const write = async (client: number): Promise<number> => {
    let n = 0;
    for (; !over; n++) {
      if (client % 3 !== 0) {
        await pool.query(insert, [client, n]);
        continue;
      }
      const one = await pool.connect();
      await one.query('BEGIN');
      await one.query(insert, [client, n]);
      await one.query('COMMIT');
      one.release();
    }
    return n;
  };
  const written = Array.from({ length: clients }, (_, client) => write(client));
  const failed = Promise.all(written);
  try {
    await Promise.race([during(), failed.then(() => new Promise<void>(() => undefined))]);
  } finally {
    over = true;
  }
  return (await failed).reduce((sum, n) => sum + n, 0);
}

export const countWrites = async (database: FreshDatabase): Promise<number> =>
  (await database.query<{ n: number }>('SELECT count(*)::int AS n FROM writes'))[0]?.n ?? 0;
