/** `pgshift plan` of a data migration or a validation for people: its phases, the tables with their sizes, then what speaks against it. */
import type { PlannedStep, TablesPlan } from '../../plan/model/tablesPlan';
import { formatBytes, formatCount } from '../../plan/model/values';
import type { Colors } from '../terminal';
import { renderFinding, strongest } from './plan';
import { table } from './table';
import { bytesUpTo, risk, secondsRange, serverName, shortRelation } from './words';

export interface TablesPlanView {
  readonly plan: TablesPlan;
  readonly file: string;
  /** Gate -> who or what opens it. */
  readonly gates: Readonly<Record<string, string>>;
  /** Print what will be sent under each step. */
  readonly withSql: boolean;
}

/** More tables than this are counted. */
const TABLES_SHOWN = 30;

function lockCell({ locks }: PlannedStep): string {
  const lock = strongest(locks);
  if (lock === undefined) return '-';
  const others = locks.length - 1;
  return `${lock.mode} ${shortRelation(lock.relation)}${others > 0 ? ` +${others}` : ''}`;
}

const backCell = ({ wayBack, because }: PlannedStep): string => {
  if (wayBack !== null) return wayBack.statement.replace(/^--\s*/, '');
  return because === null || because === 'nothing to undo' ? '-' : `none: ${because}`;
};

function stepsOf({ plan, gates }: TablesPlanView, colors: Colors): string {
  const rows: string[][] = [];
  plan.steps.forEach((step, i) => {
    const before = plan.steps[i - 1];
    const gate = before?.phase === step.phase ? undefined : gates[step.phase];
    // The gate of the last phase is waited for while changes are followed.
    if (gate !== undefined) rows.push(['gate', `${step.phase} waits for ${gate}`, '', '']);
    const phase = before?.phase === step.phase && gate === undefined ? '' : step.phase;
    rows.push([phase, `${i + 1} ${step.title}`, lockCell(step), backCell(step)]);
  });
  return table(
    [{ title: 'phase' }, { title: 'step', max: 72 }, { title: 'lock', max: 44 }, { title: 'way back', max: 40 }],
    rows,
    { heading: colors.dim },
  );
}

function tablesOf({ plan }: TablesPlanView, colors: Colors): string[] {
  if (plan.tables.length === 0) return [];
  const shown = plan.tables.slice(0, TABLES_SHOWN);
  const rows = shown.map(({ table: name, to, rows: n, bytes, ranges, how }) => [
    to === name ? shortRelation(name) : `${shortRelation(name)} > ${shortRelation(to)}`,
    n === null ? 'not known' : `~${formatCount(n)}`,
    formatBytes(bytes),
    ranges === null ? '-' : formatCount(ranges),
    how,
  ]);
  const columns = [
    { title: 'table' },
    { title: 'rows', align: 'right' },
    { title: 'size', align: 'right' },
    { title: 'ranges', align: 'right' },
    { title: 'how', max: 60 },
  ] as const;
  const more = plan.tables.length - shown.length;
  return [
    '',
    table(columns, rows, { heading: colors.dim }),
    ...(more > 0 ? [` and ${formatCount(more)} smaller ones (--json lists them all)`] : []),
  ];
}

function chosenOf({ chosen }: TablesPlan): string {
  const { include, exclude, tables, leftOut, leftOutNames } = chosen;
  const patterns = `${include.join(', ')}${exclude.length > 0 ? ` without ${exclude.join(', ')}` : ''}`;
  const names = leftOutNames.slice(0, 5).map(shortRelation).join(', ');
  const left = leftOut === 0 ? '' : `; left out: ${names}${leftOut > 5 ? ` and ${formatCount(leftOut - 5)} more` : ''}`;
  return `chosen: ${formatCount(tables)} of ${formatCount(tables + leftOut)} tables (${patterns})${left}`;
}

export function renderTablesPlan(view: TablesPlanView, colors: Colors): string {
  const { plan, file } = view;
  const about = `about ${[secondsRange(plan.estimate.seconds), bytesUpTo(plan.estimate.bytes)].filter(Boolean).join(', ')}`;
  const between = plan.kind === 'validation' ? 'against' : 'to';
  const head = `${colors.bold(plan.name)} from ${plan.source} (${serverName(plan.sourceVersion)}) ${between} ${plan.database} (${serverName(plan.serverVersion)})`;
  const blocks = [
    `${head}          risk: ${risk(plan.risk.overall, colors)}    ${about}`,
    stepsOf(view, colors),
    ...tablesOf(view, colors),
    '',
    chosenOf(plan),
  ];
  if (view.withSql) blocks.push('', ...plan.steps.map(({ id, statement }) => `${colors.bold(id)}  ${statement}`));
  const findings = plan.findings.map((finding) => renderFinding(finding, file, colors));
  if (findings.length > 0) blocks.push('', ...findings, '');
  const command = plan.kind === 'validation' ? `pgshift verify ${file}` : `pgshift start ${file} --watch`;
  blocks.push(
    plan.runnable ? `Nothing was changed. Run it:  ${command}` : 'Refused: mend what is said above, then plan again.',
  );
  return blocks.join('\n');
}
