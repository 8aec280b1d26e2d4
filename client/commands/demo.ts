/** `pgshift demo`: client/demo tells the story; here its flags are read. */
import { Problem } from '../../plan/model/errors';
import type { Context } from '../context';
import { Exit } from '../failure';
import { part } from '../parts';

const CHAPTERS = ['schema', 'bluegreen', 'canary'] as const;
type Chapter = (typeof CHAPTERS)[number];

interface DemoFlags {
  readonly data?: string;
  readonly rows?: number;
  readonly keep?: boolean;
  readonly only?: string;
  readonly yes?: boolean;
}

interface DemoOptions {
  readonly data?: string;
  readonly rows?: number;
  readonly keep: boolean;
  readonly only?: readonly Chapter[];
  readonly yes: boolean;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
  readonly config?: string;
}

function chapters(given: string): Chapter[] {
  return given.split(',').map((name) => {
    const chapter = CHAPTERS.find((one) => one === name.trim());
    if (chapter !== undefined) return chapter;
    throw new Problem('InvalidUsage', `--only takes ${CHAPTERS.join(', ')}`, { value: name });
  });
}

export async function demo(context: Context, _args: readonly string[], flags: DemoFlags): Promise<void> {
  const options: DemoOptions = {
    ...(flags.data === undefined ? {} : { data: flags.data }),
    ...(flags.rows === undefined ? {} : { rows: flags.rows }),
    ...(flags.only === undefined ? {} : { only: chapters(flags.only) }),
    ...(context.configFile === undefined ? {} : { config: context.configFile }),
    keep: flags.keep === true,
    yes: flags.yes === true,
    json: context.terminal.json,
    quiet: context.terminal.quiet,
    color: context.terminal.colors.isColorSupported,
  };
  const runDemo = await part<(options: DemoOptions) => Promise<number | undefined>>('client/demo/index', 'runDemo');
  const code = await runDemo(options);
  if (typeof code === 'number' && code !== 0) throw new Exit(code);
}
