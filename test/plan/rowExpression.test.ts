/** Expressions of a map: only an expression is taken, names are those of the row, and sub-queries keep their own. */
import { isProblem } from '../../plan/model/errors';
import { loadParser, rowExpression } from '../../plan/sql/rowExpression';

const of = { table: { schema: 'public', name: 'person' }, columns: ['id', 'name', 'Odd "x"', 'note'], alias: 'r' };
const sql = (text: string): string => rowExpression(text, of, 'map.person.where').sql;

beforeAll(() => loadParser());

test.each([
  ['name', 'r.name'],
  ['person.name || note', 'r.name || r.note'],
  ['public.person.id + 1', 'r.id + 1'],
  ['"Odd ""x""" IS NULL', 'r."Odd ""x""" IS NULL'],
  ['name /* and a comment */', 'r.name'],
  // A bare name in a sub-query may be its own table's: Postgres decides; the row's is said with the table's name.
  [
    '(SELECT max(o.id) FROM orders o WHERE o.name = person.name AND note)',
    '(SELECT max(o.id) FROM orders AS o WHERE o.name = r.name AND note)',
  ],
  ['(SELECT p.id FROM person p WHERE p.id = person.id)', '(SELECT p.id FROM person AS p WHERE p.id = r.id)'],
  // There the name is the sub-query's own.
  ['(SELECT max(person.id) FROM person)', '(SELECT max(person.id) FROM person)'],
  ['(SELECT count(*) FROM orders)', '(SELECT count(*) FROM orders)'],
])('%s', (text, expected) => {
  expect(sql(text)).toBe(expected);
});

test.each([
  ['nix', 'NoSuchObject'],
  ['other.name', 'NoSuchObject'],
  ['(SELECT person.nix FROM orders)', 'NoSuchObject'],
  ['name; DROP TABLE person', 'InvalidPlan'],
  ['name), (note', 'InvalidPlan'],
  ['1) FROM pg_class --', 'InvalidPlan'],
  ['', 'InvalidPlan'],
  ['name AS x', 'InvalidPlan'],
  ['person.*', 'InvalidPlan'],
  ['$1', 'InvalidPlan'],
  ['now()', 'InvalidPlan'],
  ['current_date', 'InvalidPlan'],
])('%s is refused', (text, code) => {
  try {
    sql(text);
  } catch (error) {
    expect(isProblem(error) && [error.code, error.where?.path]).toEqual([code, 'map.person.where']);
    return;
  }
  throw new Error('it was taken');
});
