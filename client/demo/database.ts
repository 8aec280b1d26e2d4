/** The demo's own connections. Keeps true: a server that goes while one of them is idle ends no process; the next query on it says so. */
import { Client } from 'pg';

/** @param url a secret. */
export async function openDatabase(url: string): Promise<Client> {
  const client = new Client({ connectionString: url, application_name: 'pgshift demo' });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** A look at a database by a session of its own: the fence of a switch ends whatever stays open. */
export async function onDatabase<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await openDatabase(url);
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
