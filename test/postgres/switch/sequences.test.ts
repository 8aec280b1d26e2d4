import { readSequences, sequencesBehind, setSequences } from '../../../postgres/switch/sequences';
import type { TestPair } from '../../support/pair';
import { describePairs, testPair } from '../../support/pair';
import { codeOf } from '../../support/engine';

const SETUP = `
  CREATE TABLE t (id bigserial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY);
  CREATE SEQUENCE free; CREATE SEQUENCE down INCREMENT -5 MINVALUE -1000000 MAXVALUE 100 START 100;
  CREATE SEQUENCE cached CACHE 50; CREATE SEQUENCE never START 77; CREATE SEQUENCE small AS smallint;
  CREATE SEQUENCE turns MAXVALUE 10 CYCLE; CREATE SEQUENCE "Odd ""Seq"; CREATE SEQUENCE huge START 9223372036854775800;
  CREATE SEQUENCE preset`;

describePairs('sequences', (from, to) => {
  let t: TestPair;
  beforeEach(async () => {
    t = await testPair([from, to], SETUP);
    await t.blue.query(
      `INSERT INTO t SELECT FROM generate_series(1, 30); SELECT nextval('free'), nextval('down'), nextval('down'), nextval('cached'),
              nextval('turns'), nextval('"Odd ""Seq"'), nextval('huge'), setval('small', 32000), setval('preset', 500, false)`,
    );
  });
  afterEach(() => t.drop());
  const next = async (db: 'blue' | 'green', name: string) =>
    (await t[db].query<{ v: string }>(`SELECT nextval($1) AS v`, [name]))[0]?.v;

  test('none hands out a used value, there and back; again changes nothing', async () => {
    const { blue, green } = t.both;
    expect(await sequencesBehind(blue, green)).toHaveLength(10);
    expect(await setSequences(blue, green, 1000)).toEqual({
      sequences: 11,
      changed: 10,
      withoutGap: ['public.huge', 'public.small', 'public.turns'],
      missing: [],
    });
    expect(await sequencesBehind(blue, green)).toEqual([]);
    expect(await setSequences(blue, green, 1000)).toMatchObject({ changed: 0 });
    const got = Object.fromEntries(
      await Promise.all(
        ['t_id_seq', 't_n_seq', 'free', 'down', 'cached', 'never', 'small', 'turns', 'huge', 'preset'].map(
          async (name) => [name, await next('green', name)] as const,
        ),
      ),
    );
    expect(got).toEqual({
      t_id_seq: '1031',
      t_n_seq: '1031',
      free: '1002',
      down: '-4910',
      cached: '1051',
      never: '77',
      small: '32001',
      turns: '2',
      huge: '9223372036854775801',
      preset: '500',
    });
    // Back: blue passes everything that green has given.
    await setSequences(green, blue, 1000);
    expect(await sequencesBehind(green, blue)).toEqual([]);
    expect(await next('blue', 'down')).toBe('-9915');
    expect(await next('blue', 'never')).toBe('1078');
  });

  test('ten thousand values close to the end keep their precision; one that the target cannot hold is refused', async () => {
    await t.green.query(`ALTER SEQUENCE small MAXVALUE 100`);
    expect(await codeOf(setSequences(t.both.blue, t.both.green, 10))).toBe('GuardrailFailed');
    await t.green.query(`DROP SEQUENCE small`);
    expect(await setSequences(t.both.blue, t.both.green, 3)).toMatchObject({ missing: ['public.small'] });
    expect(await sequencesBehind(t.both.blue, t.both.green)).toEqual(['public.small']);
    expect((await readSequences(t.both.green)).find(({ name }) => name === 'huge')?.last).toBe(9223372036854775803n);
  });
});
