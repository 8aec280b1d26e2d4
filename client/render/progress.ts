/**
 * A followed run, while it moves: bars with rate and time left on a terminal, plain lines in a pipe (one for each step, and one for each ten per cent), JSON
 * lines with --json. All of it on stderr, except the JSON, which is the answer.
 */
import { MultiBar } from 'cli-progress';
import type { SingleBar } from 'cli-progress';
import type { Progress, TableProgress } from '../../plan/model/status';
import { FOR_WRITERS } from '../../plan/model/status';
import { formatCount, formatDuration } from '../../plan/model/values';
import type { Snapshot } from '../follow';
import type { Terminal } from '../terminal';
import { pairs } from './table';
import { shortRelation } from './words';

export interface ProgressView {
  show(snapshot: Snapshot): void;
  stop(): void;
}

const time = (): string => new Date().toISOString().slice(11, 19);

const rate = (table: TableProgress): string => {
  if (table.state === 'done') return 'done';
  const rows = `${formatCount(table.rowsPerSecond)} rows/s`;
  if (table.throttledBy === null) return rows;
  return table.throttledBy === FOR_WRITERS ? `${rows}, gentle to ${FOR_WRITERS}` : `slowed by ${table.throttledBy}`;
};

const left = (seconds: number | null): string => (!seconds ? '' : `, ${formatDuration(seconds * 1_000)} left`);

/** What is new since the last look, as lines. */
function createNarrator(): (snapshot: Snapshot) => string[] {
  let place = '';
  let waited = '';
  let live = true;
  const tenths = new Map<string, number>();
  return ({ status, progress }) => {
    const lines: string[] = [];
    const here = `${status.status} ${status.phase} ${status.step ?? ''}`.trimEnd();
    if (status.live !== live)
      lines.push(status.live ? 'a worker answers again' : 'no worker answers; watching goes on');
    live = status.live;
    if (here !== place)
      lines.push(`${status.phase}${status.step === null ? '' : ` ${status.step}`} (${status.status})`);
    place = here;
    for (const table of progress?.tables ?? []) {
      if (table.state !== 'running' || table.rowsTotal <= 0) continue;
      const tenth = Math.floor((10 * table.rowsDone) / table.rowsTotal);
      if ((tenths.get(table.table) ?? 0) >= tenth) continue;
      tenths.set(table.table, tenth);
      lines.push(
        `${shortRelation(table.table)}: ${formatCount(table.rowsDone)} of ${formatCount(table.rowsTotal)} rows (${Math.min(100, tenth * 10)} %), ${rate(table)}${left(table.etaSeconds)}`,
      );
    }
    const wait = status.waitingFor;
    const reason = wait === null ? '' : `${wait.type} ${wait.gate ?? ''} ${wait.type === 'lock' ? '' : wait.reason}`;
    if (wait !== null && reason !== waited)
      lines.push(
        `waits for ${wait.gate === null ? wait.type : `${wait.type} ${wait.gate}`}: ${wait.reason}`,
        ...(wait.commands.length === 0 ? [] : [pairs([['  type', wait.commands.join('\n')]])]),
      );
    waited = reason;
    return lines;
  };
}

function lineView(terminal: Terminal): ProgressView {
  const narrate = createNarrator();
  return {
    show: (snapshot) => {
      for (const line of narrate(snapshot)) terminal.note(line.startsWith('  ') ? line : `${time()}  ${line}`);
    },
    stop: () => undefined,
  };
}

function jsonView(terminal: Terminal): ProgressView {
  let last = '';
  return {
    show: ({ status, progress }) => {
      const { phase, step, waitingFor, live } = status;
      const line = {
        phase,
        step,
        status: status.status,
        percent: progress?.percent ?? null,
        etaSeconds: progress?.etaSeconds ?? null,
        tables: progress?.tables ?? [],
        waitingFor,
        live,
      };
      const text = JSON.stringify(line);
      if (text !== last) terminal.printJsonLine({ at: new Date().toISOString(), ...line });
      last = text;
    },
    stop: () => undefined,
  };
}

/** Bars live below; what happened scrolls above them. */
function barView(terminal: Terminal): ProgressView {
  const bars = new MultiBar(
    {
      format: ' {name} {bar} {percentage}%  {rows}  {rate}{left}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      barsize: 24,
      forceRedraw: true,
      linewrap: false,
    },
    { format: '', barCompleteChar: '\u2588', barIncompleteChar: '\u2591' },
  );
  const shown = new Map<string, SingleBar>();
  const narrate = createNarrator();
  const draw = (progress: Progress) => {
    for (const table of progress.tables) {
      if (table.state === 'waiting' || table.rowsTotal <= 0) continue;
      const payload = {
        name: shortRelation(table.table).padEnd(Math.max(...progress.tables.map((t) => shortRelation(t.table).length))),
        rows: `${formatCount(table.rowsDone)}/${formatCount(table.rowsTotal)}`,
        rate: rate(table),
        left: left(table.etaSeconds),
      };
      const bar = shown.get(table.table) ?? bars.create(table.rowsTotal, 0, payload);
      shown.set(table.table, bar);
      bar.setTotal(Math.max(table.rowsTotal, table.rowsDone));
      bar.update(table.rowsDone, payload);
    }
  };
  return {
    show: (snapshot) => {
      const lines = narrate(snapshot).filter((line) => !/ rows \(\d+ %\)/.test(line));
      for (const line of lines) {
        const text = line.startsWith('  ') ? line : `${time()}  ${line}`;
        if (shown.size > 0) bars.log(`${text}\n`);
        else terminal.note(text);
      }
      if (snapshot.progress !== null) draw(snapshot.progress);
    },
    stop: () => bars.stop(),
  };
}

export function createProgressView(terminal: Terminal): ProgressView {
  if (terminal.json) return jsonView(terminal);
  return terminal.interactive ? barView(terminal) : lineView(terminal);
}
