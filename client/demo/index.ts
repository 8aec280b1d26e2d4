/**
 * `pgshift demo`: the whole story on a stack of its own. The answer says for each chapter whether every claim held; the command exits 0
 * only when all did. Chapters that are not built yet are named, not left out silently.
 */
import { Problem } from '../../plan/model/errors';
import { formatCount, formatDuration } from '../../plan/model/values';
import { pairs, table } from '../render/table';
import { createTerminal } from '../terminal';
import type { Terminal } from '../terminal';
import { askToGoOn, untilStopped } from './ask';
import type { DemoPart } from './claims';
import type { PeriodReport } from './latency';
import { startStage } from './stage';
import { schemaChapter } from './story';

export interface DemoOptions {
  /** A plain SQL dump instead of the sample shop. */
  readonly data?: string;
  /** Rows of the table that changes, 1,000 to 50,000,000. Default 500,000. */
  readonly rows?: number;
  /** Leave everything running until Ctrl-C. */
  readonly keep: boolean;
  /** Chapters; all that are built when left out. */
  readonly only?: readonly string[];
  readonly yes: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
}

const CHAPTERS = ['schema', 'bluegreen', 'canary'] as const;
const BUILT: readonly string[] = ['schema'];

/**
 * Runs the chapters and prints what was measured. Answers the exit code: 0 only when every claim held. Throws NotYet, InvalidUsage, and
 * what a broken stack throws. With `json` the answer alone is printed, as `{parts: [{name, passed, measured, claims}]}`.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  const terminal = createTerminal(options);
  const chapters = chosen(options);
  if (!options.yes && !(await askToGoOn(terminal))) return 0;
  // The stack's processes keep no event loop alive: without this, an end that waits for one of them would be the end of everything.
  const alive = setInterval(() => undefined, 60_000);
  try {
    return await perform(terminal, chapters, options);
  } finally {
    clearInterval(alive);
  }
}

async function perform(terminal: Terminal, chapters: readonly string[], options: DemoOptions): Promise<number> {
  const stage = await startStage({ data: options.data, rows: options.rows, note: (line) => terminal.note(line) });
  try {
    const parts: DemoPart[] = [];
    if (chapters.includes('schema')) parts.push(await schemaChapter(stage, terminal));
    if (terminal.json) terminal.printJson({ parts });
    else terminal.print(parts.map((part) => summary(part, terminal)).join('\n'));
    if (options.only === undefined) terminal.note('\nNot built yet: the chapters bluegreen and canary.');
    if (options.keep) {
      terminal.note(`\nEverything is left running (PGSHIFT_HOME=${stage.stack.home}). Ctrl-C ends it.`);
      await untilStopped();
    }
    return parts.every((part) => part.passed) ? 0 : 1;
  } finally {
    await stage.stack.stop();
  }
}

function chosen({ only, rows }: DemoOptions): readonly string[] {
  if (rows !== undefined && (rows < 1_000 || rows > 50_000_000))
    throw new Problem('InvalidUsage', '--rows is between 1,000 and 50,000,000', { value: String(rows) });
  const asked = only ?? BUILT;
  for (const name of asked) {
    if (!CHAPTERS.some((chapter) => chapter === name))
      throw new Problem('InvalidUsage', 'no such chapter', { value: name, hint: `chapters: ${CHAPTERS.join(', ')}` });
    if (!BUILT.includes(name))
      throw new Problem('NotYet', `the chapter ${name} is not built yet`, { hint: 'pgshift demo --only schema' });
  }
  return asked;
}

/** What was measured and what was claimed, for people. */
export function summary(part: DemoPart, terminal: Pick<Terminal, 'colors'>): string {
  const { colors } = terminal;
  const m = part.measured as {
    rows: number;
    rowsBackfilled: number;
    rowsPerSecond: number | null;
    rowsVerified: number;
    longestLockMs: number | null;
    longestLockMode: string | null;
    longestLockRelation: string | null;
    writer: Record<string, PeriodReport>;
    seconds: number;
    webUi: string | null;
  };
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  const writer = table(
    [
      { title: 'the writer, by its own clock' },
      { title: 'operations', align: 'right' },
      { title: 'p50', align: 'right' },
      { title: 'p99', align: 'right' },
      { title: 'longest', align: 'right' },
      { title: 'errors', align: 'right' },
      { title: 'prepared again', align: 'right' },
    ],
    Object.values(m.writer).map((p) => [
      p.period,
      formatCount(p.operations),
      ms(p.p50Ms),
      ms(p.p99Ms),
      ms(p.longestMs),
      String(Object.values(p.errors).reduce((a, b) => a + b, 0)),
      String(p.cachedPlans),
    ]),
    { heading: colors.dim },
  );
  const facts = pairs([
    [
      ' rows',
      `${formatCount(m.rows)}; ${formatCount(m.rowsBackfilled)} filled${m.rowsPerSecond ? `, ${formatCount(m.rowsPerSecond)} rows/s, the death included` : ''}`,
    ],
    [' verified', `${formatCount(m.rowsVerified)} row images`],
    [
      ' longest lock',
      m.longestLockMs === null
        ? 'none'
        : `${formatDuration(m.longestLockMs)} ${m.longestLockMode} on ${m.longestLockRelation}`,
    ],
    [' took', formatDuration(m.seconds * 1000)],
    [' look', m.webUi],
  ]);
  const claims = part.claims.map(
    (c) => ` ${c.holds ? colors.green('holds') : colors.red('FAILS')}  ${c.says}\n        ${colors.dim(c.seen)}`,
  );
  const verdict = part.passed
    ? colors.green('Every claim was checked and holds.')
    : colors.red('Not every claim holds.');
  return ['', facts, '', writer, '', ...claims, '', verdict].join('\n');
}
