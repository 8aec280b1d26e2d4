/**
 * The command table: every command with its flags, its example, and where it lives. Commands are loaded when they are called, so that `pgshift
 * --help` and `plan` never wait for the Temporal client. The contract's section 3 is this file's twin.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { version } from '../package.json';
import { laterCommands } from './commands/later';
import type { Context, GlobalOptions } from './context';

type Action = (context: Context) => Promise<void>;
export type Runner = (globals: GlobalOptions, action: Action) => Promise<void>;

/** A loaded command: what was typed after its name, and its flags. */
type Handler = (context: Context, args: readonly string[], options: never) => Promise<void>;

interface Spec {
  /** `plan <file>` */
  readonly usage: string;
  readonly about: string;
  readonly options?: readonly Option[];
  readonly example: string;
  readonly load: () => Promise<Handler>;
}

const flag = (flags: string, about: string): Option => new Option(flags, about);
const choice = (flags: string, about: string, values: readonly string[]): Option =>
  new Option(flags, about).choices([...values]);

const whole = (text: string): number => {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('a whole number is asked for.');
};
const number = (flags: string, about: string): Option => new Option(flags, about).argParser(whole);
const many = (flags: string, about: string): Option =>
  new Option(flags, about).argParser((text: string, before: string[] | undefined) => [...(before ?? []), text]);

const database = flag('--database <name>', "connection's name; overrides the plan's, and a .sql file needs it");
const server = number('--server-version <number>', 'plan for this PostgreSQL (as 180006 or 18) without a connection');
const until = choice('--until <point>', 'where watching ends', ['contract', 'hold', 'end']);
const message = [
  flag('--reason <text>', 'why; it is recorded'),
  flag('--request-id <id>', 'the same id twice is one message'),
  flag('--wait', 'until the run waits for a person, holds or has ended'),
];
const gate = flag('--gate <name>', 'which gate; may be left out while one is open');
const aim = flag('--target <name>', 'what is skipped or tried again, as status shows it');

const person = (name: string, about: string, options: readonly Option[], example: string): Spec => ({
  usage: `${name} <id>`,
  about,
  options: [...options, ...message],
  example,
  load: async () => (await import('./commands/messages.js')).message(name),
});

