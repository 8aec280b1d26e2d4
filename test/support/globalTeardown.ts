/** jest calls this once, after all test files. */
import { stopTestServers } from './servers';

export default async function globalTeardown(): Promise<void> {
  await stopTestServers();
}
