/**
 * Where Temporal is: its standard environment configuration (variables, then TOML), else a running `pgshift dev`, else this machine.
 * Nothing of ours: what the `temporal` CLI reaches, pgshift reaches.
 */
import { loadClientConnectConfig } from '@temporalio/envconfig';
import type { ClientConnectConfig } from '@temporalio/envconfig';
import { Problem } from '../plan/model/errors';
import { homeFolder, liveDevFile } from './devFile';

export const DEFAULT_ADDRESS = '127.0.0.1:7233';
export const DEFAULT_NAMESPACE = 'default';

export interface TemporalLocation {
  readonly address: string;
  readonly namespace: string;
  readonly from: 'configuration' | 'dev' | 'default';
  /** For Connection.connect and NativeConnection.connect alike; may hold an API key: never print it. */
  readonly connectionOptions: ClientConnectConfig['connectionOptions'];
  /** Base of the Web UI when it is known (dev), for links. */
  readonly uiUrl: string | null;
}

export interface TemporalSources {
  readonly env?: NodeJS.ProcessEnv;
  /** false = do not look for a running `pgshift dev`. */
  readonly useDev?: boolean;
}

/** Throws InvalidConfig when Temporal's own configuration cannot be read. */
export function temporalOptions({ env = process.env, useDev = true }: TemporalSources = {}): TemporalLocation {
  const given = standardConfiguration(env);
  const namespace = given.namespace ?? DEFAULT_NAMESPACE;
  const { address } = given.connectionOptions;
  const dev = useDev ? liveDevFile(homeFolder(env)) : null;
  if (address) {
    const uiUrl = dev?.temporalAddress === address ? dev.uiUrl : null;
    return { address, namespace, from: 'configuration', connectionOptions: given.connectionOptions, uiUrl };
  }
  if (dev?.temporalAddress) {
    // TLS or keys that are set for another server say nothing about this one.
    const connectionOptions = { address: dev.temporalAddress };
    return { address: dev.temporalAddress, namespace, from: 'dev', connectionOptions, uiUrl: dev.uiUrl };
  }
  const connectionOptions = { ...given.connectionOptions, address: DEFAULT_ADDRESS };
  return { address: DEFAULT_ADDRESS, namespace, from: 'default', connectionOptions, uiUrl: 'http://127.0.0.1:8233' };
}

function standardConfiguration(env: NodeJS.ProcessEnv): ClientConnectConfig {
  const set = Object.entries(env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== '',
  );
  try {
    return loadClientConnectConfig({ overrideEnvVars: Object.fromEntries(set) });
  } catch (error) {
    throw new Problem('InvalidConfig', "Temporal's environment configuration cannot be read", {
      // Its messages name variables, profiles and files, never a key's value.
      value: error instanceof Error ? error.message.slice(0, 200) : undefined,
      hint: 'check the TEMPORAL_* variables and the file that TEMPORAL_CONFIG_FILE names',
    });
  }
}
