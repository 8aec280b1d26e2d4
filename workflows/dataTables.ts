/**
 * Child of `dataMigration`: one big table, or a stretch of small ones, with a history of its own. It decides nothing; tables that fail come back in
 * its answer, and a cancel waits until the copy has let go.
 */
import type { PieceArgs, PieceDone } from '../activities/types';
import type { Settings } from '../plan/model/state';
import { asking } from './proxies';

export interface TablesArgs {
  readonly settings: Settings;
  readonly work: PieceArgs;
  readonly label: string;
}

export async function dataMigrationTables({ settings, work, label }: TablesArgs): Promise<PieceDone> {
  return asking(() => settings)('copyTables', work, `copy ${label}`);
}
