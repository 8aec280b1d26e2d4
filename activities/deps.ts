/** What activities are given by the composition root: nothing is read from the environment in here. */
import type { Settings } from '../plan/model/state';
import type { Config } from '../worker/config';
import type { Log } from '../worker/logger';
import type { Metrics } from '../worker/metrics';

export interface ActivityDeps {
  readonly config: Config;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly settings: Settings;
}
