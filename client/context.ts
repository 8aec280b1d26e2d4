/** What every command gets: the terminal, the flags that hold everywhere, and the way to Temporal and to databases, opened when they are first asked for. */
import { hostname, userInfo } from 'node:os';
import type { Config } from '../worker/config';
import type { Temporal } from './temporal';
import type { Terminal } from './terminal';

export interface GlobalOptions {
  readonly json?: boolean;
  readonly config?: string;
  readonly by?: string;
  readonly quiet?: boolean;
  readonly color?: boolean;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown'); // a container's user may have no name
  }
}

/** `--by`, else PGSHIFT_USER, else user@host. It is what the sender says of himself: Temporal decides who may send. */
export const defaultBy = (): string => process.env['PGSHIFT_USER'] || `${userName()}@${hostname()}`;

export class Context {
  readonly by: string;
  readonly configFile: string | undefined;
  #temporal: Promise<Temporal> | null = null;
  #config: Config | null = null;

  constructor(
    readonly terminal: Terminal,
    options: GlobalOptions,
  ) {
    this.by = options.by ?? defaultBy();
    this.configFile = options.config;
  }

  /** @throws Problem InvalidConfig, NoSuchFile. */
  async config(): Promise<Config> {
    if (this.#config === null) {
      const { loadConfig } = await import('../worker/config.js');
      this.#config = loadConfig(this.configFile === undefined ? {} : { file: this.configFile });
    }
    return this.#config;
  }

  /** One connection for the command; closed at its end. @throws Problem Unreachable, TlsFailed, LoginFailed, InvalidConfig. */
  temporal(): Promise<Temporal> {
    this.#temporal ??= this.#connect();
    return this.#temporal;
  }

  async #connect(): Promise<Temporal> {
    const config = await this.config();
    const [{ temporalOptions }, { Temporal }] = await Promise.all([
      import('../worker/temporal.js'),
      import('./temporal.js'),
    ]);
    return Temporal.connect({ ...temporalOptions(), taskQueue: config.taskQueue });
  }

  async close(): Promise<void> {
    const open = this.#temporal;
    this.#temporal = null;
    await open?.then((temporal) => temporal.close()).catch(() => undefined);
  }
}
