/** One run of the demo, from outside: followed with the same view as `pgshift watch`, decided by the Temporal CLI with nothing of ours. */
import { execFile } from 'node:child_process';
import { setMaxListeners } from 'node:events';
import { promisify } from 'node:util';
import { Problem } from '../../plan/model/errors';
import type { Report } from '../../plan/model/status';
import { temporalOptions } from '../../worker/temporal';
import { readReport } from '../commands/report';
import { readStatus } from '../commands/status';
import { follow } from '../follow';
import type { Until } from '../follow';
import { createProgressView } from '../render/progress';
import { Temporal } from '../temporal';
import type { Terminal } from '../terminal';
import type { Stage } from './stage';

const run = promisify(execFile);
const BY = 'demo@pgshift.example';

/** What a chapter is told with: Temporal as the stage runs it, and the end of its time (`longestMs`), so that what hangs is a failure with its place. */
export async function onTemporal<T>(
  { stack }: Stage,
  longestMs: number,
  tell: (temporal: Temporal, abort: AbortSignal) => Promise<T>,
): Promise<T> {
  const settings = temporalOptions({ env: stack.env, useDev: false });
  const temporal = await Temporal.connect({ ...settings, uiUrl: stack.uiUrl, taskQueue: 'pgshift' });
  try {
    const abort = AbortSignal.timeout(longestMs);
    setMaxListeners(0, abort); // one for each look at a run
    return await tell(temporal, abort);
  } finally {
    await temporal.close();
  }
}

export interface DemoStart {
  readonly type: 'schemaMigration' | 'blueGreen' | 'canary';
  readonly name: string;
  readonly kind: 'schema-migration' | 'blue-green' | 'canary';
  readonly argument: Readonly<Record<string, unknown>>;
}

export class DemoRun {
  constructor(
    readonly id: string,
    readonly stage: Stage,
    readonly terminal: Terminal,
    readonly temporal: Temporal,
    readonly signal: AbortSignal,
  ) {}

  get link(): string | null {
    return this.temporal.url(this.id);
  }

  async start({ type, name, kind, argument }: DemoStart): Promise<void> {
    await this.temporal.start({
      type,
      id: this.id,
      argument,
      by: BY,
      summary: 'the demo of pgshift',
      attributes: { name, database: 'app', kind },
    });
    this.terminal.note(`started ${this.id}\n   look ${this.link ?? 'in the Web UI'}`);
  }

  /** Follows the run to a point; anything but that point is the end of the story. */
  async watch(until: Until): Promise<void> {
    const view = createProgressView(this.terminal.json ? { ...this.terminal, json: false } : this.terminal);
    try {
      const status = await follow(this.temporal, this.id, { until, signal: this.signal, onSnapshot: view.show });
      const wanted = until === 'rest' ? 'waiting' : until === 'hold' ? 'holding' : 'rolled_back';
      if (status.status === wanted) return;
      throw new Problem(
        'StepFailed',
        `the run is ${status.status} in ${status.phase}, the demo expected ${wanted}: ${status.lastError?.message ?? status.waitingFor?.reason ?? 'no reason given'}`,
        { hint: `logs: ${this.stage.stack.home}/log` },
      );
    } finally {
      view.stop();
    }
  }

  /** A signal by the Temporal CLI: what a person could type. */
  async send(name: string, message: Readonly<Record<string, string>>): Promise<void> {
    const { stack } = this.stage;
    const input = JSON.stringify({ by: BY, ...message });
    const args = ['workflow', 'signal', '--workflow-id', this.id, '--name', name, '--input', input];
    this.terminal.note(`$ temporal ${args.slice(0, -1).join(' ')} '${input}'`);
    await run(stack.temporalCli?.path ?? 'temporal', [
      ...args,
      '--address',
      stack.temporalAddress,
      '--namespace',
      stack.namespace,
    ]);
  }

  report(): Promise<Report> {
    return readReport(this.temporal, this.id);
  }

  /** Status at its end. */
  async end(): Promise<string> {
    const seen = await this.temporal.describe(this.id);
    return seen === null ? 'unknown' : (await readStatus(this.temporal, seen)).status;
  }
}
