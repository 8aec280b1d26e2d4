/** `pgshift list` for people. */
import type { RunStatus } from '../../plan/model/status';
import type { Colors } from '../terminal';
import { table } from './table';
import { between, statusWord, utc } from './words';

export interface ListItem {
  readonly id: string;
  readonly name: string;
  readonly database: string;
  readonly kind: string;
  readonly status: RunStatus;
  readonly phase: string | null;
  readonly waitingFor: string | null;
  readonly percent: number | null;
  readonly startedAt: string;
  readonly endedAt: string | null;
}

export function renderList(items: readonly ListItem[], colors: Colors): string {
  if (items.length === 0) return 'no runs';
  return table(
    [
      { title: 'name' },
      { title: 'database' },
      { title: 'kind' },
      { title: 'status' },
      { title: 'phase' },
      { title: 'waits for' },
      { title: '%', align: 'right' },
      { title: 'started' },
      { title: 'took', align: 'right' },
    ],
    items.map((item) => [
      item.name,
      item.database,
      item.kind,
      statusWord(item.status, colors),
      item.phase ?? '-',
      item.waitingFor ?? '-',
      item.percent === null ? '-' : String(Math.floor(item.percent)),
      utc(item.startedAt),
      between(item.startedAt, item.endedAt),
    ]),
    { heading: colors.dim, indent: '' },
  );
}
