/**
 * The admin console of one PgBouncer. It speaks the simple protocol alone. Keeps true: a command that does not answer in time takes its
 * connection with it (a RESUME beside a PAUSE that still waits would leave that PAUSE waiting for ever); no URL in an error.
 */
import { Socket } from 'node:net';
import { Client } from 'pg';
import { addressOf, connectionString } from '../../postgres/session';
import type { Target } from '../../postgres/types';
import type { Deadline } from '../deadline';
import { failed } from '../deadline';

export type ConsoleRow = Readonly<Record<string, string | null>>;

const CONNECT_MS = 2_000;
/** Everything as it is printed: which columns are numbers differs between versions. */
const TEXT = { getTypeParser: () => (value: string) => value };
const STOPPED = Symbol('stopped');

export class Console {
  #line: { readonly client: Client; readonly socket: Socket } | null = null;

  constructor(private readonly target: Target) {}

  get name(): string {
    return this.target.name;
  }

  /** A unix socket: always the same process. */
  get isLocal(): boolean {
    return new Client({ connectionString: connectionString(this.target) }).host.startsWith('/');
  }

  /** Runs one command. @throws Problem TrafficFailed: unreachable, refused, or not answered by the deadline. */
  async rows(command: string, deadline: Deadline): Promise<ConsoleRow[]> {
    const answer = await this.tryRows(command, deadline);
    if (answer === null) throw this.#failed(`${command.split(' ')[0]} was not answered in time`);
    return answer;
  }

  /** As `rows`; null when it was not answered by the deadline: the connection is closed then, and the command given up. */
  async tryRows(command: string, deadline: Deadline): Promise<ConsoleRow[] | null> {
    deadline.signal.throwIfAborted();
    const line = this.#line ?? (await this.#connect(deadline));
    try {
      const answer = await deadline.race<ConsoleRow[] | typeof STOPPED>(
        line.client.query<Record<string, string | null>>(command).then(({ rows }) => rows),
        () => STOPPED,
      );
      if (answer !== STOPPED) return answer;
      this.#drop();
      return null;
    } catch (error) {
      const code = (error as { code?: unknown } | null)?.code;
      if (deadline.signal.aborted) this.#drop();
      deadline.signal.throwIfAborted();
      // Its own sentences name databases and commands, never data.
      if ((error as { severity?: unknown }).severity !== undefined)
        throw this.#failed(`${command.split(' ')[0]} was refused: ${(error as Error).message}`);
      this.#drop();
      throw this.#failed(`the connection broke${typeof code === 'string' ? ` (${code})` : ''}`);
    }
  }

  async #connect(deadline: Deadline) {
    const socket = new Socket();
    const client = new Client({
      connectionString: connectionString(this.target),
      connectionTimeoutMillis: Math.max(1, Math.min(CONNECT_MS, deadline.leftMs)),
      stream: () => socket,
      types: TEXT,
    });
    const line = { client, socket };
    const lost = (): void => {
      if (this.#line === line) this.#line = null;
    };
    client.on('error', lost);
    client.on('end', lost);
    try {
      await client.connect();
    } catch (error) {
      socket.destroy();
      const code = (error as { code?: unknown } | null)?.code;
      throw this.#failed(`its console does not let us in${typeof code === 'string' ? ` (${code})` : ''}`);
    }
    this.#line = line;
    return line;
  }

  #failed(what: string) {
    return failed(`pgbouncer ${this.target.name} (${addressOf(this.target).where})`, what);
  }

  #drop(): void {
    const line = this.#line;
    this.#line = null;
    line?.socket.destroy();
  }

  async close(): Promise<void> {
    this.#drop();
  }
}
