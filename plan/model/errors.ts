/**
 * The catalogue of errors: one row per code, and nothing else decides an exit code, a retry or a docs row.
 * A Problem is what every layer throws; it never carries a URL, a password or a row's value.
 */

export type ExitCode = 0 | 1 | 2 | 3 | 4 | 70;

export interface ErrorSpec {
  readonly exit: ExitCode;
  /** Retried by Temporal by itself? Everything else is non-retryable. */
  readonly retryable: boolean;
  /** One sentence for docs/errors.md. */
  readonly means: string;
  /** What a person does next, when the thrower has nothing better to say. */
  readonly hint: string;
}

const spec = (exit: ExitCode, means: string, hint: string, retryable = false): ErrorSpec => ({
  exit,
  retryable,
  means,
  hint,
});

export const ERRORS = {
  InvalidPlan: spec(
    2,
    'The plan does not have the shape that its kind asks for.',
    'correct the plan at the place shown',
  ),
  NotYet: spec(
    2,
    'The plan uses a key that this version does not build yet.',
    'leave the key out, or use a later version',
  ),
  SqlSyntax: spec(2, "Postgres' own grammar refuses the SQL.", 'correct the SQL at the caret'),
  UnknownDatabase: spec(
    2,
    'No connection of that name is configured.',
    'set PGSHIFT_DATABASE_<NAME> or add it to pgshift.config.yaml',
  ),
  InvalidUsage: spec(2, 'Unknown command or flag.', 'run pgshift --help'),
  NoSuchFile: spec(2, 'The file does not exist or cannot be read.', 'check the path'),
  NoSuchObject: spec(
    2,
    'A table, column, index or constraint that is named does not exist.',
    'check the name and the schema',
  ),
  TransformMissing: spec(2, 'Data must change and nothing says how.', 'add transforms with up and down'),
  MeaningChanged: spec(
    2,
    'The transform changes the meaning of a column under the same name.',
    'use a new column name, or versions',
  ),
  DependencyCycle: spec(2, 'Migrations depend on each other in a circle.', 'remove one of the dependsOn entries'),
  SameDatabase: spec(2, 'Two connections that must differ are the same database.', 'name two databases'),
  InvalidMessage: spec(
    2,
    'A signal or update has an unknown key, a wrong type or no "by".',
    'send {"by": "...", "reason": "..."}',
  ),
  NoSuchGate: spec(2, 'No gate of that name is open or to come.', 'look at pgshift status for the open gate'),
  NoSuchRun: spec(2, 'No run of that id or name exists.', 'look at pgshift list'),
  InvalidConfig: spec(2, 'The configuration has an unknown key or a wrong value.', 'correct pgshift.config.yaml'),
  PortInUse: spec(2, 'A port that was asked for by flag is taken.', 'choose another port'),

  Refused: spec(3, 'A finding refuses the plan.', 'take the alternative, or name the rule under allow with a reason'),
  PreflightFailed: spec(3, 'The database is not in a state in which the change is safe.', 'see details.checks'),
  PrivilegeMissing: spec(3, "The connection's role lacks a privilege.", 'run the GRANT shown'),
  NameInUse: spec(3, 'A migration of this name is running.', 'wait for it, or choose another name'),
  AlreadyApplied: spec(3, 'This migration is completed already.', 'nothing to do; --if-needed makes this exit 0'),
  ChecksumMismatch: spec(3, 'The name was used before for other text.', 'give the changed plan a new name'),
  DependencyMissing: spec(3, 'A migration that this one depends on is not completed.', 'run it first'),
  Drift: spec(3, 'The database changed since the plan was made.', 'plan again'),
  NotNow: spec(3, 'The message makes no sense at this moment.', 'look at pgshift status'),
  NotAllowed: spec(3, 'The sender may not do this.', 'ask somebody who may'),
  GuardrailFailed: spec(3, 'A guardrail says no.', 'see the remedy of the guardrail'),

  Unreachable: spec(4, 'A server does not answer.', 'check address, network and whether the server runs', true),
  TlsFailed: spec(4, 'TLS could not be set up with a server.', 'check sslmode and certificates'),
  LoginFailed: spec(4, 'A server refuses the login.', 'check user, password and pg_hba.conf'),

  LockBudgetSpent: spec(
    1,
    'The lock could not be had within lockBudget.',
    'end the blockers shown, or start in a quieter hour',
  ),
  TransformFailed: spec(1, 'The transform fails on some rows.', 'see pgshift.differences for their keys'),
  DuplicateRows: spec(1, 'Rows violate the uniqueness that was asked for.', 'see pgshift.differences for their keys'),
  ProofFailed: spec(1, 'Rows differ from what the transform says.', 'see pgshift.differences for their keys'),
  HealthFailed: spec(1, 'A health condition failed.', 'see the condition and its values in the report'),
  GateExpired: spec(1, 'Nobody decided before the gate expired.', 'start again'),
  Rejected: spec(1, 'A person rejected the change.', 'see the reason'),
  RolledBack: spec(1, 'The change was taken back.', 'see details.cause'),
  Timeout: spec(1, 'The run took longer than its timeout.', 'raise timeout, or find out what it waited for'),
  DiskFull: spec(1, 'A server has no disk space left.', 'free space, then start again'),
  SnapshotLost: spec(1, 'The exported snapshot is gone.', 'start again'),
  TimelineChanged: spec(1, 'A server failed over to another timeline.', 'start again'),
  SlotLost: spec(1, 'The replication slot is gone.', 'start again'),
  SwitchOverran: spec(1, 'The switch overran its budget and was undone.', 'try again later'),
  FenceBroken: spec(1, 'Another attempt holds the fence.', 'nothing: the other attempt goes on'),
  ErrorBudgetSpent: spec(1, 'More bad rows than errors allows.', 'see pgshift.quarantine'),
  BackupFailed: spec(1, 'The backup failed or cannot be read.', 'see the message of the backup tool'),
  TrafficFailed: spec(1, 'A traffic adapter failed.', 'see the adapter', true),
  HookFailed: spec(1, 'A hook failed, also when it was tried again.', 'mend the hook and send retry, or skip it', true),
  StepFailed: spec(1, 'Postgres refused a statement of a step.', 'see sqlstate in pgshift.migration_log'),

  LockTimeout: spec(1, 'One try for a lock timed out (inside the ladder).', 'nothing: the ladder goes on', true),
  Deadlock: spec(1, 'Postgres chose the transaction as a deadlock victim.', 'nothing: it is tried again', true),
  StatementCancelled: spec(1, 'Somebody cancelled a statement of a step.', 'nothing: it is tried again', true),
  ServerRestarting: spec(1, 'The server is starting, stopping or recovering.', 'nothing: it is tried again', true),
  Bug: spec(70, 'A bug in pgshift.', 'please report it with the details file'),
} as const satisfies Record<string, ErrorSpec>;