const COMMANDS: readonly Spec[] = [
  {
    usage: 'dev',
    about: 'Temporal with Web UI, a worker, and an embedded Postgres when no database is configured',
    options: [
      flag('--home <dir>', 'where everything lies (default PGSHIFT_HOME, else .pgshift)'),
      number('--temporal-port <port>', 'default 7233'),
      number('--ui-port <port>', 'default 8233'),
      number('--postgres-port <port>', 'default 54329'),
      number('--metrics-port <port>', 'default 9464'),
      flag('--postgres', 'run the embedded Postgres beside configured databases'),
      flag('--no-worker', 'bring a worker of your own'),
      flag('--fresh', 'forget what an earlier dev left in the home'),
    ],
    example: 'pgshift dev',
    load: async () => (await import('./commands/dev.js')).dev,
  },
  {
    usage: 'demo',
    about: 'the whole story under live writes, on a sample shop or on your dump; prints what was measured',
    options: [
      flag('--data <file>', 'a plain SQL dump instead of the sample shop'),
      number('--rows <number>', 'grow the largest table to so many rows'),
      flag('--keep', 'leave everything running afterwards'),
      flag('--only <chapters>', 'schema, bluegreen, canary; joined by commas'),
      flag('--yes', 'ask nothing'),
    ],
    example: 'pgshift demo --yes',
    load: async () => (await import('./commands/demo.js')).demo,
  },
  {
    usage: 'plan <file>',
    about: 'show the safe steps: locks and for how long, work, risk, way back; runs nothing',
    options: [
      database,
      server,
      flag('--emit-input', "print the workflow's JSON argument, for temporal workflow start"),
      flag('--sql', 'print what will be sent under each step'),
    ],
    example: 'pgshift plan changes/20261121_payment_precision.yaml',
    load: async () => (await import('./commands/plan.js')).plan,
  },
  {
    usage: 'lint <file>',
    about: 'findings with rule, line, reason and safe alternative; for CI',
    options: [
      database,
      server,
      choice('--format <format>', 'how findings are written', ['text', 'json', 'github', 'sarif']),
      choice('--fail-on <level>', 'exit 3 from this level on (default error)', ['error', 'warning']),
    ],
    example: 'pgshift lint changes/20261121_payment_precision.yaml --format github',
    load: async () => (await import('./commands/lint.js')).lint,
  },
  {
    usage: 'start <file>',
    about: 'start the run; prints its id, its Web UI link and the next command',
    options: [
      database,
      flag('--id <id>', 'workflow id (default migration/<database>/<name>)'),
      flag('--watch', 'follow the run'),
      until,
      flag('--dry-run', 'mode dry-run: validates and shows, writes nothing'),
      flag('--summary <text>', 'one line for the Web UI'),
      flag('--if-needed', 'already applied is exit 0'),
    ],
    example: 'pgshift start changes/20261121_payment_precision.yaml --watch',
    load: async () => (await import('./commands/start.js')).start,
  },
  {
    usage: 'list',
    about: 'what runs and what ran',
    options: [
      flag('--status <status>', 'pending, running, waiting, paused, holding, completed, failed, ...'),
      flag('--database <name>', 'of this database only'),
      flag('--kind <kind>', 'schema-migration, rollback, ...'),
      number('--limit <number>', 'at most so many').default(50),
      flag('--query <filter>', "a list filter of Temporal's own"),
      flag('--after <token>', 'the next page: `next` of the page before'),
    ],
    example: 'pgshift list --status waiting',
    load: async () => (await import('./commands/list.js')).list,
  },
  {
    usage: 'status <id>',
    about: 'where a run is, what it waits for and why, what to type',
    example: 'pgshift status 20261121_payment_precision',
    load: async () => (await import('./commands/status.js')).status,
  },
  {
    usage: 'watch <id>',
    about: 'follow a run; Ctrl-C leaves the run alone',
    options: [until],
    example: 'pgshift watch 20261121_payment_precision --until end',
    load: async () => (await import('./commands/watch.js')).watch,
  },
  {
    usage: 'report <id>',
    about: 'what was done, how long locks were held, what was proven',
    options: [
      choice('--format <format>', 'how it is written', ['text', 'json', 'markdown', 'html']),
      flag('--show-values', 'show the values of rows that differ (they are masked otherwise)'),
    ],
    example: 'pgshift report 20261121_payment_precision --format markdown > report.md',
    load: async () => (await import('./commands/report.js')).report,
  },
  person(
    'approve',
    'open a gate',
    [gate],
    'pgshift approve 20261121_payment_precision --gate contract --reason "looked at the proof"',
  ),
  person(
    'reject',
    'close a gate: the change is taken back',
    [gate],
    'pgshift reject 20261121_payment_precision --reason "wrong week"',
  ),
  person('pause', 'stop after the current batch', [], 'pgshift pause 20261121_payment_precision'),
  person('resume', 'go on after a pause', [], 'pgshift resume 20261121_payment_precision'),
  {
    usage: 'rollback <id>',
    about: 'take the change back, in any phase and after its end',
    options: [...message, flag('--script', 'write the way back as a psql script; works with Temporal gone')],
    example: 'pgshift rollback 20261121_payment_precision --reason "wrong rounding"',
    load: async () => (await import('./commands/rollback.js')).rollback,
  },
  person(
    'tune',
    'change throttle, hold, lockTimeout, lockBudget or timeout while it runs',
    [many('--set <key=value>', 'throttle.parallel=4, hold=48h; repeatable')],
    'pgshift tune 20261121_payment_precision --set throttle.parallel=4',
  ),
  person('skip', 'go on without what failed', [aim], 'pgshift skip 20261121_payment_precision --target notify'),
  person('retry', 'try again what failed', [aim], 'pgshift retry 20261121_payment_precision'),
  {
    usage: 'cancel <id>',
    about: "Temporal's own cancel: takes back what can be taken back",
    options: [flag('--reason <text>', 'why; it is recorded')],
    example: 'pgshift cancel 20261121_payment_precision',
    load: async () => (await import('./commands/cancel.js')).cancel,
  },
  {
    usage: 'verify <file>',
    about: 'compare two databases or tables and show the rows that differ; exit 1 when they do',
    options: [
      flag('--local', 'in this process, without Temporal'),
      flag('--show-values', 'show the values of rows that differ (they are masked otherwise)'),
      flag('--repair', 'make the target like the source where rows differ (as repair: target)'),
    ],
    example: 'pgshift verify compare.yaml --local --show-values',
    load: async () => (await import('./commands/verify.js')).verify,
  },
  {
    usage: 'worker',
    about: 'the process that does the work',
    options: [flag('--task-queue <name>', 'default PGSHIFT_TASK_QUEUE, else pgshift')],
    example: 'pgshift worker --config pgshift.config.yaml',
    load: async () => (await import('./commands/worker.js')).worker,
  },
  {
    usage: 'fence <action>',
    about: 'status: which side of a switch takes writes; release: repair it. Both work with Temporal gone',
    options: [
      flag('--blue <name>', "blue's connection; may be left out when green's guard row names it"),
      flag('--green <name>', "green's connection; may be left out when blue's guard row names it"),
      choice('--side <side>', 'of release: the side to open; never one that would make two', ['blue', 'green']),
      flag('--yes', 'of release: ask nothing'),
    ],
    example: 'pgshift fence status --blue app --green app_new',
    load: async () => (await import('./commands/fence.js')).fence,
  },
  {
    usage: 'schema',
    about: 'print the JSON Schema of plan files (draft 2020-12)',
    example: 'pgshift schema > plan.schema.json',
    load: async () => (await import('./commands/schema.js')).schema,
  },
  {
    usage: 'uninstall',
    about: 'remove schema pgshift from a database, when nothing is open or in hold',
    options: [flag('--database <name>', "connection's name").makeOptionMandatory()],
    example: 'pgshift uninstall --database app',
    load: async () => (await import('./commands/uninstall.js')).uninstall,
  },
];

