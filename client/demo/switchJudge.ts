/** From what was seen of the switch to claims: each sentence that the chapter ends with, with its figures, and whether it holds. Pure. */
import type { SwitchMeasured } from '../../plan/model/pairState';
import type { Report } from '../../plan/model/status';
import { formatCount, formatDuration, parseDuration } from '../../plan/model/values';
import { diffCatalog } from '../../postgres/catalog/diff';
import { Claims } from './claims';
import type { DemoPart } from './claims';
import type { PeriodReport } from './latency';
import type { LedgerCheck } from './ledger';

export interface SwitchSeen {
  /** Of the table that is written to. */
  readonly rows: number;
  readonly maxPause: string;
  /** The run's report in the hold, and at its end. */
  readonly there: Report;
  readonly back: Report;
  readonly end: string;
  readonly onGreen: LedgerCheck;
  readonly onBlue: LedgerCheck;
  /** What blue said to a write while green took them. */
  readonly refused: string;
  readonly catalogue: { readonly before: readonly string[]; readonly after: readonly string[] };
  readonly left: readonly string[];
  readonly periods: readonly PeriodReport[];
  readonly link: string | null;
  readonly seconds: number;
}

/** What a client waits beyond the pause: one that was due at its beginning waits behind the others at its end. */
const MARGIN_MS = 250;
const READ_ONLY = '25006';

export function judgeSwitch(seen: SwitchSeen): DemoPart {
  const claims = new Claims();
  const there = switchOf(seen.there, 'switch');
  const back = switchOf(seen.back, 'back');
  pauses(seen, { there, back }, claims);
  proof(seen, claims);
  writer(seen, claims);
  leavesNothing(seen, claims);
  return { name: 'bluegreen', passed: claims.hold, measured: measured(seen, { there, back }), claims: claims.list };
}

interface Both {
  readonly there: SwitchMeasured | null;
  readonly back: SwitchMeasured | null;
}

const switchOf = ({ switches = [] }: Report, purpose: SwitchMeasured['purpose']): SwitchMeasured | null =>
  switches.findLast((one) => one.purpose === purpose && one.outcome === 'switched') ?? null;

/** A try that was undone pauses clients too. */
const pausesOf = ({ switches = [] }: Report, purpose: SwitchMeasured['purpose']): readonly number[] =>
  switches.filter((one) => one.purpose === purpose).map(({ pausedMs }) => pausedMs);

const paused = (one: SwitchMeasured | null): string =>
  one === null ? 'no switch' : `${formatDuration(one.pausedMs)} in try ${one.attempts}`;

function pauses({ maxPause, there: report, end }: SwitchSeen, { there, back }: Both, claims: Claims): void {
  const budget = parseDuration(maxPause) ?? 0;
  const opened = report.approvals.find(({ gate }) => gate === 'switch_traffic');
  claims.add(
    'the switch waited for a person and went on by a signal',
    opened?.verdict === 'approved' && opened.via === 'signal',
    opened ? `${opened.verdict} by ${opened.by} via ${opened.via}` : 'no approval',
  );
  claims.add(
    `writes were paused for less than ${maxPause}, first client blocked to first client served`,
    there !== null && there.pausedMs < budget && report.writableSide === 'green',
    paused(there),
  );
  claims.add(
    'and so they were on the way back',
    end === 'rolled_back' && back !== null && back.pausedMs < budget,
    paused(back),
  );
  claims.add(
    'no transaction of a client was ended by either',
    there?.clientErrors === 0 && back?.clientErrors === 0,
    `${there?.clientErrors ?? 'unknown'} there, ${back?.clientErrors ?? 'unknown'} back`,
  );
}

interface Verified {
  readonly tables: number;
  readonly rows: number;
}