export type ErrorCode = keyof typeof ERRORS;

export const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(ERRORS, code);

/** The list that every retry policy uses: all codes that are not retryable. */
export const NON_RETRYABLE: readonly ErrorCode[] = (Object.keys(ERRORS) as ErrorCode[]).filter(
  (c) => !ERRORS[c].retryable,
);

export interface Where {
  readonly file?: string;
  readonly line?: number;
  readonly column?: number;
  /** Path in the plan, as `gates.contract.expires`. */
  readonly path?: string;
  /** The source line and the length of the caret run, for rendering. */
  readonly text?: string;
  readonly length?: number;
}

export interface ProblemFields {
  readonly where?: Where;
  /** The offending value as the user typed it; never a row's value, never a URL. */
  readonly value?: string;
  readonly hint?: string;
  /** Small JSON for machines. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The one error class. `message` says what, `where` says where, `hint` says what to do next. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly where: Where | undefined;
  readonly value: string | undefined;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    readonly code: ErrorCode,
    message: string,
    fields: ProblemFields = {},
  ) {
    super(message);
    this.where = fields.where;
    this.value = fields.value;
    this.hint = fields.hint ?? ERRORS[code].hint;
    this.details = fields.details ?? {};
  }

  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      where: this.where ?? null,
      value: this.value ?? null,
      hint: this.hint,
      docs: `docs/errors.md#${this.code.toLowerCase()}`,
    };
  }
}

/** By shape, not instanceof: bundles and realms have copies of the class. */
export const isProblem = (error: unknown): error is Problem =>
  error instanceof Error && error.name === 'Problem' && isErrorCode((error as { code?: unknown }).code);
