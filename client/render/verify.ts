/** A verification for people: verdict first, then what is wrong, tables, and the rows that differ. */
import type { ValidationPlan, VerifiedTable, VerifyResult, VerifySample } from '../../plan/model/validation';
import { formatCount, formatDuration } from '../../plan/model/values';
import type { Colors } from '../terminal';
import { table } from './table';
import { shortRelation } from './words';

const right = (title: string) => ({ title, align: 'right' }) as const;
const left = (title: string) => ({ title }) as const;
const wide = (title: string) => ({ title, max: 60 }) as const;

/** More tables than this are counted, unless they differ. */
const EQUAL_SHOWN = 30;

function tablesOf({ tables }: VerifyResult, colors: Colors): string {
  const unequal = tables.filter((one) => !one.equal);
  const equal = tables.filter((one) => one.equal);
  const shown = [...unequal, ...equal.slice(0, EQUAL_SHOWN)];
  const name = (one: VerifiedTable): string =>
    one.to === undefined ? shortRelation(one.table) : `${shortRelation(one.table)} > ${shortRelation(one.to)}`;
  const rows = shown.map((one) => [
    name(one),
    formatCount(one.sourceRows),
    formatCount(one.targetRows),
    formatCount(one.differing),
    one.repaired > 0 ? formatCount(one.repaired) : '-',
    one.equal ? colors.green('equal') : colors.red(one.complete ? 'DIFFERENT' : 'DIFFERENT, not counted to the end'),
  ]);
  const columns = [
    left('table'),
    right('source rows'),
    right('target rows'),
    right('differing'),
    right('repaired'),
    left(''),
  ];
  const more =
    equal.length > EQUAL_SHOWN ? `\n  and ${formatCount(equal.length - EQUAL_SHOWN)} more tables, all equal` : '';
  return `${table(columns, rows, { indent: '  ', heading: colors.dim })}${more}`;
}

const keyText = (key: VerifySample['key']): string =>
  Object.entries(key)
    .map(([name, value]) => `${name}=${value ?? 'NULL'}`)
    .join(', ');

function samplesOf({ tables }: VerifyResult, colors: Colors): string[] {
  const rows = tables.flatMap((one) =>
    (one.samples ?? []).flatMap((sample) => {
      const head = [shortRelation(one.table), keyText(sample.key), sample.kind];
      const columns = sample.columns.length > 0 ? sample.columns : [{ name: '-', source: null, target: null }];
      return columns.map((c) => [
        ...head,
        c.name,
        sample.kind === 'extra' ? '-' : (c.source ?? 'NULL'),
        sample.kind === 'missing' ? '-' : (c.target ?? 'NULL'),
      ]);
    }),
  );
  if (rows.length === 0) return [];
  const columns = [left('table'), wide('key'), left('what'), left('column'), wide('source'), wide('target')];
  return ['', colors.bold('Rows that differ'), table(columns, rows, { indent: '  ', heading: colors.dim })];
}

export function renderVerify(result: VerifyResult, plan: ValidationPlan, colors: Colors): string {
  const { statistics: s } = result;
  const verdict = result.passed ? colors.green('equal') : colors.red('DIFFERENT');
  const list = (title: string, findings: VerifyResult['errors']): string[] =>
    findings.length === 0
      ? []
      : [
          '',
          colors.bold(title),
          ...findings.map((f) => `  ${f.check}  ${f.table === null ? '' : `${shortRelation(f.table)}: `}${f.message}`),
        ];
  return [
    `${colors.bold(plan.name)}: ${plan.source} against ${plan.target}: ${verdict}`,
    `${formatCount(s.rows)} rows of ${formatCount(s.tables)} tables in ${formatDuration(s.seconds * 1_000)} (${formatCount(s.rowsPerSecond)} rows/s), ${formatCount(s.ranges)} ranges, ${formatCount(s.rechecked)} rows looked at again`,
    ...list('Errors', result.errors),
    ...list('Warnings', result.warnings),
    ...(result.tables.length > 0 ? ['', tablesOf(result, colors)] : []),
    ...samplesOf(result, colors),
  ].join('\n');
}
