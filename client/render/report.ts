/**
 * A report as sections of small tables: one model that text, Markdown and HTML are printed from, so that they cannot say different things.
 */
import type { Report } from '../../plan/model/status';
import { blocks } from '../../plan/model/steps';
import { formatCount, formatDuration } from '../../plan/model/values';
import type { Colors } from '../terminal';
import { shown } from './measured';
import { table } from './table';
import { between, shortRelation, statusWord, utc } from './words';

/** A row that differs. Values are masked (`***`) unless they were asked for. */
export interface Difference {
  readonly table: string;
  readonly column: string | null;
  readonly rule: string;
  readonly reason: string | null;
  readonly key: string | null;
  readonly source: string | null;
  readonly target: string | null;
}

export type ReportView = Report & { readonly live: boolean; readonly differences?: readonly Difference[] };

export interface Section {
  readonly title: string;
  readonly columns: readonly { readonly title: string; readonly align?: 'left' | 'right' }[];
  readonly rows: readonly (readonly string[])[];
}

const right = (title: string) => ({ title, align: 'right' }) as const;
const left = (title: string) => ({ title }) as const;

type Lock = Report['steps'][number]['locks'][number];

const makesClientsWait = ({ mode }: Lock): boolean => ['writes', 'reads and writes'].includes(blocks(mode));

/** The lock that a client may have felt: a scan under SHARE UPDATE EXCLUSIVE is long and stops nobody. */
function longestBlocking(report: ReportView): (Lock & { readonly step: string }) | null {
  const all = report.steps.flatMap((step) =>
    step.locks.filter(makesClientsWait).map((lock) => ({ ...lock, step: step.id })),
  );
  return all.sort((a, b) => b.heldMs - a.heldMs)[0] ?? null;
}

function summary(report: ReportView): Section {
  const longest = longestBlocking(report);
  const { asked, other } = report.catalogDiff;
  const rows: (readonly [string, string | null])[] = [
    ['status', report.status],
    ['started', utc(report.startedAt)],
    ['writes go to', report.writableSide === undefined ? null : (report.writableSide ?? 'not known')],
    ['took', `${between(report.startedAt, report.endedAt)}${report.endedAt === null ? ' so far' : ''}`],
    ['error', report.lastError === null ? null : `${report.lastError.code}: ${report.lastError.message}`],
    [
      'longest lock',
      longest === null
        ? report.steps.length === 0
          ? null
          : 'none that makes a client wait'
        : `${longest.mode} on ${shortRelation(longest.relation)}, held ${formatDuration(longest.heldMs)}, waited ${formatDuration(longest.waitedMs)} (${longest.step})`,
    ],
    [
      'way back',
      report.wayBack.possible ? `${report.wayBack.how}${report.wayBack.lossless ? ', lossless' : ''}` : 'none',
    ],
    ['lossless until', report.wayBack.until === null ? null : utc(report.wayBack.until)],
    [
      'catalogue',
      asked.length + other.length === 0 ? null : `${asked.length} differences asked for, ${other.length} others`,
    ],
  ];
  return {
    title: '',
    columns: [left('what'), left('')],
    rows: rows.filter((row): row is readonly [string, string] => row[1] !== null),
  };
}

const lockText = (locks: Report['steps'][number]['locks']): string => {
  const felt = locks.filter(makesClientsWait);
  const longest = [...(felt.length > 0 ? felt : locks)].sort((a, b) => b.heldMs - a.heldMs)[0];
  if (longest === undefined) return '-';
  return `${longest.mode} ${shortRelation(longest.relation)} ${formatDuration(longest.heldMs)}`;
};

function steps(report: ReportView): Section {
  const titles = new Map((report.plan?.steps ?? []).map((step) => [step.id, step.title]));
  return {
    title: 'Steps',
    columns: [left('step'), left('status'), right('took'), right('rows'), right('attempts'), left('longest lock held')],
    rows: report.steps.map((step) => [
      [step.id, titles.get(step.id)].filter(Boolean).join(' '),
      step.status,
      step.startedAt === null ? '-' : between(step.startedAt, step.endedAt),
      step.rows > 0 ? formatCount(step.rows) : '-',
      String(step.attempts),
      lockText(step.locks),
    ]),
  };
}

function dryRun(report: ReportView): Section {
  return {
    title: 'Plan (dry run: nothing was changed)',
    columns: [left('step'), left('what'), left('locks'), left('way back')],
    rows: (report.plan?.steps ?? []).map((step) => [
      step.id,
      step.title,
      step.locks.map((lock) => `${lock.mode} ${shortRelation(lock.relation)}`).join(', ') || '-',
      step.wayBack?.statement ?? step.because ?? '-',
    ]),
  };
}

