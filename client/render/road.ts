/** The road of a blue-green or a canary for people. */
import type { Road } from '../../plan/model/road';
import type { Colors } from '../terminal';
import { table } from './table';

export interface RoadView {
  readonly road: Road;
  readonly file: string;
  /** Gate -> who or what opens it. */
  readonly gates: Readonly<Record<string, string>>;
}

export function renderRoad({ road, file, gates }: RoadView, colors: Colors): string {
  const rows = road.steps.flatMap(({ id, title, clients, wayBack }, i) => {
    // The gate of the switch is passed before clients wait, not in the step whose name it has.
    const gate = id === 'gate' ? gates['switch_traffic'] : id === 'switch_traffic' ? undefined : gates[id];
    const waits = gate === undefined ? [] : [['', `waits for ${gate}`, '', '']];
    const row = [`${i + 1} ${id}`, title, clients, wayBack];
    return id === 'gate' ? [row, ...waits] : [...waits, row];
  });
  return [
    `${colors.bold(road.name)} from ${road.database} to ${road.green}          mode: ${road.mode}`,
    table([{ title: 'step' }, { title: 'does', max: 72 }, { title: 'clients' }, { title: 'way back', max: 40 }], rows, {
      heading: colors.dim,
    }),
    ...road.notes.map((note) => colors.dim(note)),
    `Nothing was changed. Run it:  pgshift start ${file} --watch`,
  ].join('\n');
}
