/**
 * `npm run bench`: one table with ratios, all in one run on one machine, written to bench/README.md.
 *   npm run bench -- --only backfill,latency,locks,memory,metadata,copy,switch   a part (then README is left alone)
 *   npm run bench -- --pairs 2 --only latency                       fewer rounds of the latency
 *   npm run bench -- --smoke                                         small sizes, to see that it works (README is left alone)
 * Exits 0 only when every line that asks for something is met.
 */
import { cpus, totalmem } from 'node:os';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Problem } from '../plan/model/errors';
import { formatBytes } from '../plan/model/values';
import { backfill } from './backfill';
import { copy } from './copy';
import { latency } from './latency';
import { markdown } from './line';
import type { Line } from './line';
import { memory } from './memory';
import { locks, metadataOnly } from './small';
import { openBench } from './stack';
import type { Bench } from './stack';
import { switching } from './switch';

const FULL = {
  backfillRows: 2_000_000,
  rounds: 3,
  scale: 10,
  pairs: 5,
  baselineSeconds: 60,
  locks: 20,
  large: 10_000_000,
  metadata: 5,
  copy: { probe: 500_000, seconds: 60, most: 20_000_000, rounds: 3 },
  switch: { scale: 140, runs: 5, seconds: 15 },
};
const SMOKE: typeof FULL = {
  backfillRows: 50_000,
  rounds: 1,
  scale: 1,
  pairs: 1,
  baselineSeconds: 3,
  locks: 2,
  large: 300_000,
  metadata: 2,
  copy: { probe: 100_000, seconds: 2, most: 300_000, rounds: 2 },
  switch: { scale: 2, runs: 1, seconds: 3 },
};

type Part = (bench: Bench, size: typeof FULL) => Promise<Line[]>;
// The memory comes first: it is measured over the idle of a worker that has done nothing yet.
const PARTS: Readonly<Record<string, Part>> = {
  memory: (bench, size) => memory(bench, { small: 100_000, large: size.large }),
  metadata: (bench, size) => metadataOnly(bench, size.metadata),
  locks: (bench, size) => locks(bench, size.locks),
  backfill: (bench, size) => backfill(bench, { rows: size.backfillRows, rounds: size.rounds }),
  latency: (bench, size) => latency(bench, size),
  copy: (bench, size) => copy(bench, size.copy),
  switch: (bench, size) => switching(bench, size.switch),
};

const note = (line: string): void => void process.stderr.write(`${new Date().toISOString().slice(11, 19)}  ${line}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      keep: { type: 'boolean', default: false },
      smoke: { type: 'boolean', default: false },
      pairs: { type: 'string' },
    },
  });
  const names = values.only === undefined ? Object.keys(PARTS) : values.only.split(',');
  for (const name of names)
    if (!PARTS[name])
      throw new Problem('InvalidUsage', 'no such part', { value: name, hint: Object.keys(PARTS).join(', ') });
  const whole = values.smoke ? SMOKE : FULL;
  const size = values.pairs === undefined ? whole : { ...whole, pairs: Number(values.pairs) };
  const began = Date.now();
  const bench = await openBench(note);
  const lines: Line[] = [];
  let version = '';
  try {
    version =
      (await bench.client.query<{ v: string }>("SELECT current_setting('server_version') AS v")).rows[0]?.v ?? '';
    for (const name of names) {
      note(`part ${name}`);
      const made = (await PARTS[name]?.(bench, size)) ?? [];
      for (const line of markdown(made).split('\n').slice(2)) note(line);
      lines.push(...made);
    }
  } finally {
    await bench.close();
  }
  const where = `Node ${process.version.slice(1)}, PostgreSQL ${version}, ${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${formatBytes(totalmem())}; ${Math.round((Date.now() - began) / 60_000)} min`;
  const text = `${markdown(lines)}\n\n${where}, ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC.\n`;
  process.stdout.write(text);
  if ((values.only === undefined || values.keep) && !values.smoke && values.pairs === undefined)
    writeFileSync(
      join(resolve(__dirname, '..', __dirname.includes('dist') ? '..' : ''), 'bench', 'README.md'),
      `${HEAD}${text}`,
    );
  return lines.every((line) => line.met !== false) ? 0 : 1;
}

const HEAD = `# Bench

\`npm run bench\` (add \`-- --smoke\` for a small one, \`-- --only latency\` for a part, \`--keep\` writes a part's table here too; \`PGSHIFT_BENCH_PGROLL=/path/to/pgroll\` adds pgroll).
All lines below come from one run on one machine; ratios are within that run. Server, worker, Temporal and pgbench share its cores.

## Last run

`;

// The stack's processes keep no event loop alive; the end of the bench waits for theirs.
setInterval(() => undefined, 60_000);
main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(70);
  },
);
