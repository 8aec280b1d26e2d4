/**
 * `pgshift demo`: the whole story on a stack of its own. The answer says for each chapter whether every claim held; the command exits 0
 * only when all did.
 */
import { Problem } from '../../plan/model/errors';
import { createTerminal } from '../terminal';
import type { Terminal } from '../terminal';
import { askToGoOn } from './ask';
import { canaryChapter } from './canaryStory';
import type { DemoPart } from './claims';
import { startStage } from './stage';
import { Stopped, listenForStop } from './stop';
import type { Stop } from './stop';
import { schemaChapter } from './story';
import { summary } from './summary';
import { switchChapter } from './switchStory';

export interface DemoOptions {
  /** A plain SQL dump instead of the sample shop. */
  readonly data?: string;
  /** Rows of the table that changes, 1,000 to 50,000,000. Default 500,000. */
  readonly rows?: number;
  /** Leave everything running until Ctrl-C. */
  readonly keep: boolean;
  /** Chapters; the first one when left out. */
  readonly only?: readonly string[];
  readonly yes: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
}

const CHAPTERS = ['schema', 'bluegreen', 'canary'] as const;
/** The others are told when they are asked for. */
const TOLD: readonly string[] = ['schema'];
/** Those that need a second database. */
const OF_PAIR: readonly string[] = ['bluegreen', 'canary'];
const nameOf = ({ name }: DemoPart): string => name;

/**
 * Runs the chapters and prints what was measured. Answers the exit code: 0 only when every claim held. Throws InvalidUsage, and
 * what a broken stack throws. With `json` the answer alone is printed, as `{parts: [{name, passed, measured, claims}]}`.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  const terminal = createTerminal(options);
  const chapters = chosen(options);
  if (!options.yes && !(await askToGoOn(terminal))) return 0;
  // The stack's processes keep no event loop alive: without this, an end that waits for one of them would be the end of everything.
  const alive = setInterval(() => undefined, 60_000);
  const stop = listenForStop(() => terminal.note('\nstopping'));
  try {
    return await perform(terminal, chapters, options, stop);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    terminal.note('\nstopped; nothing is left running');
    return error.code;
  } finally {
    stop.forget();
    clearInterval(alive);
  }
}

async function perform(
  terminal: Terminal,
  chapters: readonly string[],
  options: DemoOptions,
  stop: Stop,
): Promise<number> {
  const { data, rows } = options;
  const green = chapters.some((chapter) => OF_PAIR.includes(chapter));
  const stage = await startStage({ data, rows, green, stop, note: (line) => terminal.note(line) });
  try {
    const parts: DemoPart[] = [];
    if (chapters.includes('schema')) parts.push(await stop.or(schemaChapter(stage, terminal)));
    const { greenUrl } = stage;
    if (greenUrl !== null && chapters.includes('bluegreen'))
      parts.push(await stop.or(switchChapter({ ...stage, greenUrl }, terminal, parts.map(nameOf))));
    if (greenUrl !== null && chapters.includes('canary'))
      parts.push(await stop.or(canaryChapter({ ...stage, greenUrl }, terminal, parts.map(nameOf))));
    if (terminal.json) terminal.printJson({ parts });
    else terminal.print(parts.map((part) => summary(part, terminal)).join('\n'));
    if (options.only === undefined) terminal.note('\nOther chapters: --only bluegreen, --only canary.');
    if (options.keep) {
      terminal.note(`\nEverything is left running (PGSHIFT_HOME=${stage.stack.home}). Ctrl-C ends it.`);
      await stop.asked();
    }
    return parts.every((part) => part.passed) ? 0 : 1;
  } finally {
    await stage.stack.stop();
  }
}

function chosen({ only, rows }: DemoOptions): readonly string[] {
  if (rows !== undefined && (rows < 1_000 || rows > 50_000_000))
    throw new Problem('InvalidUsage', '--rows is between 1,000 and 50,000,000', { value: String(rows) });
  const asked = only ?? TOLD;
  for (const name of asked) {
    if (!CHAPTERS.some((chapter) => chapter === name))
      throw new Problem('InvalidUsage', 'no such chapter', { value: name, hint: `chapters: ${CHAPTERS.join(', ')}` });
  }
  return asked;
}
