/**
 * Chapter "schema": a schema migration under live writes, killed in the middle, approved by a signal, taken back inside its hold. It
 * keeps true: whatever it prints about the outcome was looked at here, in the database or in the writer's own figures, and is a claim
 * that holds or fails the demo.
 */
import { execFile } from 'node:child_process';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { Problem } from '../../plan/model/errors';
import { validatePlan } from '../../plan/model/validate';
import { formatCount } from '../../plan/model/values';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { readCatalog } from '../../postgres/catalog/read';
import { temporalOptions } from '../../worker/temporal';
import { readReport } from '../commands/report';
import { readStatus } from '../commands/status';
import { follow } from '../follow';
import type { Until } from '../follow';
import { createProgressView } from '../render/progress';
import { Temporal } from '../temporal';
import type { Terminal } from '../terminal';
import { changeSql } from './change';
import { killInBackfill, resumed } from './kill';
import type { Resumed } from './kill';
import { judge } from './judge';
import type { Seen } from './judge';
import type { DemoPart } from './claims';
import { planText } from './planText';
import type { ShownPlan } from './planText';
import { readShape } from './shape';
import type { Shape } from './shape';
import type { Stage } from './stage';
import { tableOf } from './stage';
import { Writer } from './writer';

const run = promisify(execFile);

export const DEMO_MIGRATION = 'demo_precision';
const BY = 'demo@pgshift.example';
const BASELINE_MS = 8_000;
const HOLD_MS = 5_000;
/** The whole chapter must not hang: what takes longer is a failure, with the place where it stood. */
const CHAPTER_MS = 10 * 60_000;

export async function schemaChapter(stage: Stage, terminal: Terminal): Promise<DemoPart> {
  const client = new Client({ connectionString: stage.url, application_name: 'pgshift demo' });
  const settings = temporalOptions({ env: stage.stack.env, useDev: false });
  const temporal = await Temporal.connect({ ...settings, uiUrl: stage.stack.uiUrl, taskQueue: 'pgshift' });
  await client.connect();
  const writer = await Writer.start(stage.url, stage.workload);
  const abort = AbortSignal.timeout(CHAPTER_MS);
  setMaxListeners(0, abort); // one for each look at the run
  try {
    return await new SchemaStory(stage, terminal, client, temporal, writer, abort).tell();
  } finally {
    writer.kill();
    await client.end().catch(() => undefined);
    await temporal.close();
  }
}

class SchemaStory {
  readonly #id = `migration/app/${DEMO_MIGRATION}`;

  constructor(
    readonly stage: Stage,
    readonly terminal: Terminal,
    readonly client: Client,
    readonly temporal: Temporal,
    readonly writer: Writer,
    readonly signal: AbortSignal,
  ) {}

  async tell(): Promise<DemoPart> {
    const { stage, terminal, client, writer } = this;
    const began = Date.now();
    const before = await fingerprintCatalog(client);
    terminal.note('\nThe change, as it would be written for an idle database, and why it is not run like that:');
    for (const { sql, why } of stage.change.statements) terminal.note(`  ${sql};\n    ${why}`);
    const { plan, text } = await this.#plan();
    terminal.note(`\n${text}\n`);
    terminal.note(
      `a writer of its own process reads, updates, inserts and deletes: ${BASELINE_MS / 1000} s for its baseline`,
    );
    await sleep(BASELINE_MS);

    writer.period('during');
    const death = await this.#toTheGate();
    await this.#signal('approve', { gate: 'contract', reason: 'the proof is there' });
    await this.#watch('hold');
    writer.period('hold');
    terminal.note(`in the hold: ${HOLD_MS / 1000} s of writes to the new shape, the old one is kept in step`);
    await sleep(HOLD_MS);
    const report = await readReport(this.temporal, this.#id);
    const contracted = await this.#shape();
    const held = await writer.check();
    const inHold = await fingerprintCatalog(client);

    writer.period('rollback');
    await this.#signal('rollback', { reason: 'the demo takes it back' });
    await this.#watch('end');
    const after = await fingerprintCatalog(client);
    const taken = await writer.check();
    const seen: Seen = {
      stage,
      report,
      end: await this.#end(),
      death,
      contracted,
      shapeAfter: await this.#shape(),
      held,
      taken,
      asked: plan.asked,
      catalogue: { before, inHold, after },
      periods: await writer.stop(),
      link: this.temporal.url(this.#id),
      seconds: (Date.now() - began) / 1000,
    };
    return judge(seen);
  }

  /** The steps, as `pgshift plan` shows them. */
  async #plan(): Promise<ShownPlan> {
    return planText(validatePlan(this.#planInput()), await readCatalog(this.client), this.terminal.errorColors);
  }

  #planInput(): Record<string, unknown> {
    return {
      kind: 'schema-migration',
      name: DEMO_MIGRATION,
      description: 'the demo: a type, a NOT NULL column, a foreign key and indexes',
      database: 'app',
      sql: changeSql(this.stage.change),
      gates: { contract: 'manual' },
      hold: '1h',
    };
  }

  /** Start, death in the backfill, and on to the gate. */
  async #toTheGate(): Promise<Resumed | null> {
    const { stage, client, terminal } = this;
    await this.temporal.start({
      type: 'schemaMigration',
      id: this.#id,
      argument: this.#planInput(),
      by: BY,
      summary: 'the demo of pgshift',
      attributes: { name: DEMO_MIGRATION, database: 'app', kind: 'schema-migration' },
    });
    terminal.note(`started ${this.#id}\n   look ${this.temporal.url(this.#id) ?? 'in the Web UI'}`);
    const over = new AbortController();
    const asked = { migration: DEMO_MIGRATION, rows: stage.rows, signal: AbortSignal.any([over.signal, this.signal]) };
    const killing = killInBackfill(client, stage.stack, asked).then((death) => {
      if (death)
        terminal.note(
          `\nkill -9 of worker ${death.oldPid}, ${formatCount(death.rowsBefore)} rows into ${death.step}\n`,
        );
      return death;
    });
    try {
      await this.#watch('rest');
    } finally {
      over.abort();
    }
    const death = await killing;
    if (death === null) return null;
    const total = await client.query<{ n: string }>(`SELECT count(*) AS n FROM ${tableOf(stage.change)}`);
    return resumed(client, stage.stack, death, { migration: DEMO_MIGRATION, total: Number(total.rows[0]?.n ?? 0) });
  }

  /** Follows the run to a point; anything but that point is the end of the story. */
  async #watch(until: Until): Promise<void> {
    const view = createProgressView(this.terminal.json ? { ...this.terminal, json: false } : this.terminal);
    try {
      const status = await follow(this.temporal, this.#id, { until, signal: this.signal, onSnapshot: view.show });
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

  /** A signal by the Temporal CLI, with nothing of ours: what a person could type. */
  async #signal(name: string, message: Readonly<Record<string, string>>): Promise<void> {
    const { stack } = this.stage;
    const input = JSON.stringify({ by: BY, ...message });
    const args = ['workflow', 'signal', '--workflow-id', this.#id, '--name', name, '--input', input];
    this.terminal.note(`$ temporal ${args.slice(0, -1).join(' ')} '${input}'`);
    await run(stack.temporalCli?.path ?? 'temporal', [
      ...args,
      '--address',
      stack.temporalAddress,
      '--namespace',
      stack.namespace,
    ]);
  }

  async #end(): Promise<string> {
    const seen = await this.temporal.describe(this.#id);
    return seen === null ? 'unknown' : (await readStatus(this.temporal, seen)).status;
  }

  #shape(): Promise<Shape> {
    return readShape(this.client, this.stage.change);
  }
}
