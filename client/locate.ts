/**
 * How a command finds what it talks to: TEMPORAL_* (or its TOML), else a live `pgshift dev` in PGSHIFT_HOME, else 127.0.0.1:7233;
 * databases likewise: configured ones, joined by those of a live `dev`.
 */
import { loadConfig } from '../worker/config';
import type { Config, ConfigSources } from '../worker/config';
import { temporalOptions } from '../worker/temporal';
import type { TemporalLocation } from '../worker/temporal';

export interface Located {
  readonly config: Config;
  readonly temporal: TemporalLocation;
}

/** Throws InvalidConfig and NoSuchFile; connects to nothing. */
export function locate(sources: ConfigSources = {}): Located {
  return { config: loadConfig(sources), temporal: temporalOptions({ env: sources.env, useDev: sources.useDev }) };
}

/** The run's page in the Web UI; null when no UI is known. */
export function webUiLink(temporal: TemporalLocation, workflowId: string): string | null {
  if (temporal.uiUrl === null) return null;
  return `${temporal.uiUrl}/namespaces/${encodeURIComponent(temporal.namespace)}/workflows/${encodeURIComponent(workflowId)}`;
}
