/** `pgshift dev`: the whole stack on this machine; worker/dev.ts runs it. */
import { resolve } from 'node:path';
import type { Context } from '../context';
import { runDev } from '../../worker/dev';

interface DevOptions {
  readonly home?: string;
  readonly temporalPort?: number;
  readonly uiPort?: number;
  readonly postgresPort?: number;
  readonly metricsPort?: number;
  readonly postgres?: boolean;
  readonly worker?: boolean;
  readonly fresh?: boolean;
}

/** Ports that were given: only those are refused when they are taken. */
function ports(options: DevOptions): Readonly<Record<string, number>> {
  const { temporalPort: temporal, uiPort: ui, postgresPort: postgres, metricsPort: metrics } = options;
  const entries = Object.entries({ temporal, ui, postgres, metrics });
  return Object.fromEntries(entries.filter((entry): entry is [string, number] => entry[1] !== undefined));
}

export async function dev(context: Context, _args: readonly string[], options: DevOptions): Promise<void> {
  const { terminal } = context;
  await runDev({
    ...(options.home === undefined ? {} : { home: resolve(options.home) }),
    ...(context.configFile === undefined ? {} : { configFile: context.configFile }),
    ports: ports(options),
    postgres: options.postgres === true,
    worker: options.worker !== false,
    fresh: options.fresh === true,
    json: terminal.json,
    log: terminal.note,
    // In a checkout people type npm's form; an installed command is on the PATH.
    command: process.env['npm_lifecycle_event'] === undefined ? 'pgshift' : 'npm run pgshift --',
  });
}
