/** SchemaPlan.asked explains every difference that the plain SQL makes, and nothing in it is without a difference. */
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import { catalogDiffLines } from '../../postgres/catalog/report';
import { freshDatabase } from '../support/database';
import { planOn } from '../support/naive';
import { drawn } from '../support/whole';
import { CASES, SETUP } from './equalCases';

describe('what a plan asks for', () => {
  for (const { name, sql, setup, plain, extra } of drawn(CASES)) {
    it(name, async () => {
      const database = await freshDatabase(18, SETUP);
      try {
        const client = await database.client();
        if (setup) await client.query(setup);
        const { asked } = await planOn(client, sql, extra);
        const before = await fingerprintCatalog(client);
        await database.query(plain ?? sql);
        const report = catalogDiffLines(before, await fingerprintCatalog(client), asked);
        // The plain SQL keeps no archive.
        const missing = report.missing.filter((line) => !line.includes(' kept'));
        expect({ other: report.other, missing }).toEqual({ other: [], missing: [] });
      } finally {
        await database.drop();
      }
    });
  }
});
