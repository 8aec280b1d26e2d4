/** jest calls this once, before any test file. (jest asks for a default export: the one place that has one.) */
import { startTestServers, stopTestServers } from './servers';

export default async function globalSetup(): Promise<void> {
  try {
    await startTestServers();
  } catch (error) {
    await stopTestServers();
    throw error;
  }
}