function proofs(report: ReportView): Section {
  return {
    title: 'Proof',
    columns: [
      left('column'),
      right('rows'),
      right('remaining'),
      right('differing'),
      left('fingerprints'),
      left('verdict'),
    ],
    rows: report.proof.map((proof) => [
      proof.column.includes('.') ? proof.column : `${proof.table}.${proof.column}`,
      formatCount(proof.rows),
      formatCount(proof.remaining),
      formatCount(proof.differing),
      proof.fingerprintOld === proof.fingerprintNew
        ? proof.fingerprintNew
        : `${proof.fingerprintOld} / ${proof.fingerprintNew}`,
      proof.equal && proof.remaining === 0 && proof.differing === 0 ? 'equal' : 'DIFFERENT',
    ]),
  };
}

/** Of a canary: a row for each metric of each stage. */
function stages(report: ReportView): Section {
  return {
    title: 'Stages',
    columns: [
      left('stage'),
      right('percent'),
      left('verdict'),
      left('metric'),
      left('says'),
      right('value'),
      right('baseline'),
      right('failed of'),
    ],
    rows: (report.stages ?? []).flatMap(({ name, percent, verdict, metrics, skipped }) => {
      const said = `${verdict ?? 'under way'}${skipped ? ', skipped' : ''}`;
      const head = [name, `${percent} %`, said];
      if (metrics.length === 0) return [[...head, '-', '-', '-', '-', '-']];
      return metrics.map((m, i) => [
        ...(i === 0 ? head : ['', '', '']),
        m.name,
        m.verdict ?? 'not read',
        m.value === null ? '-' : String(m.value),
        m.baseline === null ? '-' : String(m.baseline),
        `${m.failures} of ${m.readings}`,
      ]);
    }),
  };
}

/** Of a blue-green: every switch, drills and undone ones too. */
function switches(report: ReportView): Section {
  return {
    title: 'Switches',
    columns: [
      left('what'),
      left('direction'),
      left('outcome'),
      right('clients waited'),
      right('errors'),
      left('fence'),
      left('applied'),
    ],
    rows: (report.switches ?? []).map((s) => [
      s.purpose,
      s.direction === 'forward' ? 'to green' : 'to blue',
      s.because === null ? s.outcome : `${s.outcome}: ${s.because}`,
      formatDuration(s.pausedMs),
      s.clientErrors === null ? 'unknown' : String(s.clientErrors),
      s.fenceLsn ?? '-',
      s.appliedLsn ?? '-',
    ]),
  };
}

const line = (title: string, column: string, texts: readonly string[]): Section => ({
  title,
  columns: [left(column)],
  rows: texts.map((text) => [text]),
});

/** Sections with nothing in them are left out. */
export function sections(report: ReportView): Section[] {
  const all: Section[] = [
    summary(report),
    dryRun(report),
    steps(report),
    stages(report),
    switches(report),
    proofs(report),
    {
      title: 'Rows that differ',
      columns: [left('table'), left('column'), left('key'), left('old'), left('new'), left('why')],
      rows: (report.differences ?? []).map((d) => [
        d.table,
        d.column ?? '-',
        d.key ?? '-',
        d.source ?? 'NULL',
        d.target ?? 'NULL',
        d.reason ?? d.rule,
      ]),
    },
    {
      title: 'Decisions',
      columns: [left('gate'), left('verdict'), left('by'), left('at'), left('via'), left('reason')],
      rows: report.approvals.map((a) => [a.gate, a.verdict, a.by, utc(a.at), a.via, a.reason ?? '']),
    },
    {
      title: 'Health',
      columns: [left('condition'), left('verdict'), left('at'), right('value')],
      rows: report.health.map((h) => [h.name, h.verdict, utc(h.at), h.value === null ? '-' : String(h.value)]),
    },
    line('Catalogue: other differences', 'object', report.catalogDiff.other),
    {
      title: 'Measured',
      columns: [left('what'), right('value')],
      rows: shown(report.measured),
    },
  ];
  return all.filter((section) => section.rows.length > 0);
}

export const headline = (report: ReportView): string =>
  `${report.name} on ${report.database}: ${report.status} (${report.kind}, ${report.mode}, ${report.id})`;

export function renderReport(report: ReportView, colors: Colors): string {
  const head = `${colors.bold(report.name)} on ${report.database}: ${statusWord(report.status, colors)}  (${report.kind}, ${report.mode}, ${report.id})`;
  const body = sections(report).map(({ title, columns, rows }) => {
    if (title === '') return rows.map(([what = '', text = '']) => `${colors.dim(what.padEnd(16))}${text}`).join('\n');
    return `\n${colors.bold(title)}\n${table(columns, rows, { indent: '  ', heading: colors.dim })}`;
  });
  const note = report.live ? [] : [colors.yellow('\nno worker answers: steps and proofs are not known')];
  return [head, ...body, ...note].join('\n');
}
