/**
 * The shop as an application that follows a route: a role of its own on both sides, and schema pgshift, which its router asks. For the chapters that move it
 * to another database.
 */
import { ident, literal } from '../../postgres/ident';
import { withSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { grantRouting } from '../../postgres/state/routes';
import { withBoth } from '../../postgres/switch/pair';
import { leavings } from '../../postgres/switch/replicate';
import { target } from '../../postgres/types';
import { onDatabase } from './database';
import type { Stage } from './stage';
import type { Workload } from './workload';
import { WRITER_CONNECTIONS, WRITER_RATE, Writer } from './writer';

/** The application's role and its route. */
export const SHOP = 'shop_app';

export type PairStage = Stage & { readonly greenUrl: string };

/** The role's own. Secrets. */
export interface ShopUrls {
  readonly blue: string;
  readonly green: string;
}

/** What the application's role may do on blue, and schema pgshift, which its router follows. May be done again. */
async function openShop({ url, greenUrl }: PairStage): Promise<ShopUrls> {
  const { password } = new URL(url);
  await onDatabase(url, async (client) => {
    const known = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [SHOP]);
    // The embedded server asks for passwords; it is on loopback only, and gone with the demo.
    if (known.rowCount === 0)
      await client.query(`CREATE ROLE ${ident(SHOP)} LOGIN PASSWORD ${literal(decodeURIComponent(password))}`);
    const { rows } = await client.query<{ name: string }>(
      `SELECT n.nspname AS name FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgshift')`,
    );
    for (const schema of rows.map(({ name }) => ident(name)))
      await client.query(
        `GRANT USAGE ON SCHEMA ${schema} TO ${ident(SHOP)}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA ${schema} TO ${ident(SHOP)};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO ${ident(SHOP)}`,
      );
  });
  for (const one of [target('app', url), target('green', greenUrl)])
    await withSession(one, { purpose: 'demo' }, async (session) => {
      await install(session);
      await grantRouting(session, [SHOP]);
    });
  const as = (of: string): string => {
    const changed = new URL(of);
    changed.username = SHOP;
    return changed.toString();
  };
  return { blue: as(url), green: as(greenUrl) };
}

/** The shop with a writer that follows its route. @param before the chapters that ran on this stage already: their writer's rows are still there. */
export async function openRoutedShop(
  stage: PairStage,
  before: readonly string[],
): Promise<{ readonly urls: ShopUrls; readonly writer: Writer }> {
  const urls = await openShop(stage);
  const workload = behind(stage.workload, before.length);
  const routed = { route: SHOP, green: urls.green };
  return { urls, writer: await Writer.start(urls.blue, workload, WRITER_RATE, WRITER_CONNECTIONS, routed) };
}

/** Keys and copies that none of the `writers` before it on this stage has used. */
const behind = (workload: Workload, writers: number): Workload => ({
  ...workload,
  firstKey: (BigInt(workload.firstKey) + (BigInt(workload.firstKey) / 8n) * BigInt(writers)).toString(),
  firstCopy: workload.firstCopy + 500 * writers,
});

/** Publications, subscriptions, slots, walls and guard rows of a run, on either side. */
export const leftOver = ({ url, greenUrl }: PairStage, migration: string): Promise<readonly string[]> =>
  withBoth({ migration, blue: target('app', url), green: target('green', greenUrl) }, 'demo', async (both) =>
    (await leavings(both)).map(({ side, what, name }) => `${what} ${name} on ${side}`),
  );
