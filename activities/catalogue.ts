/** The catalogue through a connection of the driver itself, as its reader wants it: the role's own settings, nothing pinned. */
import { Client } from 'pg';
import type { Catalog } from '../plan/model/catalog';
import { diffCatalog, fingerprintCatalog } from '../postgres/catalog/diff';
import { readCatalog } from '../postgres/catalog/read';
import { addressOf } from '../postgres/session';
import type { Session } from '../postgres/session';
import { toProblem } from '../postgres/toProblem';
import type { Target } from '../postgres/types';
import type { CatalogDiff } from '../plan/model/status';

async function onClient<T>(target: Target, purpose: string, work: (client: Client) => Promise<T>): Promise<T> {
  const peer = { name: target.name, ...addressOf(target) };
  const client = new Client({
    connectionString: target.url,
    application_name: `pgshift/${purpose}`,
    connectionTimeoutMillis: 10_000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    throw toProblem(error, peer);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export const catalogOf = (target: Target): Promise<Catalog> => onClient(target, 'preflight', readCatalog);
export const fingerprintOf = (target: Target): Promise<string[]> =>
  onClient(target, 'catalogue', (client) => fingerprintCatalog(client));

const beforeId = (migration: string): string => `before/${migration}`;

/** The catalogue as it was, kept until the run ends. The first one stays: a second attempt must not take the change for what was there. */
export async function keepBefore(session: Session, migration: string, lines: readonly string[]): Promise<void> {
  await session.run(
    `INSERT INTO pgshift.plans (id, name, body) VALUES ($1, $2, $3::jsonb) ON CONFLICT (id) DO NOTHING`,
    [beforeId(migration), migration, JSON.stringify(lines)],
  );
}

export async function readBefore(session: Session, migration: string): Promise<readonly string[] | null> {
  const row = await session.one<{ body: string[] }>(`SELECT body FROM pgshift.plans WHERE id = $1`, [
    beforeId(migration),
  ]);
  return row?.body ?? null;
}

export const forgetBefore = (session: Session, migration: string): Promise<number> =>
  session.run(`DELETE FROM pgshift.plans WHERE id = $1`, [beforeId(migration)]);

/** `pg_attribute public.payment.amount {...}` -> catalogue and subject, without the definition (it may quote data). */
const headOf = (line: string): string => {
  const brace = line.indexOf(' {');
  return brace < 0 ? line : line.slice(0, brace);
};

/** Names that an asked line (`+ constraint c on public.payment`, `~ column payment.amount: numeric -> ...`) speaks of. */
function namesIn(asked: readonly string[]): string[] {
  const names = new Set<string>();
  for (const line of asked) {
    const [, name = '', , table] = /^[+~-] \S+ (\S+?):?( on (\S+))?(?:$|:| )/.exec(line) ?? [];
    const bare = name.replace(/^public\./, '').replace(/:$/, '');
    if (bare !== '') names.add(bare);
    if (table) names.add(table.replace(/^public\./, ''));
  }
  return [...names];
}

const LINES_MAX = 200;

/** What differs, put to what was asked or to `other`. Lines say what and where, never a definition. */
export function compareCatalogues(
  before: readonly string[],
  after: readonly string[],
  asked: readonly string[],
): CatalogDiff {
  const { added, removed } = diffCatalog(before, after);
  const heads = new Map<string, { plus: boolean; minus: boolean; text: string }>();
  for (const [lines, plus] of [
    [added, true],
    [removed, false],
  ] as const)
    for (const line of lines) {
      const head = headOf(line);
      const seen = heads.get(head) ?? { plus: false, minus: false, text: '' };
      heads.set(head, { plus: seen.plus || plus, minus: seen.minus || !plus, text: `${seen.text} ${line}` });
    }
  const names = namesIn(asked);
  const tables = new Set(names.map((name) => name.split('.')[0] ?? ''));
  const diff = { asked: [] as string[], other: [] as string[] };
  for (const [head, { plus, minus, text }] of heads) {
    const ours = text.includes('_pgshift_');
    const known = names.some((name) => text.includes(name)) || [...tables].some((t) => head.endsWith(`.${t}`));
    const line = `${plus && minus ? '~' : plus ? '+' : '-'} ${head}`;
    (known && !ours ? diff.asked : diff.other).push(line);
  }
  return { asked: diff.asked.sort().slice(0, LINES_MAX), other: diff.other.sort().slice(0, LINES_MAX) };
}
