/**
 * Faults of the new side, as they are found in real moves: an index that is not used there, rows that are not the same, a grant that is missing. Each is put
 * there by hand, past pgshift, after every row was proven equal. Keeps true: it is made on the new side alone, and taken away with it.
 */
import type { Client } from 'pg';
import { ident } from '../../postgres/ident';
import { SHOP } from './shop';
import type { Stage } from './stage';
import { tableOf } from './stage';

/** Key of a plan's analysis and its condition; read every 3 s, since routers tell what they counted every 2 s. */
interface Analysis {
  readonly source: 'router';
  readonly query: string;
  readonly failWhen: string;
  readonly interval: '3s';
  readonly failureLimit: number;
}

export interface Fault {
  readonly name: 'slow' | 'wrong' | 'errors';
  readonly says: string;
  /** What a stage moves: answers that could be wrong are compared first, and shown to nobody. */
  readonly moves: 'reads' | 'shadow-reads';
  /** Which condition has to find it. */
  readonly metric: string;
  readonly analysis: Analysis;
  /** On green. `keys` are those that are read. */
  inject(green: Client, stage: Stage, keys: readonly string[]): Promise<void>;
  /** What does not go with green's schema. */
  heal(green: Client): Promise<void>;
}

const analysis = (query: string, failWhen: string): Analysis => ({
  ...{ source: 'router', query, failWhen, interval: '3s', failureLimit: 1 },
});
const nothing = (): Promise<void> => Promise.resolve();
const inGreen = async (green: Client): Promise<string> => {
  const { rows } = await green.query<{ name: string }>('SELECT current_database() AS name');
  return `ALTER ROLE ${ident(SHOP)} IN DATABASE ${ident(rows[0]?.name ?? '')}`;
};

async function falsify(green: Client, { workload, change }: Stage, keys: readonly string[]): Promise<void> {
  const [a = null, b = null] = workload.values;
  const column = ident(workload.columnName);
  // What replication may do: the wall lets it through, and no trigger of the user's fires.
  await green.query('SET session_replication_role = replica');
  await green.query(
    `UPDATE ${workload.relation} AS t SET ${column} = CASE WHEN t.${column} IS NOT DISTINCT FROM v.a THEN v.b ELSE v.a END
       FROM (SELECT $1::${change.oldType} AS a, $2::${change.oldType} AS b) AS v
      WHERE t.${ident(workload.keyName)}::text = ANY ($3)`,
    [a, b, keys],
  );
}

export const FAULTS: readonly Fault[] = [
  {
    name: 'slow',
    says: 'the new side uses no index for what the shop asks',
    moves: 'reads',
    metric: 'latency',
    analysis: analysis('latency_p50', 'green > 3 * blue'),
    async inject(green) {
      const role = await inGreen(green);
      for (const scan of ['enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan'])
        await green.query(`${role} SET ${scan} = off`);
    },
    heal: async (green) => void (await green.query(`${await inGreen(green)} RESET ALL`)),
  },
  {
    name: 'wrong',
    says: 'rows of the new side are not the same any more',
    moves: 'shadow-reads',
    metric: 'answers',
    analysis: analysis('shadow_differences', 'value > 0.05'),
    inject: falsify,
    heal: nothing,
  },
  {
    name: 'errors',
    says: 'the new side refuses what the shop asks',
    moves: 'reads',
    metric: 'refusals',
    analysis: analysis('error_rate', 'value > 0.05'),
    inject: async (green, stage) =>
      void (await green.query(`REVOKE SELECT ON ${tableOf(stage.change)} FROM ${ident(SHOP)}`)),
    heal: nothing,
  },
];
