/** The worker dies with -9 in the middle of a stream: every change is there once. All crash points: test/chaos/stream.chaos.ts. */
import { killStream } from '../support/streamKill';

test('kill -9 between the commit and the slot, and in the middle of a large transaction', async () => {
  await killStream({ before: [], during: ['stream.after-commit:2', 'stream.piece'], after: [], freeze: false });
}, 200_000);
