/**
 * The parent's side of the writer: starts the process, tells it which period begins, asks for checks of its ledger. It measures nothing
 * itself: every figure about the writer comes from the writer's own process.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join, resolve, sep } from 'node:path';
import { Problem } from '../../plan/model/errors';
import type { LedgerCheck } from './ledger';
import type { PeriodReport } from './latency';
import type { Workload } from './workload';

export type ToWriter =
  | { readonly type: 'start'; readonly workload: Workload; readonly rate: number; readonly connections: number }
  | { readonly type: 'period'; readonly name: string }
  | { readonly type: 'check' }
  | { readonly type: 'stop' };

export type FromWriter =
  | { readonly type: 'ready' }
  | { readonly type: 'tick'; readonly report: PeriodReport }
  | { readonly type: 'checked'; readonly check: LedgerCheck }
  | { readonly type: 'report'; readonly periods: readonly PeriodReport[] }
  | { readonly type: 'failed'; readonly code: string };

/** Operations a second, over `WRITER_CONNECTIONS` connections. */
export const WRITER_RATE = 200;
export const WRITER_CONNECTIONS = 4;

/** The compiled entry, also when this file itself runs uncompiled (tests). */
const entry = (): string => {
  const here = join(__dirname, 'writerProcess.js');
  if (!__filename.endsWith('.ts')) return here;
  return here.replace(resolve(__dirname, '..', '..') + sep, resolve(__dirname, '..', '..', 'dist') + sep);
};

/** Where the writer's clients come from, when it is not one database alone: the router library, which follows a switch. */
export interface WriterRoute {
  readonly route: string;
  readonly green: string;
}

export class Writer {
  readonly #child: ChildProcess;
  #waiting: { type: FromWriter['type']; resolve: (message: FromWriter) => void; reject: (e: Error) => void } | null =
    null;
  #ended = false;
  /** The last second's view, for progress lines. */
  latest: PeriodReport | null = null;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message: FromWriter) => this.#hear(message));
    child.on('exit', () => {
      this.#ended = true;
      this.#fail('the writer process ended');
    });
  }

  /** Starts the process and waits for its first connections. URLs go by environment, never by argument. */
  static async start(
    url: string,
    workload: Workload,
    rate = WRITER_RATE,
    connections = WRITER_CONNECTIONS,
    routed?: WriterRoute,
  ): Promise<Writer> {
    const follows = routed ? { DEMO_WRITER_ROUTE: routed.route, DEMO_WRITER_GREEN_URL: routed.green } : {};
    const child = fork(entry(), [], {
      env: { ...process.env, DEMO_WRITER_URL: url, ...follows },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const writer = new Writer(child);
    await writer.#ask({ type: 'start', workload, rate, connections }, 'ready');
    return writer;
  }

  /** Figures from now on belong to this period. */
  period(name: string): void {
    this.#send({ type: 'period', name });
  }

  /** Holds the writer for a moment and compares its ledger with the table. */
  async check(): Promise<LedgerCheck> {
    const answer = await this.#ask({ type: 'check' }, 'checked');
    if (answer.type !== 'checked') throw new Problem('Bug', 'the writer answered something else');
    return answer.check;
  }

  /** Ends the process and answers what it measured, period by period. */
  async stop(): Promise<readonly PeriodReport[]> {
    const answer = await this.#ask({ type: 'stop' }, 'report');
    if (answer.type !== 'report') throw new Problem('Bug', 'the writer answered something else');
    return answer.periods;
  }

  /** For failures of the story: no figures, just gone. */
  kill(): void {
    if (!this.#ended) this.#child.kill('SIGKILL');
  }

  #ask(message: ToWriter, type: FromWriter['type']): Promise<FromWriter> {
    return new Promise((resolvePromise, reject) => {
      this.#waiting = { type, resolve: resolvePromise, reject };
      this.#send(message);
    });
  }

  #send(message: ToWriter): void {
    if (this.#ended) throw new Problem('Bug', 'the writer process is gone');
    this.#child.send(message);
  }

  #hear(message: FromWriter): void {
    if (message.type === 'tick') this.latest = message.report;
    else if (message.type === 'failed') this.#fail(`the writer failed (${message.code})`);
    else if (this.#waiting?.type === message.type) {
      this.#waiting.resolve(message);
      this.#waiting = null;
    }
  }

  #fail(what: string): void {
    this.#waiting?.reject(new Problem('Unreachable', what));
    this.#waiting = null;
  }
}
