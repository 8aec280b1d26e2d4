/**
 * `pgshift demo`: the whole story on a stack of its own. The answer says for each chapter whether every claim held; the command exits 0
 * only when all did. Chapters that are not built yet are named, not left out silently.
 */
import { Problem } from '../../plan/model/errors';
import { createTerminal } from '../terminal';
import type { Terminal } from '../terminal';
import { askToGoOn, untilStopped } from './ask';
import type { DemoPart } from './claims';
import { startStage } from './stage';
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
  /** Chapters; all that are built when left out. */
  readonly only?: readonly string[];
  readonly yes: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
}

const CHAPTERS = ['schema', 'bluegreen', 'canary'] as const;
const BUILT: readonly string[] = ['schema', 'bluegreen'];
/** The others are told when they are asked for. */
const TOLD: readonly string[] = ['schema'];

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
  const { data, rows } = options;
  const green = chapters.includes('bluegreen');
  const stage = await startStage({ data, rows, green, note: (line) => terminal.note(line) });
  try {
    const parts: DemoPart[] = [];
    if (chapters.includes('schema')) parts.push(await schemaChapter(stage, terminal));
    const { greenUrl } = stage;
    const told = parts.map(({ name }) => name);
    if (greenUrl !== null) parts.push(await switchChapter({ ...stage, greenUrl }, terminal, told));
    if (terminal.json) terminal.printJson({ parts });
    else terminal.print(parts.map((part) => summary(part, terminal)).join('\n'));
    if (options.only === undefined) terminal.note('\nAnother chapter: --only bluegreen. Not built yet: canary.');
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
  const asked = only ?? TOLD;
  for (const name of asked) {
    if (!CHAPTERS.some((chapter) => chapter === name))
      throw new Problem('InvalidUsage', 'no such chapter', { value: name, hint: `chapters: ${CHAPTERS.join(', ')}` });
    if (!BUILT.includes(name))
      throw new Problem('NotYet', `the chapter ${name} is not built yet`, {
        hint: `pgshift demo --only ${BUILT.join(',')}`,
      });
  }
  return asked;
}
