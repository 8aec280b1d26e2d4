#!/usr/bin/env node
/** The command `pgshift`. */
import { main } from './main';

// `pgshift list | head` is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 70));

void main(process.argv.slice(2)).then((code) => {
  // The last bytes first: a pipe may still be draining.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
});
