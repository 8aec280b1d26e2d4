/** `pgshift plan` for people: one line for each step, with the strongest lock, how long it is held and the way back; then what speaks against it. */
import type { Finding, PlannedLock, SchemaPlan, Step } from '../../plan/model/steps';
import { lockRank } from '../../plan/model/steps';
import type { Colors } from '../terminal';
import { pairs, table } from './table';
import { bytesUpTo, risk, secondsRange, serverName, shortRelation, shortTitle } from './words';

const HELD: Readonly<Record<PlannedLock['held'], string>> = {
  brief: '< 50 ms',
  scan: 'scan',
  rewrite: 'rewrite',
  batch: 'per batch',
};

export interface PlanView {
  readonly plan: SchemaPlan;
  /** How the file was named, for the next command. */
  readonly file: string;
  /** Gates that wait: phase or step -> "a person", "a metric". */
  readonly gates: Readonly<Record<string, string>>;
  readonly hold: string;
  readonly offline: boolean;
  /** Print what will be sent under each step. */
  readonly withSql: boolean;
}

export const strongest = (locks: readonly PlannedLock[]): PlannedLock | undefined =>
  [...locks].sort((a, b) => lockRank(b.mode) - lockRank(a.mode))[0];

/** "ACCESS EXCLUSIVE payment +1": the strongest lock, and how many other relations are locked beside it. */
function lockCell(step: Step): string {
  const lock = strongest(step.locks);
  if (lock === undefined) return '-';
  const others = new Set(step.locks.map((l) => l.relation)).size - 1;
  return `${lock.mode} ${shortRelation(lock.relation)}${others > 0 ? ` +${others}` : ''}`;
}

const VERB = /\b(DROP|CREATE|ALTER|COMMENT|GRANT|REVOKE|UPDATE|DELETE|INSERT|SET|RENAME|VALIDATE)\b/i;

/** A few words for a cell, from the SQL of the way back: "drop column", "drop index". */
function phrase(sql: string): string {
  const inTable = /ALTER TABLE\s+(?:IF EXISTS\s+)?(?:ONLY\s+)?\S+\s+(.*)/is.exec(sql)?.[1];
  const text = (inTable ?? sql.slice(Math.max(0, sql.search(VERB)))).replace(
    /\b(CONCURRENTLY|IF EXISTS|IF NOT EXISTS)\b/gi,
    ' ',
  );
  const words =
    /^\s*(DROP NOT NULL|SET NOT NULL|ALTER COLUMN\s+\S+\s+\w+\s+\w+|(?:CREATE OR REPLACE|\w+)\s+\w+)/i.exec(
      text,
    )?.[1] ?? text;
  return words
    .replace(/^ALTER COLUMN\s+\S+\s+/i, '')
    .replace(/\s+/g, ' ')
    .toLowerCase()
    .slice(0, 40);
}

export function wayBackCell(step: Step, hold: string): string {
  const back = step.wayBack;
  if (back === null) return step.because === null || step.work === 'scan' ? '-' : `none: ${step.because}`;
  if (/swap/.test(step.action)) return back.lossless ? `swap back, lossless for ${hold}` : 'swap back, not lossless';
  const said = /^--\s*(.*)/.exec(back.statement)?.[1];
  if (said !== undefined || step.undo.length === 0)
    return said === undefined || said.startsWith('nothing') ? '-' : said;
  return back.lossless ? phrase(back.statement) : `${phrase(back.statement)} (data is lost)`;
}

/** Phases in which somebody or something must open a gate before they start. */
const gateRow = (phase: string, whom: string): string[] => ['gate', `${phase} waits for ${whom}`, '', '', ''];

