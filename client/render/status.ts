/** One run for people: where it is, what it waits for and why, who decided, and what to type next. */
import type { Progress, Status } from '../../plan/model/status';
import { formatBytes, formatCount, formatDuration } from '../../plan/model/values';
import type { Colors } from '../terminal';
import { pairs, table } from './table';
import { between, shortRelation, statusWord, utc } from './words';

/** With `live: false` when no worker answered and only Temporal's visibility is known. */
export type StatusView = Status & { readonly live: boolean };

export function renderProgress(progress: Progress): string {
  if (progress.tables.length === 0) return '';
  return table(
    [
      { title: 'table' },
      { title: 'rows', align: 'right' },
      { title: '%', align: 'right' },
      { title: 'rows/s', align: 'right' },
      { title: 'left', align: 'right' },
      { title: 'state' },
    ],
    progress.tables.map((t) => [
      shortRelation(t.table),
      `${formatCount(t.rowsDone)} of ${t.estimated ? '~' : ''}${formatCount(t.rowsTotal)}`,
      t.rowsTotal > 0 ? String(Math.min(100, Math.floor((100 * t.rowsDone) / t.rowsTotal))) : '-',
      formatCount(t.rowsPerSecond),
      !t.etaSeconds ? '-' : formatDuration(t.etaSeconds * 1_000),
      t.throttledBy === null ? t.state : `slowed by ${t.throttledBy}`,
    ]),
    { indent: '  ' },
  );
}

function waiting(status: Status, colors: Colors): [string, string][] {
  const wait = status.waitingFor;
  if (wait === null) return [];
  const what = wait.gate === null ? wait.type : `${wait.type} ${wait.gate}`;
  const until = wait.until === null ? '' : `, until ${utc(wait.until)}`;
  return [
    ['waits for', `${colors.yellow(what)} since ${utc(wait.since)}${until}: ${wait.reason}`],
    ['type', wait.commands.join('\n')],
  ];
}

const wayBackText = ({ wayBack }: Status): string => {
  if (!wayBack.possible) return wayBack.how === '' ? 'none' : `none: ${wayBack.how}`;
  const until = wayBack.until === null ? '' : ` until ${utc(wayBack.until)}`;
  return `${wayBack.how}${wayBack.lossless ? `, lossless${until}` : ', not lossless'}`;
};

export function renderStatus(
  status: StatusView,
  progress: Progress | null,
  url: string | null,
  colors: Colors,
): string {
  const step = status.step === null ? '' : `, step ${status.step}`;
  const lag = progress?.lagMs ?? null;
  const body = pairs(
    [
      ['status', `${statusWord(status.status, colors)}  (phase ${status.phase}${step})`],
      [
        'time',
        `${utc(status.startedAt)}, ${status.endedAt === null ? 'for' : 'took'} ${between(status.startedAt, status.endedAt)}`,
      ],
      ['writes go to', status.writableSide === undefined ? null : (status.writableSide ?? 'not known')],
      ...waiting(status, colors),
      ...status.approvals.map((a): [string, string] => [
        'decision',
        `${a.gate} ${a.verdict} by ${a.by} at ${utc(a.at)} (${a.via})${a.reason === null ? '' : `: ${a.reason}`}`,
      ]),
      [
        'error',
        status.lastError === null
          ? null
          : `${status.lastError.code}: ${status.lastError.message}\n${status.lastError.hint}`,
      ],
      ['way back', status.live ? wayBackText(status) : null],
      [
        'lag',
        lag === null
          ? null
          : `${formatDuration(lag)}${progress?.lagBytes ? `, ${formatBytes(progress.lagBytes)}` : ''}`,
      ],
      ...status.messages.map((m): [string, string] => [
        'refused',
        `${m.name} at ${utc(m.at)}: ${m.code}: ${m.message}`,
      ]),
      ['look', url],
    ],
    colors.dim,
  );
  const head = `${colors.bold(status.name)} on ${status.database}  (${status.kind}, ${status.mode}, ${status.id})`;
  const rows = progress === null || status.endedAt !== null ? '' : renderProgress(progress);
  const note = status.live
    ? ''
    : colors.yellow('no worker answers: this is what Temporal itself knows (start one: pgshift worker)');
  return [head, body, rows, note].filter((part) => part !== '').join('\n');
}
