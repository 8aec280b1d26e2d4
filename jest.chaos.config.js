/** The whole kill matrix (minutes to hours): every crash point, every victim, plus random moments from a printed seed. */
module.exports = {
  ...require('./jest.config.js'),
  testMatch: ['**/test/chaos/**/*.chaos.ts'],
  testPathIgnorePatterns: ['/node_modules/'],
  testTimeout: 3600000,
  maxWorkers: 1,
};
