/**
 * `npm test` draws where the same thing is asked of many servers; `.ci/run` sets PGSHIFT_TEST_WHOLE=1 and leaves nothing out. What is drawn is a
 * third, by a seed of the day, so that all files of a run agree and three days see everything.
 */
export const WHOLE = process.env.PGSHIFT_TEST_WHOLE === '1';

const DAY_MS = 86_400_000;
const THIRDS = 3;
/** PGSHIFT_TEST_DRAW=0, 1 or 2 asks for one of them. */
const today = Number(process.env.PGSHIFT_TEST_DRAW ?? Math.floor(Date.now() / DAY_MS));

/** Of a list: everything, or today's third (at least one). */
export const drawn = <T>(items: readonly T[]): readonly T[] => {
  const third = items.filter((_, index) => index % THIRDS === today % THIRDS);
  return WHOLE ? items : third.length > 0 ? third : items.slice(0, 1);
};

/** As `test`, for a file whose tests are many and long: each third one today. */
export function drawnTests(): (title: string, body: () => Promise<void>, ms?: number) => void {
  let index = 0;
  return (title, body, ms) => {
    if (WHOLE || index % THIRDS === today % THIRDS) test(title, body, ms);
    index += 1;
  };
}

/** Of things that are many by their names: is this one of today's third? */
export const isDrawn = (name: string): boolean =>
  WHOLE || [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % THIRDS === today % THIRDS;
