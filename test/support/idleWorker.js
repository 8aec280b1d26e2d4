// Stands in for the worker where a test is about the supervisor: it answers on the metrics page, says what it was given, and waits.
const { createServer } = require('node:http');

const [host, port] = process.env.PGSHIFT_METRICS_ADDRESS.split(':');
createServer((_, response) => response.end('ok')).listen(Number(port), host);
const given = ['TEMPORAL_ADDRESS', 'PGSHIFT_DATABASE_APP', 'PGSHIFT_POSTGRES_BIN'].map((name) => [
  name,
  process.env[name],
]);
process.stdout.write(`${JSON.stringify(Object.fromEntries(given))}\n`);
