import fc from 'fast-check';
import { evaluate, parseExpression } from '../../plan/model/expression';
import { isProblem } from '../../plan/model/errors';

const run = (text: string, readings = {}) => evaluate(parseExpression(text), readings);

describe('expressions of conditions', () => {
  test.each([
    ['1 + 2 * 3 == 7', true],
    ['(1 + 2) * 3 == 9', true],
    ['-2 * -3 == 6', true],
    ['10 / 4 == 2.5', true],
    ['2 - 1 - 1 == 0', true],
    ['1e3 > 999.5', true],
    ['.5 < 1', true],
    ['not 1 > 2 and 1 < 2', true],
    ['1 > 2 or not (1 < 2)', false],
    ['1 != 1', false],
    ['(1 < 2) and (2 <= 2)', true],
  ])('%s is %s', (text, expected) => expect(run(text)).toBe(expected));

  test.each([null, NaN, Infinity, undefined])('a reading of %s is inconclusive, never a pass', (value) => {
    expect(run('value < 1', { value })).toBeNull();
    expect(run('value == value', { value })).toBeNull();
    expect(run('not value < 1', { value })).toBeNull();
    expect(run('value < 1 or 1 == 1', { value })).toBe(true);
    expect(run('value < 1 and 1 == 2', { value })).toBe(false);
    expect(run('value < 1 and 1 == 1', { value })).toBeNull();
  });

  test('dividing by zero is inconclusive', () => {
    expect(run('value / baseline > 2', { value: 1, baseline: 0 })).toBeNull();
  });

  test.each([
    ['', 'ends too early'],
    ['value', 'not a condition'],
    ['1 < 2 < 3', 'unexpected <'],
    ['value > 1 2', 'unexpected 2'],
    ['(value > 1', 'not closed'],
    ['value > ', 'ends too early'],
    ['process.exit()', 'unexpected text'],
    ['constructor > 1', 'unknown name constructor'],
    ['__proto__ > 1', 'unknown name __proto__'],
    ['value > 1 and 2', 'join conditions'],
    ['(value > 1) + 1 > 2', 'used as a number'],
    ['not 1', 'join conditions'],
    ['value = 1', 'unexpected text'],
    [`${'('.repeat(200)}1 < 2${')'.repeat(200)}`, 'nested too deeply'],
    [`${'not '.repeat(200)}1 < 2`, 'nested too deeply'],
    ['1 < 1 or '.repeat(400) + '1 < 2', 'too long'],
  ])('%s is refused: %s', (text, why) => {
    try {
      parseExpression(text, 'health[0].failWhen');
      throw new Error('was accepted');
    } catch (error) {
      expect(isProblem(error)).toBe(true);
      expect((error as Error).message).toContain(why);
    }
  });

  test('says which names it reads', () => {
    expect(parseExpression('value > 2 * baseline or value > 10').names).toEqual(['value', 'baseline']);
  });

  test('any text either parses or is a Problem', () => {
    const piece = fc.constantFrom(
      'value',
      'baseline',
      '1',
      '.5',
      '+',
      '-',
      '*',
      '/',
      '<',
      '==',
      'and',
      'or',
      'not',
      '(',
      ')',
      'x',
      '"',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        try {
          const answer = run(pieces.join(' '), { value: 3, baseline: 2 });
          return answer === true || answer === false || answer === null;
        } catch (error) {
          return isProblem(error);
        }
      }),
    );
  });
});
