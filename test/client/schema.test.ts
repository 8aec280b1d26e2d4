/** The published JSON Schema is the one that validates, and the examples keep to it. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadStartable } from '../../client/planFile';
import { planJsonSchema } from '../../client/planSchema';

const root = join(__dirname, '..', '..');

test('docs/plan.schema.json is current (pgshift schema > docs/plan.schema.json, then prettier)', () => {
  const committed = JSON.parse(readFileSync(join(root, 'docs', 'plan.schema.json'), 'utf8')) as unknown;
  expect(committed).toEqual(JSON.parse(JSON.stringify(planJsonSchema())));
});

test('it is draft 2020-12 and refuses unknown keys', () => {
  const schema = planJsonSchema() as { $schema: string; oneOf: readonly { additionalProperties?: boolean }[] };
  expect(schema.$schema).toBe('https://json-schema.org/draft/2020-12/schema');
  expect(schema.oneOf.length).toBeGreaterThan(3);
  expect(schema.oneOf.every((plan) => plan.additionalProperties === false)).toBe(true);
});

const examples = readdirSync(join(root, 'examples')).filter((name) => /\.(yaml|json)$/.test(name));

test.each(examples)('examples/%s is a plan', (name) => {
  const loaded = loadStartable(join(root, 'examples', name));
  const [one] = Object.values(loaded) as { readonly plan: { readonly kind: string } }[];
  expect(['schema-migration', 'data-migration', 'blue-green', 'canary', 'validation']).toContain(one?.plan.kind);
});