const quietCommand = (command: Command): Command =>
  command.exitOverride().configureOutput({ writeErr: () => undefined, outputError: () => undefined });

function add(program: Command, { usage, about, options = [], example, load }: Spec, run: Runner): void {
  const command = quietCommand(program.command(usage).description(about));
  for (const option of options) command.addOption(option);
  command.addHelpText('after', `\nExample:\n  ${example}`);
  command.action(async (...received: unknown[]) => {
    const self = received.at(-1) as Command;
    await run(self.optsWithGlobals<GlobalOptions>(), async (context) => {
      const handler = await load();
      await handler(context, self.args, self.opts() as never);
    });
  });
}

/** @param run opens what a command needs, runs it, and closes it. */
export function buildProgram(run: Runner): Command {
  const program = quietCommand(new Command('pgshift'))
    .description('changes PostgreSQL databases while people use them: durable, proven, reversible')
    .version(version, '--version', 'print the version')
    .helpOption('--help', 'print this help')
    .option('--json', 'one JSON answer on stdout; errors as JSON on stderr')
    .option('--config <file>', 'pgshift.config.yaml of another place')
    .option('--by <name>', 'who does it (default PGSHIFT_USER, else user@host)')
    .option('--quiet', 'no progress, no hints')
    .option('--no-color', 'no colours (also NO_COLOR)')
    .configureHelp({ showGlobalOptions: true })
    .addHelpText('after', '\nExample:\n  pgshift plan change.yaml && pgshift start change.yaml --watch');
  for (const spec of COMMANDS) add(program, spec, run);
  for (const spec of laterCommands) add(program, spec, run);
  return program;
}
