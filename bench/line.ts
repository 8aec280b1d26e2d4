/** One line of the table: what was measured, against what, what is asked, and whether it is met. Pure. */

export interface Line {
  readonly what: string;
  readonly measured: string;
  /** Against which it is held: plain Postgres, its own baseline, idle. */
  readonly against: string;
  /** measured / against; null where there is no ratio. */
  readonly ratio: number | null;
  readonly asked: string;
  /** null = only informs, or could not be measured (then `measured` says why). */
  readonly met: boolean | null;
}

const MET = { true: 'yes', false: '**no**', null: '-' } as const;

export const markdown = (lines: readonly Line[]): string =>
  [
    '| what | measured | against | ratio | asked | met |',
    '|---|---|---|---|---|---|',
    ...lines.map(
      (l) =>
        `| ${l.what} | ${l.measured} | ${l.against} | ${l.ratio === null ? '-' : l.ratio.toFixed(2)} | ${l.asked} | ${MET[`${l.met}`]} |`,
    ),
  ].join('\n');
