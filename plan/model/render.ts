/**
 * A run as Markdown for the Web UI's current details: phase bar, progress, what it waits for, and the exact line that lets it go on.
 * The front page for a person with nothing of ours installed. Pure; stays under the server's limits.
 */
import { lastSwitch } from './pairState';
import type { RunState } from './state';
import type { WaitingFor } from './status';
import { formatBytes, formatCount, formatDuration } from './values';
import { progressOf, roadShown, shownPhase, wayBackOf } from './view';

const DETAILS_MAX = 15_000;
const SUMMARY_MAX = 190;

/** Server limits: 200 B a summary, so that nothing is cut in the middle of a character. */
export function clampSummary(text: string): string {
  let out = '';
  let bytes = 0;
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (bytes > SUMMARY_MAX) return `${out}...`;
    out += char;
  }
  return out;
}

/** Text of people inside Markdown: no new lines, no tables broken, no HTML. */
const plain = (text: string): string => text.replace(/[\r\n]+/g, ' ').replace(/[|<>`*_[\]]/g, '\\$&');

function phaseBar(s: RunState): string {
  const now = shownPhase(s);
  return roadShown(s)
    .map(({ name, behind }) => {
      if (name === now && s.endedAt === null) return `**[${name}]**`;
      return behind ? `~~${name}~~` : name;
    })
    .join(' > ');
}

const shell = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;

/** Lines to paste, for pgshift and for Temporal's own CLI. */
export function commandsFor(s: Pick<RunState, 'id'>, verb: string, fields: Readonly<Record<string, string>>): string[] {
  const flags = Object.entries(fields).map(([key, value]) => ` --${key} ${value}`);
  const input = JSON.stringify({ by: 'YOU', ...fields });
  return [
    `pgshift ${verb} ${s.id}${flags.join('')}`,
    `temporal workflow signal --workflow-id ${shell(s.id)} --name ${verb} --input ${shell(input)}`,
  ];
}

function waitingLines(waiting: WaitingFor): string[] {
  const until = waiting.until ? ` until ${waiting.until}` : '';
  const name = waiting.gate ? `${waiting.type} **${waiting.gate}**` : `**${waiting.type}**`;
  return [
    `### Waits for ${name}${until}`,
    plain(waiting.reason),
    ...(waiting.commands.length ? ['', '```', ...waiting.commands, '```'] : []),
  ];
}

function progressTable(s: RunState): string[] {
  const { tables, percent, etaSeconds } = progressOf(s);
  const shown = tables.filter((t) => t.state !== 'waiting').slice(-20);
  const head = `${percent} %${etaSeconds ? `, about ${formatDuration(etaSeconds * 1_000)} left` : ''}`;
  if (shown.length === 0) return [head];
  return [
    head,
    '',
    '| table | rows | of | rows/s | batch | held up by | |',
    '|---|---:|---:|---:|---:|---|---|',
    ...shown.map(
      (t) =>
        `| ${plain(t.table)} | ${formatCount(t.rowsDone)} | ${t.estimated ? '~' : ''}${formatCount(t.rowsTotal)} | ${formatCount(
          t.rowsPerSecond,
        )} | ${formatCount(t.batchRows)} | ${plain(t.throttledBy ?? '')} | ${t.state} |`,
    ),
  ];
}

/** Of a blue-green: who takes the writes, how well the other side follows, what the last switch measured. */
function pairLines({ pair }: RunState): string[] {
  if (!pair) return [];
  const last = lastSwitch(pair);
  const lag = pair.lag.bytes === null ? '' : `, lag ${formatBytes(pair.lag.bytes)}`;
  const follows = pair.direction === null ? '' : `; ${pair.direction === 'forward' ? 'green' : 'blue'} follows${lag}`;
  return [
    `**${pair.writable ?? 'not known which side'} takes the writes**${follows}`,
    ...pair.trouble.map((text) => `- replication: ${plain(text)}`),
    ...(last
      ? [`last switch (${last.purpose}): clients waited ${last.pausedMs} ms, fence ${last.fenceLsn ?? 'unknown'}`]
      : []),
    '',
  ];
}

/** Of a canary: who is over, and what each stage said. */
function stageLines({ canary }: RunState): string[] {
  if (!canary || canary.stages.length === 0) return [];
  const over = canary.share === null ? 'nobody is over before the writes' : `${canary.share.percent} % are over`;
  return [
    `**${over}** (${canary.control.moves})`,
    '',
    '| stage | percent | verdict | metrics |',
    '|---|---:|---|---|',
    ...canary.stages.map(({ name, percent, verdict, metrics }) => {
      const said = metrics.map((m) => `${m.name} ${m.verdict ?? '-'}${m.value === null ? '' : ` (${m.value})`}`);
      return `| ${plain(name)} | ${percent} | ${verdict ?? 'under way'} | ${plain(said.join(', '))} |`;
    }),
    '',
  ];
}

/** Current details of a run. @param untilMs end of the hold, epoch ms. */
export function renderDetails(s: RunState, untilMs: number | null = null): string {
  const back = wayBackOf(s, untilMs);
  const lines = [
    `## ${s.name} on ${s.database}: ${s.status.replace('_', ' ')}`,
    phaseBar(s),
    '',
    ...(s.waiting ? [...waitingLines(s.waiting), ''] : []),
    ...(s.cause ? [`**Taken back because** ${s.cause.code}: ${plain(s.cause.message)}`, ''] : []),
    ...(s.lastError
      ? [`**Last error** ${s.lastError.code}: ${plain(s.lastError.message)} (${plain(s.lastError.hint)})`, '']
      : []),
    ...pairLines(s),
    ...stageLines(s),
    ...progressTable(s),
    '',
    ...(s.facts
      ? [
          `risk ${s.facts.risk}, ${s.facts.steps.length} steps, ${s.done} done, about ${formatBytes(s.facts.estimate.bytes[1])}`,
          `way back: ${back.possible ? plain(back.how) : `none (${plain(back.how)})`}${back.until ? `, until ${back.until}` : ''}`,
        ]
      : []),
    ...s.inbox.refused.map((m) => `- refused ${m.name} at ${m.at}: ${m.code}: ${plain(m.message)}`),
  ];
  const text = lines.join('\n');
  return text.length > DETAILS_MAX ? `${text.slice(0, DETAILS_MAX)}\n...` : text;
}
