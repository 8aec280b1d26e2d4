/**
 * The only door to stdout and stderr. Answers go to stdout, progress and logs to stderr, so that a pipe gets the answer alone. Colours only
 * where a person looks: a terminal, without NO_COLOR and --no-color (never because of CI).
 */
import pico from 'picocolors';

export type Colors = ReturnType<typeof pico.createColors>;

export interface Terminal {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Live bars are drawn only then. */
  readonly interactive: boolean;
  /** For stdout. */
  readonly colors: Colors;
  /** For stderr. */
  readonly errorColors: Colors;
  /** One line or block of the answer. */
  print(text: string): void;
  /** The answer as JSON: indented for people and jq alike. */
  printJson(value: unknown): void;
  /** One JSON object on a line of its own, for streams. */
  printJsonLine(value: unknown): void;
  /** Progress, hints, warnings: stderr; silent under --quiet. */
  note(text: string): void;
  /** Errors: stderr, always. */
  fail(text: string): void;
}

export interface TerminalOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
}

const wantsColor = (stream: NodeJS.WriteStream, asked: boolean): boolean =>
  asked && stream.isTTY === true && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';

const line = (text: string): string => (text.endsWith('\n') ? text : `${text}\n`);

export function createTerminal({ json, quiet, color }: TerminalOptions): Terminal {
  return {
    json,
    quiet,
    interactive: process.stderr.isTTY === true && !quiet && !json && process.env['TERM'] !== 'dumb',
    colors: pico.createColors(wantsColor(process.stdout, color)),
    errorColors: pico.createColors(wantsColor(process.stderr, color)),
    print: (text) => void process.stdout.write(line(text)),
    printJson: (value) => void process.stdout.write(`${JSON.stringify(value, null, 2)}\n`),
    printJsonLine: (value) => void process.stdout.write(`${JSON.stringify(value)}\n`),
    note: (text) => {
      if (!quiet) process.stderr.write(line(text));
    },
    fail: (text) => void process.stderr.write(line(text)),
  };
}
