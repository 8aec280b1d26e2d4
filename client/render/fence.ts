/** The two sides of a switch for people: one line each, then what is true. */
import type { FenceStatus, Released, SideStatus } from '../../postgres/switch/release';
import type { Colors } from '../terminal';
import { table } from './table';

function about(side: SideStatus): string {
  if (!side.reachable) return 'does not answer';
  const parts = [
    side.walled === null || side.walled === 0 ? null : `${side.walled} tables walled`,
    side.gaps.length > 0 ? `OPEN: ${side.gaps.slice(0, 5).join(', ')}` : null,
    side.closed === true ? 'CONNECT taken away' : null,
    side.position === null ? null : `fenced at ${side.position}`,
  ];
  return parts.filter((part) => part !== null).join(', ');
}

const writes = ({ reachable, writable }: SideStatus): string =>
  writable === null ? (reachable ? 'no guard row' : 'unknown') : writable ? 'takes writes' : 'fenced';

export function renderFence(status: FenceStatus, done: Released | null, colors: Colors): string {
  const lines = [
    table(
      [
        { title: 'side' },
        { title: 'database' },
        { title: 'writes' },
        { title: 'epoch', align: 'right' },
        { title: '' },
      ],
      (['blue', 'green'] as const).map((side) => [
        side,
        status[side].database,
        writes(status[side]),
        String(status[side].epoch ?? '-'),
        about(status[side]),
      ]),
    ),
    '',
  ];
  const { writable, because, guard } = status;
  if (guard === null) lines.push('no switch is under way between these databases');
  else if (writable === 'blue' || writable === 'green')
    lines.push(`${guard}: ${colors.green(writable)} takes the writes (${because})`);
  else
    lines.push(
      `${guard}: ${colors.red(writable === 'both' ? 'BOTH' : writable === 'none' ? 'NEITHER' : 'UNKNOWN')}: ${because}`,
    );
  if (writable === 'none') lines.push('repair it:  pgshift fence release --yes  with --blue and --green as here');
  if (done) lines.push(`${done.side}: ${done.did}`, ...done.notes.map((note) => `  ${note}`));
  return lines.join('\n');
}
