/** From what was seen to claims: each sentence that the demo ends with, with its figures, and whether it holds. Pure. */
import type { Report } from '../../plan/model/status';
import { lockRank } from '../../plan/model/steps';
import { formatCount, formatDuration } from '../../plan/model/values';
import { diffCatalog } from '../../postgres/catalog/diff';
import { catalogDiffLines } from '../../postgres/catalog/report';
import type { CatalogReport } from '../../postgres/catalog/report';
import { Claims } from './claims';
import type { DemoPart } from './claims';
import type { Resumed } from './kill';
import type { LedgerCheck } from './ledger';
import type { PeriodReport } from './latency';
import type { Shape } from './shape';
import type { Stage } from './stage';

export interface Seen {
  readonly stage: Stage;
  /** The run's report, read in the hold. */
  readonly report: Report;
  /** How the run ended after its rollback. */
  readonly end: string;
  readonly death: Resumed | null;
  readonly contracted: Shape;
  readonly shapeAfter: Shape;
  readonly held: LedgerCheck;
  readonly taken: LedgerCheck;
  /** What the plan says the catalogue will differ by. */
  readonly asked: readonly string[];
  readonly catalogue: {
    readonly before: readonly string[];
    readonly inHold: readonly string[];
    readonly after: readonly string[];
  };
  readonly periods: readonly PeriodReport[];
  readonly link: string | null;
  readonly seconds: number;
}

/** Default of `lockTimeout`, and the margin that issue and bench allow a client beyond it. */
const LOCK_TIMEOUT_MS = 200;
const MARGIN_MS = 100;

export function judge(seen: Seen): DemoPart {
  const claims = new Claims();
  change(seen, claims);
  death(seen, claims);
  proof(seen, claims);
  writer(seen, claims);
  rollback(seen, claims);
  return { name: 'schema', passed: claims.hold, measured: measured(seen), claims: claims.list };
}

function change(seen: Seen, claims: Claims): void {
  const { stage, report, contracted: shape } = seen;
  const { change: asked } = stage;
  const opened = report.approvals.find((approval) => approval.gate === 'contract');
  claims.add(
    `${asked.table}.${asked.column} became ${asked.newType}, ${asked.added.join(' and ')} NOT NULL, keys and indexes valid`,
    shape.type === asked.newType && shape.notNull === asked.added.length && shape.invalidIndexes === 0,
    `${shape.type}, ${shape.notNull} NOT NULL, ${shape.validForeignKeys} foreign keys, ${shape.indexes} indexes, ${shape.invalidIndexes} invalid`,
  );
  claims.add(
    'contract waited for a person and went on by a signal',
    opened?.verdict === 'approved' && opened.via === 'signal',
    opened ? `${opened.verdict} by ${opened.by} via ${opened.via}` : 'no approval',
  );
  const diff = catalogueInHold(seen);
  claims.add(
    'the catalogue differs by what was asked, and beside it only by what is kept for the way back',
    diff.asked.length > 0 && diff.missing.length === 0 && diff.other.length === 0,
    `${diff.asked.length} of ${diff.asked.length + diff.missing.length} asked for, ${diff.kept} kept, ${diff.other.length} others${diff.other.length ? `: ${diff.other.slice(0, 4).join('; ')}` : ''}`,
  );
  const longest = longestLock(report);
  claims.add(
    `no lock that blocks clients was held longer than lock_timeout + ${MARGIN_MS} ms`,
    longest !== null && longest.heldMs <= LOCK_TIMEOUT_MS + MARGIN_MS,
    longest
      ? `longest ${formatDuration(longest.heldMs)} (${longest.mode} on ${longest.relation})`
      : 'no lock was recorded',
  );
}

function death({ death: died, stage }: Seen, claims: Claims): void {
  const restarted = died !== null && died.newPid !== null && died.newPid !== died.oldPid;
  claims.add(
    'the worker died by kill -9 in the backfill, another went on behind the last committed batch',
    restarted && died.redone <= died.largestBatch && died.seconds !== null,
    died
      ? `pid ${died.oldPid} to ${died.newPid ?? '?'} after ${formatCount(died.rowsBefore)} of ${formatCount(stage.rows)} rows, next batch after ${died.seconds ?? '?'} s, ${formatCount(died.redone)} rows done twice`
      : 'the backfill was over before it could be killed',
  );
}

function proof({ report, stage }: Seen, claims: Claims): void {
  const rows = report.proof.reduce((sum, p) => sum + p.rows, 0);
  const main = report.proof.find((p) => p.column.endsWith(stage.change.column)) ?? report.proof[0];
  claims.add(
    'every row was compared with its old image before contract',
    main !== undefined &&
      main.rows >= stage.rows &&
      report.proof.every((p) => p.equal && p.differing === 0 && p.remaining === 0),
    `${formatCount(rows)} rows in ${report.proof.length} proofs, ${report.proof.reduce((n, p) => n + p.differing, 0)} differ`,
  );
}

