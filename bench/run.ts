/**
 * `npm run bench`: one table with ratios, all in one run on one machine, written to bench/README.md.
 *   npm run bench -- --only backfill,latency,locks,memory,metadata,copy,live,peers,durable,streaming,switch   a part (then README is left alone)
 *   npm run bench -- --pairs 2 --only latency                       fewer rounds of the latency
 *   npm run bench -- --smoke                                         small sizes, to see that it works (README is left alone)
 * Exits 0 only when every line that asks for something is met.
 */
import { cpus, totalmem } from 'node:os';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Problem } from '../plan/model/errors';
import { formatBytes } from '../plan/model/values';
import { backfill } from './backfill';
import { copy } from './copy';
import { durable } from './durable';
import { latency } from './latency';
import { markdown } from './line';
import { live } from './live';
import type { Line } from './line';
import { memory } from './memory';
import { locks, metadataOnly } from './small';
import { openBench } from './stack';
import type { Bench } from './stack';
import { peers } from './peers';
import { streaming } from './streaming';
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
  copy: { rows: 5_000_000, rounds: 5 },
  live: { scale: 50, rounds: 3 },
  peers: { rows: 5_000_000, rounds: 5, payments: 9_000_000, scans: 50_000 },
  durable: { small: 100_000, rows: 40_000_000, rounds: 3 },
  streaming: { scale: 10, changes: 500_000, rounds: 3, seconds: 60 },
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
  copy: { rows: 300_000, rounds: 2 },
  live: { scale: 2, rounds: 1 },
  peers: { rows: 200_000, rounds: 1, payments: 160_000, scans: 1_000 },
  durable: { small: 50_000, rows: 300_000, rounds: 1 },
  streaming: { scale: 1, changes: 50_000, rounds: 1, seconds: 5 },
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
  live: (bench, size) => live(bench, size.live),
  peers: (bench, size) => peers(bench, size.peers),
  durable: (bench, size) => durable(bench, size.durable),
  streaming: (bench, size) => streaming(bench, size.streaming),
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
  const measured = new Map<string, readonly Line[]>();
  let version = '';
  try {
    version =
      (await bench.client.query<{ v: string }>("SELECT current_setting('server_version') AS v")).rows[0]?.v ?? '';
    for (const name of names) {
      note(`part ${name}`);
      const made = (await PARTS[name]?.(bench, size)) ?? [];
      for (const line of markdown(made).split('\n').slice(2)) note(line);
      measured.set(name, made);
    }
  } finally {
    await bench.close();
  }
  const lines = [...measured.values()].flat();
  const where = `Node ${process.version.slice(1)}, PostgreSQL ${version}, ${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${formatBytes(totalmem())}; ${Math.round((Date.now() - began) / 60_000)} min, ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC.`;
  process.stdout.write(`${markdown(lines)}\n\n${where}\n`);
  if ((values.only === undefined || values.keep) && !values.smoke && values.pairs === undefined) keep(measured, where);
  return lines.every((line) => line.met !== false) ? 0 : 1;
}

/** Writes the parts of this run; those of earlier runs stay as they are, each with its own last line. */
function keep(measured: ReadonlyMap<string, readonly Line[]>, where: string): void {
  const file = join(resolve(__dirname, '..', __dirname.includes('dist') ? '..' : ''), 'bench', 'README.md');
  const [, ...sections] = readFileSync(file, 'utf8').split(/^## (?=\w+$)/m);
  const texts = new Map(sections.map((text) => [text.slice(0, text.indexOf('\n')), text.trimEnd()]));
  for (const [name, lines] of measured) texts.set(name, `${name}\n\n${markdown(lines)}\n\n${where}`);
  const ordered = Object.keys(PARTS).flatMap((name) => texts.get(name) ?? []);
  writeFileSync(file, `${[HEAD.trimEnd(), ...ordered.map((text) => `## ${text}`)].join('\n\n')}\n`);
}

const HEAD = `# Bench

\`npm run bench\` (add \`-- --smoke\` for a small one, \`-- --only latency\` for a part, \`--keep\` writes a part's table here too; \`PGSHIFT_BENCH_PGROLL=/path/to/pgroll\` adds pgroll,
\`PGSHIFT_BENCH_PAGILA=/path/to/pagila.sql\` says where the dump of Pagila is, and pgcopydb and Postgres 15 are Debian's). A part is one run on one machine, and its ratios
are within that run; the line below a table says which. Server, worker, Temporal and pgbench share its cores.
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
