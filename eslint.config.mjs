// Lint is architecture here: imports point one way (see ARCHITECTURE.md, folders).
import { builtinModules } from 'node:module';
import tseslint from 'typescript-eslint';

const builtins = [...builtinModules, ...builtinModules.map((name) => `node:${name}`)];
const ban = (group, message) => ({ group, message });
const restrict = (patterns, paths = []) => ({
  '@typescript-eslint/no-restricted-imports': ['error', { patterns, paths }],
});
const noClient = ban(
  ['**/client/**', '**/client', '!@temporalio/client', '!@temporalio/client/**'],
  'nothing imports client',
);

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', '**/*.js', '**/*.mjs'] },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-explicit-any': 'error',
      eqeqeq: 'error',
      'object-shorthand': 'error',
    },
  },
  {
    files: ['plan/model/**/*.ts'],
    rules: restrict(
      [
        noClient,
        ban(
          [
            '**/postgres/**',
            '**/traffic/**',
            '**/worker/**',
            '**/workflows/**',
            '**/activities/**',
            '**/plan/sql/**',
            '**/sql/**',
            '@temporalio/*',
            'pg',
            'pino',
            'libpg-query',
          ],
          'plan/model is pure and bundled into workflows',
        ),
      ],
      builtins.map((name) => ({ name, message: 'plan/model is pure' })),
    ),
  },
  {
    files: ['plan/sql/**/*.ts'],
    rules: restrict([
      noClient,
      ban(
        [
          '**/postgres/**',
          '**/traffic/**',
          '**/worker/**',
          '**/workflows/**',
          '**/activities/**',
          '@temporalio/*',
          'pg',
        ],
        'plan/sql is pure: SQL + catalogue -> steps',
      ),
    ]),
  },
  {
    files: ['workflows/**/*.ts'],
    rules: restrict(
      [
        noClient,
        ban(
          ['**/postgres/**', '**/traffic/**', '**/worker/**', '**/plan/sql/**', 'pg', 'pino', 'libpg-query'],
          'workflows import plan/model only',
        ),
        { group: ['**/activities/**', '**/activities'], allowTypeImports: true, message: 'activities only as types' },
      ],
      builtins.map((name) => ({ name, message: 'workflows are deterministic' })),
    ),
  },
  {
    files: ['postgres/**/*.ts', 'traffic/**/*.ts'],
    rules: restrict([
      noClient,
      ban(
        ['**/workflows/**', '**/activities/**', '**/worker/**', '@temporalio/*'],
        'postgres/ and traffic/ know no Temporal',
      ),
    ]),
  },
  { files: ['activities/**/*.ts', 'worker/**/*.ts'], rules: restrict([noClient]) },
  {
    files: ['client/router/**/*.ts'],
    rules: restrict([
      {
        regex: '^\\.\\./(?!\\.\\./plan/model/)|^@temporalio/|^libpg-query$|^pino$',
        message: 'the router library lives in applications: of ours it imports plan/model alone',
      },
    ]),
  },
  { files: ['test/**/*.ts', 'bench/**/*.ts'], rules: { '@typescript-eslint/no-non-null-assertion': 'off' } },
);
