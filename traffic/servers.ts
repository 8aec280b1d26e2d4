/** Where the two sides are for a pooler or balancer: as the plan says, else as pgshift's own connections have it. */
import { Client } from 'pg';
import type { Side } from '../plan/model/traffic';
import { parseServer, SIDES } from '../plan/model/traffic';
import { connectionString } from '../postgres/session';
import type { Target } from '../postgres/types';
import type { Servers } from './types';

export function serversOf(
  written: Readonly<Record<Side, string>> | undefined,
  sides: Readonly<Record<Side, Target>>,
): Servers {
  const of = (side: Side) => {
    const said = written === undefined ? null : parseServer(written[side]);
    if (said) return said;
    // Not connected: the driver's own reading of the URL.
    const { host, port, database } = new Client({ connectionString: connectionString(sides[side]) });
    return { host, port, database: database ?? null };
  };
  return Object.fromEntries(SIDES.map((side) => [side, of(side)])) as unknown as Servers;
}

/** Which side a place is; null = neither. */
export const leads = (
  servers: Servers,
  to: { readonly host?: string | null; readonly port?: string | null; readonly database?: string | null },
): Side | null =>
  SIDES.find((side) => {
    const { host, port, database } = servers[side];
    return to.host === host && Number(to.port) === port && (database === null || to.database === database);
  }) ?? null;
