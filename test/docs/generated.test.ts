/** Generated pages are what the code would generate now; every document's relative links lead to a file. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { crashTable } from '../../client/docs/crashTable';
import { errorsPage } from '../../client/docs/errorsPage';
import { ERRORS } from '../../plan/model/errors';

const root = resolve(__dirname, '..', '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const PAGES = [
  'README.md',
  'ARCHITECTURE.md',
  'docs/errors.md',
  'docs/grants.md',
  'docs/operations.md',
  'docs/data.md',
  'bench/README.md',
];

describe('documentation', () => {
  test('docs/errors.md is what the catalogue of errors says', () => {
    expect(read('docs/errors.md')).toBe(errorsPage());
    for (const code of Object.keys(ERRORS)) expect(errorsPage()).toContain(`<a id="${code.toLowerCase()}"></a>`);
  });

  test('the crash points of ARCHITECTURE.md are those of the code', () => {
    expect(read('ARCHITECTURE.md')).toContain(crashTable());
  });

  test.each(PAGES)('every relative link of %s leads to a file', (page) => {
    const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)/g)].map((m) => m[1] ?? '');
    for (const link of links) expect([link, existsSync(resolve(root, dirname(page), link))]).toEqual([link, true]);
  });
});
