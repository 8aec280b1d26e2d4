/** One run of the CLI: arguments in, exit code out. Nothing below it ends the process. */
import { CommanderError } from 'commander';
import { Context } from './context';
import type { GlobalOptions } from './context';
import { report } from './failure';
import { buildProgram } from './program';
import { createTerminal } from './terminal';
import type { Terminal } from './terminal';

const terminalFor = ({ json, quiet, color }: GlobalOptions): Terminal =>
  createTerminal({ json: json === true, quiet: quiet === true, color: color !== false });

/** Before the flags could be read (an unknown command, say), `--json` still decides how the error looks. */
const fromArguments = (argv: readonly string[]): Terminal =>
  terminalFor({ json: argv.includes('--json'), quiet: argv.includes('--quiet'), color: !argv.includes('--no-color') });

/** @param argv without node and script. @returns the exit code of the contract. */
export async function main(argv: readonly string[]): Promise<number> {
  let terminal = fromArguments(argv);
  const program = buildProgram(async (globals, action) => {
    terminal = terminalFor(globals);
    const context = new Context(terminal, globals);
    try {
      await action(context);
    } finally {
      await context.close();
    }
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.code === 'commander.help') {
      terminal.print(program.helpInformation());
      return 0;
    }
    return report(error, terminal);
  }
}
