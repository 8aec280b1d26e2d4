/** The schema migration of the demo as a value: what is asked, and why, statement by statement. */

export interface DemoChange {
  readonly schema: string;
  readonly table: string;
  /** Columns of the primary key. */
  readonly key: readonly string[];
  /** The column whose type changes. */
  readonly column: string;
  readonly oldType: string;
  readonly newType: string;
  /** Columns that the change adds to the table. */
  readonly added: readonly string[];
  readonly statements: readonly { readonly sql: string; readonly why: string }[];
}

/** What is asked of the sample shop. */
export const SAMPLE_CHANGE: DemoChange = {
  schema: 'public',
  table: 'payment',
  key: ['payment_id'],
  column: 'amount',
  oldType: 'numeric(10,2)',
  newType: 'numeric(14,4)',
  added: ['public_id'],
  statements: [
    {
      sql: 'ALTER TABLE payment ALTER COLUMN amount TYPE numeric(14,4)',
      why: 'keep four decimals; plain SQL would rewrite the table and its indexes under a lock that stops everybody',
    },
    {
      sql: 'ALTER TABLE payment ADD COLUMN public_id uuid NOT NULL DEFAULT gen_random_uuid()',
      why: 'a number for customers that tells them nothing; every row gets its own, so plain SQL would rewrite the table',
    },
    {
      sql: 'CREATE INDEX payment_rental_idx ON payment (rental_id)',
      why: 'for the key below, seen from its other side; plain SQL would stop writers while it builds',
    },
    {
      sql: 'ALTER TABLE payment ADD CONSTRAINT payment_rental_fkey FOREIGN KEY (rental_id) REFERENCES rental',
      why: 'it was forgotten; plain SQL would check every row while writers of both tables wait',
    },
    {
      sql: 'CREATE INDEX rental_out_idx ON rental (rented_at) WHERE returned_at IS NULL',
      why: 'what is still out, for the people at the desk',
    },
  ],
};

export const changeSql = (change: DemoChange): string => change.statements.map((s) => `${s.sql};`).join('\n');