function proof({ there, back, rows, refused }: SwitchSeen, claims: Claims): void {
  const first = there.measured['verified'] as Verified | undefined;
  const second = back.measured['verified'] as Verified | undefined;
  claims.add(
    'every row was compared before clients were asked to move, and again before they came back',
    (first?.rows ?? 0) >= rows && (second?.rows ?? 0) >= (first?.rows ?? Infinity),
    `${formatCount(first?.rows ?? 0)} rows of ${first?.tables ?? 0} tables, then ${formatCount(second?.rows ?? 0)}`,
  );
  claims.add(
    'while green took the writes, blue refused even a superuser',
    refused === READ_ONLY,
    refused === 'none' ? 'it took one' : `SQLSTATE ${refused}`,
  );
}

function writer({ periods, onGreen, onBlue, there, back }: SwitchSeen, claims: Claims): void {
  const failed = periods.flatMap(({ errors }) => Object.entries(errors));
  claims.add(
    'the writer saw no error',
    failed.length === 0,
    failed.map(([code, n]) => `${n} x ${code}`).join(', ') || 'no error',
  );
  claims.add(
    'every acknowledged write is on green',
    onGreen.wrong === 0 && onGreen.unknownOutcomes === 0 && onGreen.checked > 0,
    ledger(onGreen),
  );
  claims.add(
    'and after the way back on blue, those made on green included',
    onBlue.wrong === 0 && onBlue.unknownOutcomes === 0 && onBlue.acknowledged > onGreen.acknowledged,
    ledger(onBlue),
  );
  const own = periods.find(({ period }) => period === 'before')?.longestMs ?? 0;
  const waits = (
    [
      ['switch', pausesOf(there, 'switch')],
      ['way back', pausesOf(back, 'back')],
    ] as const
  ).map(([name, all]) => {
    const period = periods.find((one) => one.period === name);
    const fits =
      period !== undefined &&
      all.length > 0 &&
      period.longestMs <= Math.max(...all) + MARGIN_MS + Math.max(own, period.ownPauseMs);
    const when = fits || !period ? '' : ` at ${period.longestAt}`;
    const pauses = all.map((ms) => formatDuration(ms)).join(' and ');
    return { fits, says: `${name} ${formatDuration(period?.longestMs ?? NaN)}${when}, paused ${pauses}` };
  });
  claims.add(
    'no client waited longer than the pauses that were measured, and what it waits without one',
    waits.every(({ fits }) => fits),
    [`before ${formatDuration(own)}`, ...waits.map(({ says }) => says)].join('; '),
  );
}

function leavesNothing({ catalogue, left }: SwitchSeen, claims: Claims): void {
  const { added, removed } = diffCatalog(catalogue.before, catalogue.after);
  const lines = [...removed.map((line) => `- ${line}`), ...added.map((line) => `+ ${line}`)];
  claims.add(
    'blue is as it was, and nothing of the switch is left on either side',
    lines.length === 0 && left.length === 0,
    lines.length + left.length === 0
      ? `${formatCount(catalogue.before.length)} rows of pg_catalog compared; no slot, publication, subscription or wall`
      : [...left, ...lines].slice(0, 6).join('; '),
  );
}

const ledger = (check: LedgerCheck): string =>
  `${formatCount(check.acknowledged)} acknowledged writes to ${formatCount(check.checked)} rows, ${check.wrong} wrong`;

const measured = (seen: SwitchSeen, { there, back }: Both): Record<string, unknown> => ({
  rows: seen.rows,
  pausedMs: there?.pausedMs ?? null,
  pausedBackMs: back?.pausedMs ?? null,
  attempts: { there: there?.attempts ?? null, back: back?.attempts ?? null },
  verified: { there: seen.there.measured['verified'] ?? null, back: seen.back.measured['verified'] ?? null },
  copy: seen.there.measured['copy'] ?? null,
  writer: Object.fromEntries(seen.periods.map((p) => [p.period, p])),
  ledger: { onGreen: seen.onGreen, onBlue: seen.onBlue },
  left: seen.left,
  seconds: Math.round(seen.seconds * 10) / 10,
  webUi: seen.link,
});
