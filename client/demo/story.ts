/**
 * Chapter "schema": a schema migration under live writes, killed in the middle, approved by a signal, taken back inside its hold. It
 * keeps true: whatever it prints about the outcome was looked at here, in the database or in the writer's own figures, and is a claim
 * that holds or fails the demo.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { validatePlan } from '../../plan/model/validate';
import { formatCount } from '../../plan/model/values';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { readCatalog } from '../../postgres/catalog/read';
import type { Terminal } from '../terminal';
import { changeSql } from './change';
import { openDatabase } from './database';
import { killInBackfill, resumed } from './kill';
import type { Resumed } from './kill';
import { judge } from './judge';
import type { Seen } from './judge';
import type { DemoPart } from './claims';
import { DemoRun, onTemporal } from './run';
import { planText } from './planText';
import type { ShownPlan } from './planText';
import { readShape } from './shape';
import type { Shape } from './shape';
import type { Stage } from './stage';
import { tableOf } from './stage';
import { Writer } from './writer';

export const DEMO_MIGRATION = 'demo_precision';
const BASELINE_MS = 8_000;
const HOLD_MS = 5_000;
/** The whole chapter must not hang: what takes longer is a failure, with the place where it stood. */
const CHAPTER_MS = 10 * 60_000;

export const schemaChapter = (stage: Stage, terminal: Terminal): Promise<DemoPart> =>
  onTemporal(stage, CHAPTER_MS, async (temporal, abort) => {
    const client = await openDatabase(stage.url);
    const writer = await Writer.start(stage.url, stage.workload);
    try {
      const run = new DemoRun(`migration/app/${DEMO_MIGRATION}`, stage, terminal, temporal, abort);
      return await new SchemaStory(stage, terminal, client, run, writer, abort).tell();
    } finally {
      writer.kill();
      await client.end().catch(() => undefined);
    }
  });

class SchemaStory {
  constructor(
    readonly stage: Stage,
    readonly terminal: Terminal,
    readonly client: Client,
    readonly run: DemoRun,
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
    await this.run.send('approve', { gate: 'contract', reason: 'the proof is there' });
    await this.run.watch('hold');
    writer.period('hold');
    terminal.note(`in the hold: ${HOLD_MS / 1000} s of writes to the new shape, the old one is kept in step`);
    await sleep(HOLD_MS);
    const report = await this.run.report();
    const contracted = await this.#shape();
    const held = await writer.check();
    const inHold = await fingerprintCatalog(client);

    writer.period('rollback');
    await this.run.send('rollback', { reason: 'the demo takes it back' });
    await this.run.watch('end');
    const after = await fingerprintCatalog(client);
    const taken = await writer.check();
    const seen: Seen = {
      stage,
      report,
      end: await this.run.end(),
      death,
      contracted,
      shapeAfter: await this.#shape(),
      held,
      taken,
      asked: plan.asked,
      catalogue: { before, inHold, after },
      periods: await writer.stop(),
      link: this.run.link,
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
    const argument = this.#planInput();
    await this.run.start({ type: 'schemaMigration', name: DEMO_MIGRATION, kind: 'schema-migration', argument });
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
      await this.run.watch('rest');
    } finally {
      over.abort();
    }
    const death = await killing;
    if (death === null) return null;
    const total = await client.query<{ n: string }>(`SELECT count(*) AS n FROM ${tableOf(stage.change)}`);
    return resumed(client, stage.stack, death, { migration: DEMO_MIGRATION, total: Number(total.rows[0]?.n ?? 0) });
  }

  #shape(): Promise<Shape> {
    return readShape(this.client, this.stage.change);
  }
}
