// Lets a plain `node -r` child of a test run the TypeScript sources, compiled the same way as jest compiles them.
const { transformFileSync } = require('@swc/core');

require.extensions['.ts'] = (module, file) => module._compile(transformFileSync(file).code, file);
