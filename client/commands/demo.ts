/** `pgshift demo`: client/demo tells the story; here its flags are read. */
import { Problem } from '../../plan/model/errors';
import type { Context } from '../context';
import { runDemo } from '../demo';
import type { DemoOptions } from '../demo';
import { Exit } from '../failure';

const CHAPTERS = ['schema', 'bluegreen', 'canary'] as const;
type Chapter = (typeof CHAPTERS)[number];

interface DemoFlags {
  readonly data?: string;
  readonly rows?: number;
  readonly keep?: boolean;
  readonly only?: string;
  readonly yes?: boolean;
}

function chapters(given: string): Chapter[] {
  return given.split(',').map((name) => {
    // The plan's kind has a hyphen, the chapter has none: either is understood.
    const chapter = CHAPTERS.find((one) => one === name.trim().replace('blue-green', 'bluegreen'));
    if (chapter !== undefined) return chapter;
    throw new Problem('InvalidUsage', `--only takes ${CHAPTERS.join(', ')}`, { value: name });
  });
}

export async function demo(context: Context, _args: readonly string[], flags: DemoFlags): Promise<void> {
  const options: DemoOptions = {
    ...(flags.data === undefined ? {} : { data: flags.data }),
    ...(flags.rows === undefined ? {} : { rows: flags.rows }),
    ...(flags.only === undefined ? {} : { only: chapters(flags.only) }),
    keep: flags.keep === true,
    yes: flags.yes === true,
    json: context.terminal.json,
    quiet: context.terminal.quiet,
    color: context.terminal.colors.isColorSupported,
  };
  const code = await runDemo(options);
  if (code !== 0) throw new Exit(code);
}
