/** The plain streams in a process like the worker's, with nothing else in it: prints their seconds. Started by `durable`. */
import { plainStreams } from './engine';

const { PGSHIFT_BENCH_FROM: from = '', PGSHIFT_BENCH_TO: to = '', PGSHIFT_BENCH_ROWS: rows } = process.env;
plainStreams({ from, to }, Number(rows)).then(
  (seconds) => process.stdout.write(`${seconds}\n`),
  (error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
  },
);
