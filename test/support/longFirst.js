/**
 * The order of the test files: the long ones first. With few lanes, a file of three minutes that began last would be waited for alone.
 * In a fresh clone jest knows no times and goes by the size of the files, and a test that kills is short to write and long to run.
 */
const Sequencer = require('@jest/test-sequencer').default;

const LONG = [
  'e2e/killThere',
  'e2e/field-m',
  'plan/equal',
  'client/run',
  'e2e/copyKill',
  'e2e/killBack',
  'workflows/messages',
  'workflows/blueGreen',
  'e2e/field-r',
  'workflows/ways',
  'workflows/canary',
  'e2e/canarySides',
  'client/demo/story',
  'workflows/streaming',
  'workflows/conditions',
  'postgres/batches',
  'postgres/switch/release',
  'workflows/dataMigration',
  'e2e/verify',
  'workflows/blueGreenTraffic',
  'plan/shadow',
];

const place = ({ path }) => {
  const found = LONG.findIndex((name) => path.endsWith(`/test/${name}.test.ts`));
  return found < 0 ? LONG.length : found;
};

module.exports = class LongFirst extends Sequencer {
  async sort(tests) {
    return [...(await super.sort(tests))].sort((a, b) => place(a) - place(b));
  }
};
