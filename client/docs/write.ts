/** `npm run docs`: writes the generated pages. A test compares them with what this would write. */
import { readFileSync, writeFileSync } from 'node:fs';
import { Problem } from '../../plan/model/errors';
import { withCrashTable } from './crashTable';
import { errorsPage } from './errorsPage';

writeFileSync('docs/errors.md', errorsPage());
const page = withCrashTable(readFileSync('ARCHITECTURE.md', 'utf8'));
if (page === null) throw new Problem('Bug', 'ARCHITECTURE.md has no place for the crash points');
writeFileSync('ARCHITECTURE.md', page);
console.log('written: docs/errors.md, ARCHITECTURE.md');