function writer({ periods, held }: Seen, claims: Claims): void {
  const failed = periods.flatMap((p) => Object.entries(p.errors));
  const cached = Math.max(0, ...periods.map((p) => p.cachedPlansPerStatement));
  claims.add(
    'the writer saw no error but "cached plan must not change result type", at most once for a statement and change',
    failed.length === 0 && cached <= 1,
    `${failed.map(([code, n]) => `${n} x ${code}`).join(', ') || 'no error'}; ${periods.reduce((n, p) => n + p.cachedPlans, 0)} statements prepared again`,
  );
  claims.add('no acknowledged write was lost by the change', held.wrong === 0 && held.checked > 0, ledger(held));
  const before = periods.find((p) => p.period === 'before');
  const limit = (p: PeriodReport): number =>
    LOCK_TIMEOUT_MS + MARGIN_MS + Math.max(before?.longestMs ?? 0, p.ownPauseMs);
  const others = periods.filter((p) => p.period !== 'before');
  claims.add(
    `no client waited longer than lock_timeout + ${MARGIN_MS} ms beyond what it waits without a change`,
    others.length > 0 && others.every((p) => p.longestMs <= limit(p)),
    periods.map((p) => `${p.period} ${formatDuration(p.longestMs)}`).join(', '),
  );
}

function rollback({ end, shapeAfter, stage, taken, catalogue }: Seen, claims: Claims): void {
  claims.add(
    `rollback inside the hold brought ${stage.change.oldType} back`,
    end === 'rolled_back' && shapeAfter.type === stage.change.oldType && shapeAfter.invalidIndexes === 0,
    `${end}, ${shapeAfter.type}`,
  );
  claims.add(
    'and lost no write, those to the new shape included',
    taken.wrong === 0 && taken.checked > 0,
    ledger(taken),
  );
  const left = differences(catalogue.before, catalogue.after);
  claims.add(
    'the catalogue is as it was before',
    left.length === 0,
    left.length === 0
      ? `${formatCount(catalogue.before.length)} rows of pg_catalog compared`
      : `${left.length} differ: ${left.slice(0, 6).join('; ')}`,
  );
}

/** Old shape, its trigger and function carry pgshift's name until the hold is over. */
function catalogueInHold({ catalogue, asked }: Seen): CatalogReport & { readonly kept: number } {
  const found = catalogDiffLines(catalogue.before, catalogue.inHold, asked);
  const other = found.other.filter((line) => !line.includes('pgshift'));
  return { ...found, other, kept: found.other.length - other.length };
}

/** Lines of pg_catalog that differ, `-` before and `+` after. */
function differences(before: readonly string[], after: readonly string[]): string[] {
  const { removed, added } = diffCatalog(before, after);
  return [...removed.map((line) => `- ${line}`), ...added.map((line) => `+ ${line}`)];
}

const ledger = (check: LedgerCheck): string =>
  `${formatCount(check.acknowledged)} acknowledged writes to ${formatCount(check.checked)} rows, ${check.wrong} wrong`;

/** The longest lock above SHARE UPDATE EXCLUSIVE: those below make no client wait. */
function longestLock(
  report: Report,
): { readonly heldMs: number; readonly mode: string; readonly relation: string } | null {
  const floor = lockRank('SHARE UPDATE EXCLUSIVE');
  const locks = report.steps.flatMap((step) => step.locks).filter((lock) => lockRank(lock.mode) > floor);
  return locks.reduce<(typeof locks)[number] | null>((a, b) => (a === null || b.heldMs > a.heldMs ? b : a), null);
}

function measured(seen: Seen): Record<string, unknown> {
  const { report, periods, stage, death: died } = seen;
  const backfill = report.steps.filter((step) => step.id.startsWith('backfill.'));
  const rows = backfill.reduce((sum, step) => sum + step.rows, 0);
  const spent = backfill.reduce(
    (sum, step) =>
      sum + (step.startedAt && step.endedAt ? (Date.parse(step.endedAt) - Date.parse(step.startedAt)) / 1000 : 0),
    0,
  );
  const longest = longestLock(report);
  return {
    table: stage.change.table,
    rows: stage.rows,
    rowsBackfilled: rows,
    rowsPerSecond: spent > 0 ? Math.round(rows / spent) : null,
    rowsVerified: report.proof.reduce((sum, p) => sum + p.rows, 0),
    rowsDiffering: report.proof.reduce((sum, p) => sum + p.differing, 0),
    longestLockMs: longest?.heldMs ?? null,
    longestLockMode: longest?.mode ?? null,
    longestLockRelation: longest?.relation ?? null,
    writer: Object.fromEntries(periods.map((p) => [p.period, p])),
    ledger: { inHold: seen.held, afterRollback: seen.taken },
    kill: died,
    catalogInHold: catalogueInHold(seen),
    catalogAfterRollback: differences(seen.catalogue.before, seen.catalogue.after),
    seconds: Math.round(seen.seconds * 10) / 10,
    webUi: seen.link,
  };
}
