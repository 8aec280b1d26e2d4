/** The worker dies with -9 at every crash point of a stream, and freezes once, while clients write. */
import { killStream } from '../support/streamKill';

test('kill -9 at every crash point of a stream', async () => {
  await killStream({
    before: ['stream.published', 'stream.slot', 'epoch.after'],
    during: ['stream.before-commit:3', 'stream.after-commit:2', 'stream.piece'],
    after: ['stream.unslotted'],
    freeze: true,
  });
}, 400_000);
