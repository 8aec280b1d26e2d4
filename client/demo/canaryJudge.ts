/** From what was seen of each fault to claims: each sentence that the chapter ends with, with its figures, and whether it holds. Pure. */
import type { StageReport } from '../../plan/model/canary';
import type { Report } from '../../plan/model/status';
import { formatCount, formatDuration } from '../../plan/model/values';
import { diffCatalog } from '../../postgres/catalog/diff';
import { Claims } from './claims';
import type { DemoPart } from './claims';
import type { Fault } from './faults';
import type { PeriodReport } from './latency';
import type { LedgerCheck } from './ledger';
import type { SeenByReaders } from './readers';

export interface FaultSeen {
  readonly fault: Pick<Fault, 'name' | 'says' | 'moves' | 'metric'>;
  /** At the run's end. */
  readonly report: Report;
  readonly end: string;
  readonly readers: SeenByReaders;
  /** What is left of the run on either side. */
  readonly left: readonly string[];
  readonly link: string | null;
}

export interface CanarySeen {
  readonly faults: readonly FaultSeen[];
  readonly rows: number;
  /** Of the people, in the first stage. */
  readonly percent: number;
  readonly ledger: LedgerCheck;
  readonly catalogue: { readonly before: readonly string[]; readonly after: readonly string[] };
  readonly periods: readonly PeriodReport[];
  readonly seconds: number;
}

/** What the issue asks of an abort, whatever the size. */
const HOME_MS = 5 * 60_000;

export function judgeCanary(seen: CanarySeen): DemoPart {
  const claims = new Claims();
  for (const one of seen.faults) judgeFault(one, seen.percent, claims);
  together(seen, claims);
  return { name: 'canary', passed: claims.hold, measured: measured(seen), claims: claims.list };
}

const firstStage = ({ report }: FaultSeen): StageReport | null => report.stages?.[0] ?? null;
const stageMs = (stage: StageReport | null): number | null =>
  stage?.endedAt ? Date.parse(stage.endedAt) - Date.parse(stage.startedAt) : null;

/** From the verdict to the last answer that came from the new side. */
function homeMs(seen: FaultSeen): number | null {
  const at = firstStage(seen)?.endedAt;
  if (!at) return null;
  return Math.max(0, (seen.readers.lastThereAt ?? 0) - Date.parse(at));
}

function judgeFault(seen: FaultSeen, percent: number, claims: Claims): void {
  const { fault, report, end, readers } = seen;
  const stages = report.stages ?? [];
  const stage = firstStage(seen);
  const found = stage?.metrics.find(({ name }) => name === fault.metric);
  const took = stageMs(stage);
  claims.add(
    `${fault.says}: found at the first stage, where ${percent} % of the people are`,
    stages.length === 1 && stage?.verdict === 'failed' && found?.verdict === 'failed',
    found === undefined
      ? `stages: ${stages.map(({ name, verdict }) => `${name} ${verdict ?? 'under way'}`).join(', ') || 'none'}`
      : `${fault.metric} ${found.value === null ? 'unknown' : Number(found.value.toPrecision(3))} after ${took === null ? '?' : formatDuration(took)} and ${found.readings} readings`,
  );
  const home = homeMs(seen);
  claims.add(
    'and everybody was sent home by it, without a person',
    end === 'rolled_back' && report.lastError?.code === 'HealthFailed' && home !== null && home < HOME_MS,
    `${end}: ${report.lastError?.message ?? 'no reason given'}`,
  );
  if (fault.moves === 'reads') people(readers, home, claims);
  else comparisons(readers, claims);
}

function people({ inside, outside }: SeenByReaders, home: number | null, claims: Claims): void {
  claims.add(
    'nobody above the stage ever read there, and nobody at all saw an error',
    outside.there === 0 && outside.reads > 0 && inside.reads > 0 && inside.errors + outside.errors === 0,
    `${formatCount(outside.reads)} reads of ${outside.keys} others, ${outside.there ?? 'unknown'} of them there; ${formatCount(inside.there ?? 0)} of ${formatCount(inside.reads)} reads of ${inside.keys} people there${inside.there ? `, the last ${formatDuration(home ?? 0)} after the verdict` : ''}; ${inside.errors + outside.errors} errors`,
  );
}

function comparisons({ inside, outside, compared, different }: SeenByReaders, claims: Claims): void {
  claims.add(
    'nobody was shown an answer of the new side, and only the people of the stage were asked for twice',
    compared > 0 && compared <= inside.reads && different > 0 && inside.errors + outside.errors === 0,
    `${formatCount(compared)} of ${formatCount(inside.reads + outside.reads)} reads compared, ${formatCount(different)} with another answer; ${inside.errors + outside.errors} errors`,
  );
}

function together({ periods, ledger, catalogue, faults }: CanarySeen, claims: Claims): void {
  const failed = periods.flatMap(({ errors }) => Object.entries(errors));
  claims.add(
    'the writer saw no error, and every acknowledged write is where it was made',
    failed.length === 0 && ledger.wrong === 0 && ledger.unknownOutcomes === 0 && ledger.checked > 0,
    `${failed.map(([code, n]) => `${n} x ${code}`).join(', ') || 'no error'}; ${formatCount(ledger.acknowledged)} acknowledged writes to ${formatCount(ledger.checked)} rows, ${ledger.wrong} wrong`,
  );
  const { added, removed } = diffCatalog(catalogue.before, catalogue.after);
  const lines = [...removed.map((line) => `- ${line}`), ...added.map((line) => `+ ${line}`)];
  const left = faults.flatMap((one) => one.left);
  claims.add(
    'blue is as it was, and nothing of the runs is left on either side',
    lines.length === 0 && left.length === 0,
    lines.length + left.length === 0
      ? `${formatCount(catalogue.before.length)} rows of pg_catalog compared; no slot, publication, subscription or wall`
      : [...left, ...lines].slice(0, 6).join('; '),
  );
}

const measured = (seen: CanarySeen): Record<string, unknown> => ({
  rows: seen.rows,
  percent: seen.percent,
  faults: Object.fromEntries(
    seen.faults.map((one) => [
      one.fault.name,
      {
        foundMs: stageMs(firstStage(one)),
        homeMs: homeMs(one),
        metrics: firstStage(one)?.metrics.map(({ name, verdict, value, readings }) => ({
          name,
          verdict,
          value,
          readings,
        })),
        readers: one.readers,
        webUi: one.link,
      },
    ]),
  ),
  writer: Object.fromEntries(seen.periods.map((p) => [p.period, p])),
  ledger: seen.ledger,
  left: seen.faults.flatMap(({ left }) => left),
  seconds: Math.round(seen.seconds * 10) / 10,
  webUi: seen.faults.at(0)?.link ?? null,
});
