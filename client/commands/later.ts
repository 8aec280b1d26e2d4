/** Commands of the contract that this version does not build yet: known by name, refused by `NotYet`, never ignored. */
import { Option } from 'commander';
import { Problem } from '../../plan/model/errors';

const later = (name: string, what: string) => async (): Promise<() => Promise<void>> => () =>
  Promise.reject(
    new Problem('NotYet', `pgshift ${name} is not built yet: ${what}`, {
      value: name,
      hint: 'a later version has it; pgshift --help lists what this one does',
    }),
  );

const flags = (...all: readonly string[]): Option[] => all.map((text) => new Option(text, 'not built yet'));

export const laterCommands = [
  {
    usage: 'rehearse <file>',
    about: 'run the plan on a scratch database first (not built yet)',
    options: flags('--scratch <name>', '--sample <percent>', '--keep'),
    example: 'pgshift rehearse change.yaml --scratch scratch',
    load: later('rehearse', 'until then: pgshift start FILE --dry-run'),
  },
  {
    usage: 'server',
    about: 'the HTTP API (not built yet)',
    options: flags('--task-queue <name>'),
    example: 'pgshift server',
    load: later('server', 'until then: the temporal CLI and this one'),
  },
];
