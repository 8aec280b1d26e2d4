/**
 * Chapter "canary": the shop begins to move to another database, a few people first, and that database has a fault that was not there when every row was
 * compared. Once for each fault: it must be found at the first stage, by what was measured, and everybody be sent home without a person. Keeps true: faults
 * are made past pgshift, which knows nothing of them; whatever is said of the outcome was looked at here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { roadOf } from '../../plan/model/road';
import type { CanaryPlan } from '../../plan/model/canary';
import { validateCanary } from '../../plan/model/validateCanary';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { openers } from '../gates';
import { renderRoad } from '../render/road';
import type { Terminal } from '../terminal';
import { judgeCanary } from './canaryJudge';
import type { FaultSeen } from './canaryJudge';
import type { DemoPart } from './claims';
import { onDatabase } from './database';
import { FAULTS } from './faults';
import type { Fault } from './faults';
import { Readers } from './readers';
import { DemoRun, onTemporal } from './run';
import { leftOver, openRoutedShop, SHOP } from './shop';
import type { PairStage, ShopUrls } from './shop';

const BASELINE_MS = 3_000;
/** Of the people, in the first stage. */
const FIRST_PERCENT = 5;
/** The whole chapter must not hang: what takes longer is a failure, with the place where it stood. */
const CHAPTER_MS = 15 * 60_000;

/** Its first stage waits for a person, so that the fault can be made between the proof and the first people. */
function planOf({ name, says, moves, metric, analysis }: Fault): Record<string, unknown> {
  const stage = { duration: '60s', analysis: [metric] };
  return {
    kind: 'canary',
    name: `demo_few_${name}`,
    description: `the demo: ${says}`,
    blue: 'app',
    green: 'green',
    traffic: [{ type: 'router', route: SHOP }],
    routing: { moves },
    analyses: { [metric]: analysis },
    stages: [
      { name: 'alpha', percent: FIRST_PERCENT, ...stage },
      { name: 'beta', percent: 20, ...stage },
      { name: 'production', percent: 100, ...stage },
    ],
    // A fault that is not found must end the story, too.
    gates: { alpha: 'manual', beta: { type: 'manual', expires: '1s' } },
    hold: '1h',
  };
}

/** @param before the chapters that ran on this stage already: their writer's rows are still there. */
export function canaryChapter(stage: PairStage, terminal: Terminal, before: readonly string[]): Promise<DemoPart> {
  return onTemporal(stage, CHAPTER_MS, async (temporal, abort) => {
    const began = Date.now();
    const { writer, urls } = await openRoutedShop(stage, before);
    try {
      const catalogue = await onDatabase(stage.url, (client) => fingerprintCatalog(client));
      showRoad(terminal);
      terminal.note(`a writer of its own process works through the router: ${BASELINE_MS / 1000} s for its baseline`);
      await sleep(BASELINE_MS);
      const faults: FaultSeen[] = [];
      for (const fault of FAULTS) {
        writer.period(fault.name);
        const run = new DemoRun(`migration/app/demo_few_${fault.name}`, stage, terminal, temporal, abort);
        faults.push(await tell({ stage, terminal, run, fault, urls }));
      }
      return judgeCanary({
        faults,
        rows: stage.rows,
        percent: FIRST_PERCENT,
        ledger: await writer.check(),
        catalogue: { before: catalogue, after: await onDatabase(stage.url, (client) => fingerprintCatalog(client)) },
        periods: await writer.stop(),
        seconds: (Date.now() - began) / 1000,
      });
    } finally {
      writer.kill();
    }
  });
}

function showRoad(terminal: Terminal): void {
  const [first] = FAULTS;
  if (first === undefined) return;
  const plan: CanaryPlan = validateCanary(planOf(first));
  const road = renderRoad({ road: roadOf(plan), file: 'demo', gates: openers(plan) }, terminal.errorColors);
  // The demo runs it itself: the line that says how to is not for here.
  terminal.note(`\n${road.replace(/^Nothing was changed\. Run it:.*$/m, '').trimEnd()}\n`);
}

interface Scene {
  readonly stage: PairStage;
  readonly terminal: Terminal;
  readonly run: DemoRun;
  readonly fault: Fault;
  readonly urls: ShopUrls;
}

/** One fault, from the proof that there is none to everybody at home. */
async function tell({ stage, terminal, run, fault, urls }: Scene): Promise<FaultSeen> {
  const argument = planOf(fault);
  const name = `demo_few_${fault.name}`;
  const readers = new Readers({
    ...{ urls, route: SHOP, workload: stage.workload, salt: name, percent: FIRST_PERCENT },
    saysWhere: fault.moves === 'reads',
  });
  try {
    await readers.start();
    await run.start({ type: 'canary', name, kind: 'canary', argument });
    await run.watch('rest');
    await onDatabase(stage.greenUrl, (green) => fault.inject(green, stage, readers.keys));
    terminal.note(`\nevery row was compared; now ${fault.says}. Nobody tells pgshift.\n`);
    await run.send('approve', { gate: 'alpha', reason: 'every row is there' });
    await run.watch('end');
    const report = await run.report();
    return {
      fault,
      report,
      end: await run.end(),
      readers: await readers.stop(),
      left: await leftOver(stage, name),
      link: run.link,
    };
  } finally {
    await readers.abandon();
    await onDatabase(stage.greenUrl, (green) => fault.heal(green));
  }
}
