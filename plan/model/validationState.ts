/**
 * A run of workflow `validation` as data, and as people see it: status, progress, report and the Web UI's current details. Pure. Counts alone: keys
 * and values of rows never come here.
 */
import type { Inbox } from './inbox';
import { emptyInbox } from './inbox';
import type { LastError, Progress, RunStatus, Status } from './status';
import { formatCount, formatDuration } from './values';
import type { VerifiedTable, VerifyFinding, VerifyResult } from './validation';

export const VALIDATION_PHASES = ['preflight', 'compare', 'recheck', 'repair', 'finish'] as const;
export type ValidationPhase = (typeof VALIDATION_PHASES)[number];

/** The running phase's last word. */
export interface ValidationLive {
  readonly phase: string;
  /** The table that was looked at last. */
  readonly table: string;
  readonly tablesDone: number;
  readonly tables: number;
  /** Rows of the source; the total is the planner's estimate. */
  readonly rowsDone: number;
  readonly rowsTotal: number;
  readonly rowsPerSecond: number;
  readonly etaSeconds: number | null;
  /** Rows that differed at first sight. */
  readonly candidates: number;
}

export interface ValidationState {
  readonly id: string;
  readonly name: string;
  readonly source: string;
  readonly target: string;
  environment: string;
  status: RunStatus;
  phase: ValidationPhase;
  inbox: Inbox;
  live: ValidationLive | null;
  lastError: LastError | null;
  readonly startedAt: string;
  updatedAt: string;
  endedAt: string | null;
  result: Partial<VerifyResult> | null;
  /** The result is larger than an answer may be and lies there: `<target>/<name>`. */
  reportRef: string | null;
}

export const newValidation = (
  of: Pick<ValidationState, 'id' | 'name' | 'source' | 'target'>,
  now: string,
): ValidationState => ({
  ...of,
  environment: 'development',
  status: 'pending',
  phase: 'preflight',
  inbox: emptyInbox,
  live: null,
  lastError: null,
  startedAt: now,
  updatedAt: now,
  endedAt: null,
  result: null,
  reportRef: null,
});

export type ValidationStatus = Omit<Status, 'phase'> & { readonly phase: ValidationPhase };
export type ValidationProgress = Omit<Progress, 'phase'> & { readonly phase: ValidationPhase };

export interface ValidationReport extends ValidationStatus, Partial<VerifyResult> {
  readonly reportRef?: string;
}

export function validationStatus(s: ValidationState): ValidationStatus {
  const paused = s.inbox.paused;
  return {
    id: s.id,
    name: s.name,
    database: s.target,
    kind: 'validation',
    mode: 'production',
    status: s.status,
    phase: s.phase,
    step: s.endedAt === null ? (s.live?.table ?? null) : null,
    attempt: 1,
    startedAt: s.startedAt,
    updatedAt: s.updatedAt,
    endedAt: s.endedAt,
    waitingFor:
      paused === null || s.endedAt !== null
        ? null
        : {
            type: 'pause',
            gate: null,
            since: paused.at,
            until: null,
            reason: `paused by ${paused.by}${paused.reason === null ? '' : `: ${paused.reason}`}`,
            evidence: {},
            commands: [`pgshift resume ${s.id}`],
          },
    approvals: s.inbox.approvals,
    lastError: s.lastError,
    wayBack: { possible: false, lossless: true, until: null, how: 'a validation changes nothing' },
    messages: s.inbox.refused,
  };
}

export function validationProgress(s: ValidationState): ValidationProgress {
  const { live } = s;
  const ended = s.status === 'completed';
  const part = live && live.rowsTotal > 0 ? Math.min(1, live.rowsDone / live.rowsTotal) : 0;
  return {
    phase: s.phase,
    percent: ended ? 100 : Math.min(99, Math.floor(part * 100)),
    etaSeconds: ended ? 0 : (live?.etaSeconds ?? null),
    tables:
      live === null
        ? []
        : [
            {
              table: live.table,
              rowsDone: live.rowsDone,
              rowsTotal: live.rowsTotal,
              estimated: true,
              bytesDone: 0,
              bytesTotal: 0,
              rowsPerSecond: live.rowsPerSecond,
              etaSeconds: live.etaSeconds,
              batchRows: 0,
              throttledBy: null,
              state: ended ? 'done' : 'running',
            },
          ],
    lagBytes: null,
    lagMs: null,
  };
}

