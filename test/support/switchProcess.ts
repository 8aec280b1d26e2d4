/** One switch as a process of its own, which a crash point kills. URLs and names come as JSON on stdin. */
import { withBoth } from '../../postgres/switch/pair';
import type { Side } from '../../plan/model/traffic';
import { target } from '../../postgres/types';
import { settleSide, switchOver } from './switchRun';
import { takeBack } from '../../postgres/switch/fence';
import { fencing } from './switchRun';

export interface SwitchOrder {
  readonly migration: string;
  readonly blue: string;
  readonly green: string;
  readonly from: Side;
  readonly do: 'switch' | 'take back';
}

async function main(): Promise<void> {
  let text = '';
  for await (const chunk of process.stdin) text += String(chunk);
  const order = JSON.parse(text) as SwitchOrder;
  const pair = { migration: order.migration, blue: target('blue', order.blue), green: target('green', order.green) };
  await withBoth(pair, 'switch', async (both) => {
    if (order.do === 'take back') return void (await takeBack(both, pair.migration, order.from, fencing));
    await switchOver(both, pair, order.from);
    await settleSide(both, pair, order.from === 'blue' ? 'green' : 'blue');
  });
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exit(1);
  },
);
