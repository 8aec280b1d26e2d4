/** For tests of copies: two databases, schema pgshift and a claimed migration in the target, a context, and a comparison of both ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataMigrationInput } from '../../plan/model/dataMigration';
import { copyControlOf } from '../../plan/model/dataMigration';
import { validateDataMigration } from '../../plan/model/validate';
import { fingerprintCatalog } from '../../postgres/catalog/diff';
import type { CopyContext } from '../../postgres/copy/context';
import { chosenTables } from '../../postgres/copy/tables';
import { checkMaps } from '../../postgres/map/preflight';
import { storeMaps } from '../../postgres/map/store';
import { openCopySession } from '../../postgres/copy/context';
import { buildRest, copyBatch, makeSchema, openSnapshot } from '../../postgres/copy/run';
import { withSession } from '../../postgres/session';
import { install } from '../../postgres/state/install';
import { claimName } from '../../postgres/state/migrations';
import { target } from '../../postgres/types';
import { findPostgresBin } from '../../worker/embedded/tools';
import type { FreshDatabase, ServerVersion } from './database';
import { freshDatabase } from './database';

export const COPY = 'copy1';

export interface CopyPair {
  readonly source: FreshDatabase;
  readonly target: FreshDatabase;
  readonly context: CopyContext;
  readonly abort: () => void;
  drop(): Promise<void>;
}

/** pg_dump of the newest server: older ones refuse newer sources. */
export async function needPostgresTools(): Promise<void> {
  process.env.PGSHIFT_POSTGRES_BIN ??= (await findPostgresBin()).path;
}

export async function copyPair(
  setup: string,
  plan: Partial<DataMigrationInput> = {},
  versions: readonly [ServerVersion, ServerVersion] = [18, 18],
  targetSetup = '',
): Promise<CopyPair> {
  await needPostgresTools();
  const source = await freshDatabase(versions[0], setup);
  const to = await freshDatabase(versions[1], targetSetup === '' ? undefined : targetSetup);
  const given = validateDataMigration({ name: COPY, source: 'old', target: 'app', ...plan });
  await withSession(target('app', to.url), { purpose: 'test' }, async (session) => {
    await install(session);
    await claimName(session, {
      name: COPY,
      kind: 'data-migration',
      checksum: 'x',
      dependencies: [],
      workflowId: 'w1',
      runId: 'r1',
      appliedBy: null,
    });
    await storeMaps(session, COPY, given.map);
  });
  const abort = new AbortController();
  const context: CopyContext = {
    source: target('old', source.url),
    target: target('app', to.url),
    migration: COPY,
    control: copyControlOf(given),
    lockTimeoutMs: 200,
    // A slot waits for every open transaction of its server, and other files have theirs there.
    lockBudgetMs: 30_000,
    signal: abort.signal,
    admit: async () => undefined,
    log: () => undefined,
  };
  return {
    source,
    target: to,
    context,
    abort: () => abort.abort(),
    async drop() {
      await to.query(`UPDATE pgshift.copy_epochs SET ended_at = now()`).catch(() => undefined);
      await Promise.all([source.drop(), to.drop()]);
    },
  };
}

/** From snapshot to the last object. @throws the first table's problem. */
export async function copyAll(context: CopyContext): Promise<Awaited<ReturnType<typeof buildRest>>> {
  const { pieces } = await openSnapshot(context);
  await makeSchema(context);
  for (const { from, to } of pieces) {
    const { failed } = await copyBatch(context, from, to);
    for (const { table, code, message } of failed) throw new Error(`${table} ${code}: ${message}`);
  }
  return buildRest(context);
}

/** What preflight says of the map. */
export async function checkPlan(
  pair: Pick<CopyPair, 'source' | 'target'>,
  plan: Partial<DataMigrationInput>,
): Promise<void> {
  const given = validateDataMigration({ name: COPY, source: 'old', target: 'app', ...plan });
  const control = copyControlOf(given);
  const of = { migration: COPY };
  const source = await openCopySession(of, target('old', pair.source.url), 'test');
  const to = await openCopySession(of, target('app', pair.target.url), 'test');
  try {
    await checkMaps({
      source,
      target: to,
      control,
      map: given.map,
      chosen: await chosenTables(source, control.tables),
    });
  } finally {
    await Promise.all([source.close(), to.close()]);
  }
}

/** Every row of every table of the user's, as text, sorted; and the catalogue. */
export async function contents(database: FreshDatabase): Promise<{ rows: string[]; catalog: readonly string[] }> {
  const tables = await database.query<{ name: string }>(
    `SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift') ORDER BY 1`,
  );
  const rows: string[] = [];
  for (const { name } of tables) {
    const found = await database.query<{ row: string }>(
      `SELECT (ROW(t.*))::text AS row FROM ONLY ${name} AS t ORDER BY 1`,
    );
    rows.push(...found.map(({ row }) => `${name} ${row}`));
  }
  const client = await database.client();
  const catalog = await fingerprintCatalog(client);
  await client.end();
  return { rows, catalog };
}

export async function eventually(what: () => Promise<boolean>, ms = 15_000): Promise<void> {
  for (const end = Date.now() + ms; !(await what()); await sleep(50))
    if (Date.now() > end) throw new Error('it did not come true in time');
}