export const validationReport = (s: ValidationState): ValidationReport => ({
  ...validationStatus(s),
  ...(s.result ?? {}),
  ...(s.reportRef === null ? {} : { reportRef: s.reportRef }),
});

export const RESULT_MAX = 60_000;

/** The result as an answer may hold it: tables that are equal go first, then findings; `whole` says whether anything went. */
export function smallResult(result: VerifyResult): { readonly result: VerifyResult; readonly whole: boolean } {
  const fits = (one: VerifyResult): boolean => JSON.stringify(one).length <= RESULT_MAX;
  if (fits(result)) return { result, whole: true };
  const unequal = { ...result, tables: result.tables.filter((table) => !table.equal) };
  if (fits(unequal)) return { result: unequal, whole: false };
  const few = <T>(list: readonly T[]): readonly T[] => list.slice(0, 50);
  const short = { ...unequal, errors: few(result.errors), warnings: few(result.warnings), tables: few(unequal.tables) };
  return { result: fits(short) ? short : { ...short, errors: [], warnings: [], tables: [] }, whole: false };
}

const plain = (text: string): string => text.replace(/[\r\n]+/g, ' ').replace(/[|<>`*_[\]]/g, '\\$&');
const DETAILS_MAX = 15_000;
const SHOWN_TABLES = 40;

const findings = (title: string, list: readonly VerifyFinding[] | undefined): string[] =>
  list === undefined || list.length === 0
    ? []
    : [
        `### ${title}`,
        ...list
          .slice(0, SHOWN_TABLES)
          .map((f) => `- ${f.check}${f.table === null ? '' : ` ${plain(f.table)}`}: ${plain(f.message)}`),
        '',
      ];

const tableRow = (t: VerifiedTable): string =>
  `| ${plain(t.table)} | ${formatCount(t.sourceRows)} | ${formatCount(t.targetRows)} | ${formatCount(t.differing)} | ${t.equal ? 'equal' : '**different**'} |`;

/** Current details for the Web UI, in Markdown. */
export function renderValidation(s: ValidationState): string {
  const { result, live } = s;
  const verdict = result?.passed === undefined ? s.status : result.passed ? 'equal' : 'DIFFERENT';
  const shown = [...(result?.tables ?? [])].sort((a, b) => Number(a.equal) - Number(b.equal)).slice(0, SHOWN_TABLES);
  const lines = [
    `## ${s.name}: ${s.source} against ${s.target}: ${verdict}`,
    VALIDATION_PHASES.map((phase) => (phase === s.phase && s.endedAt === null ? `**[${phase}]**` : phase)).join(' > '),
    '',
    ...(s.lastError ? [`**Error** ${s.lastError.code}: ${plain(s.lastError.message)}`, ''] : []),
    ...(s.inbox.paused && s.endedAt === null
      ? [`Paused by ${plain(s.inbox.paused.by)}: \`pgshift resume ${s.id}\``, '']
      : []),
    ...(live && s.endedAt === null
      ? [
          `${formatCount(live.rowsDone)} of ~${formatCount(live.rowsTotal)} rows, ${formatCount(live.rowsPerSecond)} rows/s${
            live.etaSeconds ? `, about ${formatDuration(live.etaSeconds * 1_000)} left` : ''
          }; table ${live.tablesDone + 1} of ${live.tables}: ${plain(live.table)}; ${formatCount(live.candidates)} rows to look at again`,
          '',
        ]
      : []),
    ...(result?.statistics
      ? [
          `${formatCount(result.statistics.rows)} rows in ${formatDuration(result.statistics.seconds * 1_000)} (${formatCount(result.statistics.rowsPerSecond)} rows/s)`,
          '',
        ]
      : []),
    ...findings('Errors', result?.errors),
    ...findings('Warnings', result?.warnings),
    ...(shown.length > 0
      ? ['| table | source rows | target rows | differing | |', '|---|---:|---:|---:|---|', ...shown.map(tableRow)]
      : []),
    ...(result?.passed === false ? ['', `Which rows: \`pgshift report ${s.id} --show-values\``] : []),
    ...s.inbox.refused.map((m) => `- refused ${m.name} at ${m.at}: ${m.code}: ${plain(m.message)}`),
  ];
  const text = lines.join('\n');
  return text.length > DETAILS_MAX ? `${text.slice(0, DETAILS_MAX)}\n...` : text;
}
