/** Fast and end-to-end tests: real Temporal, real Postgres. The kill matrix is jest.chaos.config.js. */
module.exports = {
  testEnvironment: 'node',
  transform: { '^.+\\.ts$': '@swc/jest' },
  roots: ['<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/test/chaos/'],
  globalSetup: '<rootDir>/test/support/globalSetup.ts',
  globalTeardown: '<rootDir>/test/support/globalTeardown.ts',
  testTimeout: 120000,
  // Two cores are full with three; a fourth lane only makes everybody wait for each other.
  maxWorkers: 3,
  testSequencer: '<rootDir>/test/support/longFirst.js',
};