function rows({ plan, gates, hold }: PlanView): string[][] {
  const result: string[][] = [];
  let phase = '';
  const waited = new Set<string>();
  plan.steps.forEach((step, i) => {
    for (const name of [step.phase, step.id])
      if (gates[name] !== undefined && !waited.has(name)) {
        waited.add(name);
        result.push(gateRow(name, gates[name]));
        phase = 'gate';
      }
    const held = strongest(step.locks);
    const title = `${i + 1} ${shortTitle(step.title)}`;
    result.push([
      step.phase === phase ? '' : step.phase,
      title,
      lockCell(step),
      held ? HELD[held.held] : '-',
      wayBackCell(step, hold),
    ]);
    phase = step.phase;
  });
  return result;
}

/** The exact SQL, every lock, the work and the way back of each step. */
function details(plan: SchemaPlan, colors: Colors): string {
  return plan.steps
    .map((step, i) => {
      const locks = step.locks.map((l) => `${l.mode} on ${l.relation}: blocks ${l.blocks}, held ${HELD[l.held]}`);
      return `${colors.bold(`${i + 1} ${step.title}`)} (${step.id})\n${pairs(
        [
          ['  sql', step.statement],
          ['  locks', locks.join('\n') || 'none'],
          [
            '  work',
            `${step.work}, about ${[secondsRange(step.estimate.seconds), bytesUpTo(step.estimate.bytes)].filter(Boolean).join(', ')}`,
          ],
          ['  way back', step.wayBack?.statement ?? `none: ${step.because ?? 'nothing to undo'}`],
        ],
        colors.dim,
      )}`;
    })
    .join('\n\n');
}

export function renderFinding(finding: Finding, file: string, colors: Colors): string {
  const level = finding.level === 'error' ? colors.red : finding.level === 'warning' ? colors.yellow : colors.cyan;
  const allowed = finding.allowed ? ' (allowed)' : '';
  const lines = [
    `${level(`${finding.level}[${finding.rule}]`)}${allowed}: ${finding.message}`,
    `  ${colors.blue('-->')} ${finding.file ?? file}:${finding.line}:${finding.column}`,
  ];
  if (finding.alternative !== null)
    lines.push(`  ${colors.cyan('instead')}: ${finding.alternative.replace(/\n/g, '\n           ')}`);
  return lines.join('\n');
}

const refusedLine = (findings: readonly Finding[]): string => {
  const rules = [...new Set(findings.filter((f) => f.level === 'error' && !f.allowed).map((f) => f.rule))];
  return `Refused. Take the alternative, or name the rule in the plan:  allow: [{ rule: ${rules[0] ?? '...'}, reason: "..." }]`;
};

export function renderPlan(view: PlanView, colors: Colors): string {
  const { plan, file, offline } = view;
  const size = bytesUpTo(plan.estimate.bytes);
  const about = offline
    ? 'no connection: no sizes, no times'
    : `about ${[secondsRange(plan.estimate.seconds), size].filter(Boolean).join(', ')}`;
  const head = `${colors.bold(plan.name)} on ${plan.database} (${serverName(plan.serverVersion)})`;
  const blocks = [`${head}          risk: ${risk(plan.risk.overall, colors)}    ${about}`];
  if (plan.steps.length > 0)
    blocks.push(
      table(
        [
          { title: 'phase' },
          { title: 'step', max: 64 },
          { title: 'lock', max: 48 },
          { title: 'held' },
          { title: 'way back', max: 44 },
        ],
        rows(view),
        { heading: colors.dim },
      ),
    );
  if (view.withSql) blocks.push('', details(plan, colors), '');
  const shown = plan.findings.map((finding) => renderFinding(finding, file, colors));
  if (shown.length > 0) blocks.push('', ...shown);
  if (offline)
    blocks.push(
      'Planned without the catalogue: types, indexes, constraints and dependents of what is there are not known.',
    );
  if (plan.dependents.length > 0)
    blocks.push(
      '',
      ...plan.dependents.map(
        (d) => `${d.handled === 'refused' ? colors.red(d.handled) : d.handled}: ${d.type} ${d.name} (uses ${d.of})`,
      ),
      '',
    );
  blocks.push(
    plan.runnable ? `Nothing was changed. Run it:  pgshift start ${file} --watch` : refusedLine(plan.findings),
  );
  return blocks.join('\n');
}
