/**
 * Cases of a chaos matrix in a few lanes, since most of their time is waiting, and the file that says how they ended. PGSHIFT_CHAOS_ONLY=regexp runs a
 * part of them (and writes nothing), PGSHIFT_CHAOS_LANES=n as many at once.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

export interface Case {
  readonly name: string;
  /** Throws when it does not end as it must. `lane` counts from 0: what a lane has of its own, nobody else uses meanwhile. */
  readonly run: (lane: number) => Promise<void>;
}

export interface CaseResult {
  readonly name: string;
  readonly seconds: number;
  readonly failure: string | null;
}

const only = process.env.PGSHIFT_CHAOS_ONLY ? new RegExp(process.env.PGSHIFT_CHAOS_ONLY) : null;

export const lanesOr = (lanes: number): number => Number(process.env.PGSHIFT_CHAOS_LANES ?? lanes);

export async function runCases(cases: readonly Case[], lanes: number): Promise<CaseResult[]> {
  const waiting = cases.filter(({ name }) => !only || only.test(name));
  const results: CaseResult[] = [];
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const began = Date.now();
        const failure = await next.run(lane).then(
          () => null,
          (error: unknown) => (error instanceof Error ? error.message : String(error)).slice(0, 2_000),
        );
        const seconds = (Date.now() - began) / 1_000;
        results.push({ name: next.name, seconds, failure });
        process.stderr.write(
          `${failure === null ? 'ok  ' : 'FAIL'} ${seconds.toFixed(1)} s  ${next.name}${failure ? `\n     ${failure}` : ''}\n`,
        );
      }
    }),
  );
  return results;
}

/** What an earlier run wrote of the same matrix. */
export function readResults(file: string): CaseResult[] {
  const path = resolve(__dirname, '../chaos', file);
  if (!existsSync(path)) return [];
  return [...readFileSync(path, 'utf8').matchAll(/^\| (.+?) \| (as undisturbed|FAILED) \| ([\d.]+) \|$/gm)].map(
    ([, name = '', end, seconds]) => ({ name, seconds: Number(seconds), failure: end === 'FAILED' ? 'earlier' : null }),
  );
}

/** `file` lies in test/chaos and is written when everything ran; `seed` as kills.ts printed it, null = nothing was drawn. */
export function writeResults(file: string, what: string, seed: number | null, results: readonly CaseResult[]): void {
  if (only || results.length === 0) return;
  const failed = results.filter(({ failure }) => failure !== null).length;
  const how = seed === null ? '' : ` (PGSHIFT_TEST_SEED=${seed})`;
  const day = new Date().toISOString().slice(0, 10);
  const lines = [
    `# The last run of the ${what}`,
    '',
    `Made by \`npm run chaos\`${how} on ${day}: ${results.length - failed} passed, ${failed} failed.`,
    '',
    '| case | end | seconds |',
    '|---|---|---|',
    ...results.map(
      ({ name, seconds, failure }) =>
        `| ${name} | ${failure === null ? 'as undisturbed' : 'FAILED'} | ${seconds.toFixed(1)} |`,
    ),
    '',
  ];
  writeFileSync(resolve(__dirname, '../chaos', file), lines.join('\n'));
}
