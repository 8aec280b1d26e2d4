/** What a stream of changes is made with, and what it says while it goes. Knows no Temporal: cancellation is an AbortSignal, progress a callback. */
import type { RelationName } from '../../plan/model/steps';
import type { Session } from '../session';
import type { Target } from '../types';
import type { Message } from './decode';

/** How rows of one source table arrive. Left out of a job: every column under its own name, in the table of the same name. */
export interface TableMapping {
  readonly to: RelationName;
  readonly columns: readonly MappedColumn[];
  /** Rows for which it is true are there; needs a key, and every value of the rows that change. */
  readonly where?: CapturedSql;
}

/** An expression over the captured row, whose columns are known by their names and as `old.<name>`. */
export interface CapturedSql {
  readonly sql: string;
  /** The columns that it reads; left out: it may read all of them. */
  readonly reads?: readonly string[];
}

export interface MappedColumn {
  /** The target's name. */
  readonly name: string;
  /** `from`: the source's column. */
  readonly value: { readonly from: string } | CapturedSql;
}

export type OnError = 'fail' | 'skip' | 'retry';

export interface StreamJob {
  readonly source: Target;
  readonly target: Target;
  /** The row in pgshift.migrations of the target. */
  readonly migration: string;
  /** From the source's log, or written down there by triggers. */
  readonly capture: 'wal' | 'triggers';
  readonly slot: string;
  readonly publication: string;
  /** What may wait here to be applied, counted as it came over the wire and what holding it costs. */
  readonly bufferBytes: number;
  /** Changes are committed at the latest so long after they came. */
  readonly flushMs: number;
  readonly onError: OnError;
  /** null = nothing differs. Asked once for each description of a table. */
  readonly mappingOf: (
    table: RelationName,
    sessions: { readonly source: Session; readonly target: Session },
  ) => TableMapping | null | Promise<TableMapping | null>;
  readonly lockTimeoutMs: number;
  readonly lockBudgetMs: number;
  readonly signal: AbortSignal;
  /** Waits while a brake is on; called before each transaction of the target. */
  readonly admit: () => Promise<void>;
  readonly log: (level: 'info' | 'warn', message: string, fields?: Readonly<Record<string, unknown>>) => void;
}

/** One transaction of the source. */
export interface Tx {
  /** Where its commit record begins. */
  readonly commitLsn: bigint;
  /** Epoch ms by the source's clock. */
  readonly at: number;
  /** Of captured changes: the transaction that wrote them. */
  readonly xid?: bigint;
}

export type RowMessage = Extract<Message, { readonly kind: 'insert' | 'update' | 'delete' | 'truncate' }>;

export interface Change {
  readonly message: RowMessage;
  readonly tx: Tx;
}
