/** How a bench copies: pgshift's own road without Temporal, the same as a whole run, and the same streams without anything of ours around them. */
import { Client, Connection } from '@temporalio/client';
import type { DataMigrationInput } from '../plan/model/dataMigration';
import { copyControlOf } from '../plan/model/dataMigration';
import { validateDataMigration } from '../plan/model/validate';
import type { CopyContext } from '../postgres/copy/context';
import { openCopySession } from '../postgres/copy/context';
import { buildRest, closeSnapshot, copyBatch, makeSchema, openSnapshot } from '../postgres/copy/run';
import { pipeCopy } from '../postgres/copy/stream';
import { withSession } from '../postgres/session';
import { install } from '../postgres/state/install';
import { claimName } from '../postgres/state/migrations';
import { target } from '../postgres/types';
import { on, residentBytes, timed } from './stack';
import type { Bench } from './stack';

export const STREAMS = 2;
export const TABLE = 'bench_accounts';
/** As pgbench_accounts: 97 bytes of data a row. */
export const SHAPE = `CREATE TABLE ${TABLE} (aid int NOT NULL, bid int, abalance int, filler character(84))`;

/** Where from and where to. Secrets. */
export interface Urls {
  readonly from: string;
  readonly to: string;
}

export async function fill(url: string, rows: number): Promise<void> {
  await on(url, async (client) => {
    await client.query(`DROP TABLE IF EXISTS ${TABLE}`);
    await client.query(SHAPE);
    await client.query(`INSERT INTO ${TABLE} SELECT g, g % 50, g % 1000, '' FROM generate_series(1, ${rows}) g`);
    await client.query(`ALTER TABLE ${TABLE} ADD PRIMARY KEY (aid)`);
    await client.query(`VACUUM ANALYZE ${TABLE}`);
  });
}

/** Nothing of an earlier round is still to be written when the next one begins. */
export const settled = (url: string): Promise<unknown> => on(url, (client) => client.query('CHECKPOINT'));

export function contextOf(urls: Urls, plan: Partial<DataMigrationInput> & { readonly name: string }): CopyContext {
  const whole = validateDataMigration({ source: 'from', target: 'to', verify: 'none', ...plan });
  return {
    source: target('from', urls.from),
    target: target('to', urls.to),
    migration: whole.name,
    control: copyControlOf(whole),
    lockTimeoutMs: 200,
    lockBudgetMs: 60_000,
    signal: new AbortController().signal,
    admit: async () => undefined,
    log: () => undefined,
  };
}

export async function claimed(context: CopyContext): Promise<void> {
  await withSession(context.target, { purpose: 'bench' }, async (session) => {
    await install(session);
    const { migration: name } = context;
    const run = { workflowId: name, runId: name, appliedBy: null };
    await claimName(session, { name, kind: 'data-migration', checksum: name, dependencies: [], ...run });
  });
}

/** Seconds of the copy of one table with its key and ANALYZE, in this process. */
export async function engineCopy(urls: Urls, name: string): Promise<number> {
  const context = contextOf(urls, { name, parallel: { tables: 1, rangesPerTable: STREAMS } });
  await claimed(context);
  return timed(async () => {
    const { pieces } = await openSnapshot(context);
    await makeSchema(context);
    for (const { from, to } of pieces) await copyBatch(context, from, to);
    await buildRest(context);
    await closeSnapshot(context, 'bench');
  });
}

/** The same streams by the same driver, with nothing of pgshift around them: no snapshot held, no checkpoints, no fencing, no workflow. */
export async function plainStreams(urls: Urls, rows: number): Promise<number> {
  const context = contextOf(urls, { name: 'plain' });
  const stretch = Math.ceil(rows / STREAMS);
  const one = async (n: number): Promise<void> => {
    const source = await openCopySession(context, context.source, 'plain');
    const into = await openCopySession(context, context.target, 'plain');
    const sql = {
      out: `COPY (SELECT * FROM public.${TABLE} WHERE aid > ${n * stretch} AND aid <= ${(n + 1) * stretch}) TO STDOUT (FORMAT binary)`,
      into: `COPY public.${TABLE} FROM STDIN (FORMAT binary)`,
    };
    await pipeCopy(source, into, sql, context.signal);
    await Promise.all([source.close(), into.close()]);
  };
  return timed(async () => {
    await on(urls.to, (client) => client.query(SHAPE));
    await Promise.all(Array.from({ length: STREAMS }, (_, n) => one(n)));
    await on(urls.to, (client) => client.query(`ALTER TABLE ${TABLE} ADD PRIMARY KEY (aid); ANALYZE ${TABLE}`));
  });
}

export interface Ran {
  /** From start to the end that Temporal tells. */
  readonly seconds: number;
  /** The most that the worker held, bytes. */
  readonly residentBytes: number;
}

/** A whole run of `dataMigration`, from connection `from` to connection `to` of the stack. */
export async function runCopy(bench: Bench, name: string, keys: Partial<DataMigrationInput> = {}): Promise<Ran> {
  const { temporal, stack } = bench;
  const id = `migration/to/${name}`;
  const connection = await Connection.connect({ address: stack.temporalAddress });
  const { workflow } = new Client({ connection, namespace: stack.namespace });
  let most = 0;
  const look = (): void => {
    const pid = stack.pid('worker');
    if (pid !== null) most = Math.max(most, residentBytes(pid));
  };
  const looking = setInterval(look, 2_000);
  try {
    const seconds = await timed(async () => {
      await temporal.start({
        type: 'dataMigration',
        id,
        argument: { kind: 'data-migration', name, source: 'from', target: 'to', verify: 'none', ...keys },
        by: 'bench',
        attributes: { name, database: 'to', kind: 'data-migration' },
      });
      // Waited for by one call: each question costs the machine something that is measured here.
      await workflow.getHandle(id).result();
    });
    look();
    return { seconds, residentBytes: most };
  } finally {
    clearInterval(looking);
    await connection.close();
  }
}
