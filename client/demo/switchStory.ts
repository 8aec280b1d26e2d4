/**
 * Chapter "bluegreen": the shop moves to another database under live writes, approved by a signal, and comes back inside its hold. It keeps true: the
 * writer is an application like any other, with a role of its own and the router library; whatever is said of the outcome was looked at here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { roadOf } from '../../plan/model/road';
import { validateBlueGreen } from '../../plan/model/validate';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { openers } from '../gates';
import { renderRoad } from '../render/road';
import type { Terminal } from '../terminal';
import type { DemoPart } from './claims';
import { onDatabase } from './database';
import { DemoRun, onTemporal } from './run';
import { leftOver, openRoutedShop, SHOP } from './shop';
import type { PairStage } from './shop';
import type { Stage } from './stage';
import { tableOf } from './stage';
import { judgeSwitch } from './switchJudge';
import type { SwitchSeen } from './switchJudge';
import type { Writer } from './writer';

const NAME = 'demo_move';
const BASELINE_MS = 5_000;
const ON_GREEN_MS = 5_000;
/** The whole chapter must not hang: what takes longer is a failure, with the place where it stood. */
const CHAPTER_MS = 10 * 60_000;

/** @param before the chapters that ran on this stage already: their writer's rows are still there. */
export function switchChapter(stage: PairStage, terminal: Terminal, before: readonly string[]): Promise<DemoPart> {
  return onTemporal(stage, CHAPTER_MS, async (temporal, abort) => {
    const { writer } = await openRoutedShop(stage, before);
    try {
      const run = new DemoRun(`migration/app/${NAME}`, stage, terminal, temporal, abort);
      return await tell({ stage, terminal, run, writer });
    } finally {
      writer.kill();
    }
  });
}

interface Scene {
  readonly stage: PairStage;
  readonly terminal: Terminal;
  readonly run: DemoRun;
  readonly writer: Writer;
}

const PLAN = {
  kind: 'blue-green',
  name: NAME,
  description: 'the demo: the shop moves to another database',
  blue: 'app',
  green: 'green',
  traffic: [{ type: 'router', route: SHOP }],
  gates: { switch_traffic: 'manual' },
  monitor: { duration: '1s' },
  hold: '1h',
} as const;

async function tell(scene: Scene): Promise<DemoPart> {
  const { stage, terminal, run, writer } = scene;
  const began = Date.now();
  const before = await onDatabase(stage.url, (client) => fingerprintCatalog(client));
  const plan = validateBlueGreen(PLAN);
  const road = renderRoad({ road: roadOf(plan), file: 'demo', gates: openers(plan) }, terminal.errorColors);
  // The demo runs it itself: the line that says how to is not for here.
  terminal.note(`\n${road.replace(/^Nothing was changed\. Run it:.*$/m, '').trimEnd()}\n`);
  terminal.note(`a writer of its own process works through the router: ${BASELINE_MS / 1000} s for its baseline`);
  await sleep(BASELINE_MS);

  writer.period('sync');
  await run.start({ type: 'blueGreen', name: NAME, kind: 'blue-green', argument: PLAN });
  await run.watch('rest');
  writer.period('switch');
  await run.send('approve', { gate: 'switch_traffic', reason: 'every row is there' });
  await run.watch('hold');
  writer.period('on green');
  terminal.note(`the writes are on green: ${ON_GREEN_MS / 1000} s of them, blue follows`);
  await sleep(ON_GREEN_MS);
  const there = await run.report();
  const onGreen = await writer.check();
  const refused = await strayWrite(stage);

  writer.period('way back');
  await run.send('rollback', { reason: 'the demo goes back' });
  await run.watch('end');
  const back = await run.report();
  const onBlue = await writer.check();
  const seen: SwitchSeen = {
    rows: stage.rows,
    maxPause: plan.switch.maxPause,
    there,
    back,
    end: await run.end(),
    onGreen,
    onBlue,
    refused,
    catalogue: { before, after: await onDatabase(stage.url, (client) => fingerprintCatalog(client)) },
    left: await leftOver(stage, NAME),
    periods: await writer.stop(),
    link: run.link,
    seconds: (Date.now() - began) / 1000,
  };
  return judgeSwitch(seen);
}

/** A superuser writes past everything that leads clients: SQLSTATE of what blue says to that, or 'none'. */
const strayWrite = ({ url, change }: Stage): Promise<string> =>
  onDatabase(url, (client) => client.query(`DELETE FROM ${tableOf(change)} WHERE false`)).then(
    () => 'none',
    (error: { code?: string }) => error.code ?? 'unknown',
  );
