/** `pgshift dev` from the sources as a process of its own, for tests that kill it. Settings come as JSON in the first argument. */
import { runDev } from '../../worker/dev';
import type { RunDevOptions } from '../../worker/dev';

runDev({ ...(JSON.parse(process.argv[2] ?? '{}') as RunDevOptions), json: true }).catch((error: unknown) => {
  process.stderr.write(`${JSON.stringify(error)}\n`);
  process.exitCode = 2;
});
