/** `pgshift dev`: starts the stack, prints every URL and the lines to paste, and stays until it is told to stop. */
import { startDevStack } from './devStack';
import type { DevOptions, DevStack } from './devStack';

export { startDevStack } from './devStack';
export type { DevOptions, DevStack } from './devStack';

export interface RunDevOptions extends DevOptions {
  /** One JSON line when everything serves: `{"ready":true, ...dev.json}`. */
  readonly json?: boolean;
  /** What people read; default stdout. */
  readonly print?: (text: string) => void;
  /** Ends it, beside SIGINT, SIGTERM and SIGHUP. */
  readonly signal?: AbortSignal;
  /** How pgshift is called here, for the lines to paste: `pgshift`, or `npm run pgshift --` in a checkout. */
  readonly command?: string;
}

/** Runs until a signal; everything is ended then. Throws what startDevStack throws. */
export async function runDev(options: RunDevOptions = {}): Promise<void> {
  const print = options.print ?? ((text: string) => void process.stdout.write(`${text}\n`));
  const log = options.log ?? ((line: string) => void process.stderr.write(`${line}\n`));
  const asked = askedToStop(options.signal);
  try {
    // A signal while it starts is obeyed as soon as it is up: only then is everything known that must be ended.
    const stack = await startDevStack({ ...options, log });
    print(options.json ? JSON.stringify({ ready: true, ...stack.file() }) : readyText(stack, options.command));
    await asked.promise;
    log('stopping');
    await stack.stop();
  } finally {
    asked.forget();
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function askedToStop(signal: AbortSignal | undefined): {
  readonly promise: Promise<void>;
  readonly forget: () => void;
} {
  // Children do not keep the event loop alive; being asked does.
  const alive = setInterval(() => undefined, 60_000);
  let done: () => void = () => undefined;
  const promise = new Promise<void>((resolve) => {
    done = resolve;
  });
  for (const name of SIGNALS) process.on(name, done);
  signal?.addEventListener('abort', done);
  if (signal?.aborted) done();
  return {
    promise,
    forget: () => {
      clearInterval(alive);
      for (const name of SIGNALS) process.removeListener(name, done);
      signal?.removeEventListener('abort', done);
    },
  };
}

/** What is up, and what to type next. */
export function readyText(stack: DevStack, command = 'npm run pgshift --'): string {
  const { home, temporalAddress, namespace, uiUrl, metricsUrl, databases, temporalCli } = stack;
  const database = Object.keys(databases)[0] ?? 'app';
  const cli = `${temporalCli?.path ?? 'temporal'} workflow`;
  const at = `--address ${temporalAddress}${namespace === 'default' ? '' : ` --namespace ${namespace}`}`;
  const id = `migration/${database}/greeting`;
  const sql = 'CREATE TABLE greeting (id bigint PRIMARY KEY, said text)';
  const plan = { name: 'greeting', database, sql, gates: { contract: 'manual' } };
  const lines = [
    'pgshift dev is up',
    `  home      ${home}`,
    `  Temporal  ${temporalAddress}`,
    ...(uiUrl === null ? [] : [`  Web UI    ${uiUrl}`]),
    ...(metricsUrl === null ? [] : [`  metrics   ${metricsUrl}`]),
    ...Object.entries(databases).map(([name, url]) => `  database  ${name} = ${url}`),
    '',
    'In another terminal:',
    `  export PGSHIFT_HOME=${quoted(home)}`,
    `  echo 'CREATE TABLE hello (id bigint PRIMARY KEY, said text)' > hello.sql`,
    `  ${command} plan hello.sql --database ${database}`,
    `  ${command} start hello.sql --database ${database} --watch`,
    `  ${command} rollback hello --reason ${quoted('only a try')}`,
    '',
    'The same with the Temporal CLI alone:',
    `  ${cli} start ${at} --type schemaMigration --task-queue pgshift --workflow-id ${id} --input ${quoted(JSON.stringify(plan))}`,
    `  ${cli} query ${at} --workflow-id ${id} --type status`,
    `  ${cli} signal ${at} --workflow-id ${id} --name approve --input ${quoted('{"by":"me@example.org","gate":"contract"}')}`,
    '',
    'Ctrl-C ends it; the next dev on this home goes on with the same ports, data and runs.',
  ];
  return lines.join('\n');
}

const quoted = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
