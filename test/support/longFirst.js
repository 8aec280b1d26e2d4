/**
 * The order of the test files: the long ones first. With three lanes, a file of three minutes that began last would be waited for alone.
 * In a fresh clone jest knows no times and goes by the size of the files, and a test that kills is short to write and long to run.
 */
const Sequencer = require('@jest/test-sequencer').default;

const LONG = [
  'e2e/killThere',
  'plan/equal',
  'e2e/copyKill',
  'e2e/field-m',
  'e2e/killBack',
  'e2e/field-r',
  'workflows/blueGreenTraffic',
  'plan/shadow',
  'client/run',
  'workflows/blueGreen',
  'workflows/dataMigration',
  'workflows/messages',
  'client/demo/story',
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
