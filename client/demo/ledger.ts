/**
 * The writer's ledger: what every acknowledged write left behind, key by key, kept outside the database. It keeps true: a write whose
 * outcome is unknown (the connection broke before the answer) allows both images, every other key exactly one. One connection owns a
 * key, so the order of acknowledgements of a key is the order in which Postgres did them.
 */
import type { ClientBase } from 'pg';
import { ident } from '../../postgres/ident';
import type { Workload } from './workload';

/** A value as text; null = the row is gone. */
type Image = string | null;

export interface LedgerCheck {
  /** Keys looked at. */
  readonly checked: number;
  /** Acknowledged writes so far. */
  readonly acknowledged: number;
  /** Keys whose row is not as the last acknowledged write left it. */
  readonly wrong: number;
  readonly unknownOutcomes: number;
}

export class Ledger {
  readonly #images = new Map<string, readonly Image[]>();
  #acknowledged = 0;
  #unknown = 0;

  acknowledged(key: string, image: Image): void {
    this.#images.set(key, [image]);
    this.#acknowledged += 1;
  }

  /** The answer never came: the row has its old image (when it is known) or the new one. */
  unknown(key: string, image: Image): void {
    const before = this.#images.get(key);
    this.#images.set(key, before ? [...before, image] : []);
    this.#unknown += 1;
  }

  /** Compares every key with the table, in slices of 5,000, in the column's own type. Only counts come back. */
  async check(client: ClientBase, workload: Workload): Promise<LedgerCheck> {
    const { rows } = await client.query<{ type: string }>(
      'SELECT format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2',
      [workload.relation, workload.columnName],
    );
    const type = rows[0]?.type ?? 'text';
    const entries = [...this.#images].filter(([, images]) => images.length > 0);
    let wrong = 0;
    for (let at = 0; at < entries.length; at += 5_000) {
      const slice = entries.slice(at, at + 5_000);
      const flat = slice.flatMap(([key, images]) => images.map((image) => [key, image] as const));
      const answer = await client.query<{ wrong: string }>(
        `SELECT count(*) AS wrong FROM (
           SELECT l.key FROM unnest($1::bigint[], $2::text[]) AS l(key, image)
           LEFT JOIN ${workload.relation} t ON t.${ident(workload.keyName)} = l.key
           GROUP BY l.key
           HAVING NOT bool_or(CASE WHEN l.image IS NULL THEN t.${ident(workload.keyName)} IS NULL
             ELSE t.${ident(workload.columnName)} IS NOT DISTINCT FROM l.image::${type} END)) w`,
        [flat.map(([key]) => key), flat.map(([, image]) => image)],
      );
      wrong += Number(answer.rows[0]?.wrong ?? 0);
    }
    return { checked: entries.length, acknowledged: this.#acknowledged, wrong, unknownOutcomes: this.#unknown };
  }
}
