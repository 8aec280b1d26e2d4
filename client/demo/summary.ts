/** What a chapter measured and claimed, for people. */
import { formatCount, formatDuration } from '../../plan/model/values';
import { pairs, table } from '../render/table';
import type { Terminal } from '../terminal';
import type { DemoPart } from './claims';
import type { PeriodReport } from './latency';

interface Measured {
  readonly rows: number;
  readonly writer: Readonly<Record<string, PeriodReport>>;
  readonly seconds: number;
  readonly webUi: string | null;
}

interface MeasuredSchema extends Measured {
  readonly rowsBackfilled: number;
  readonly rowsPerSecond: number | null;
  readonly rowsVerified: number;
  readonly longestLockMs: number | null;
  readonly longestLockMode: string | null;
  readonly longestLockRelation: string | null;
}

interface MeasuredSwitch extends Measured {
  readonly pausedMs: number | null;
  readonly pausedBackMs: number | null;
}

interface MeasuredCanary extends Measured {
  readonly percent: number;
  readonly faults: Readonly<Record<string, { readonly foundMs: number | null; readonly homeMs: number | null }>>;
}

type Fact = readonly [string, string | null];

const factsOfSchema = (m: MeasuredSchema): readonly Fact[] => [
  [
    ' rows',
    `${formatCount(m.rows)}; ${formatCount(m.rowsBackfilled)} filled${m.rowsPerSecond ? `, ${formatCount(m.rowsPerSecond)} rows/s, the death included` : ''}`,
  ],
  [' verified', `${formatCount(m.rowsVerified)} row images`],
  [
    ' longest lock',
    m.longestLockMs === null
      ? 'none'
      : `${formatDuration(m.longestLockMs)} ${m.longestLockMode} on ${m.longestLockRelation}`,
  ],
];

const pause = (ms: number | null): string => (ms === null ? 'none' : formatDuration(ms));
const factsOfSwitch = (m: MeasuredSwitch): readonly Fact[] => [
  [' rows', formatCount(m.rows)],
  [' pause', `${pause(m.pausedMs)} there, ${pause(m.pausedBackMs)} back; first client blocked to first client served`],
];

const factsOfCanary = (m: MeasuredCanary): readonly Fact[] => [
  [' rows', formatCount(m.rows)],
  [' first stage', `${m.percent} % of the people`],
  ...Object.entries(m.faults).map(([name, { foundMs, homeMs }]): Fact => [
    ` ${name}`,
    `found after ${pause(foundMs)}; the last answer of the new side ${homeMs === 0 ? 'before' : `${pause(homeMs)} after`} the verdict`,
  ]),
];

function factsOf(name: string, m: Measured): readonly Fact[] {
  if (name === 'bluegreen') return factsOfSwitch(m as MeasuredSwitch);
  return name === 'canary' ? factsOfCanary(m as MeasuredCanary) : factsOfSchema(m as MeasuredSchema);
}

export function summary(part: DemoPart, terminal: Pick<Terminal, 'colors'>): string {
  const { colors } = terminal;
  const m = part.measured as unknown as Measured;
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  const writer = table(
    [
      { title: 'the writer, by its own clock' },
      { title: 'operations', align: 'right' },
      { title: 'p50', align: 'right' },
      { title: 'p99', align: 'right' },
      { title: 'longest', align: 'right' },
      { title: 'errors', align: 'right' },
      { title: 'prepared again', align: 'right' },
    ],
    Object.values(m.writer).map((p) => [
      p.period,
      formatCount(p.operations),
      ms(p.p50Ms),
      ms(p.p99Ms),
      ms(p.longestMs),
      String(Object.values(p.errors).reduce((a, b) => a + b, 0)),
      String(p.cachedPlans),
    ]),
    { heading: colors.dim },
  );
  const facts = pairs([...factsOf(part.name, m), [' took', formatDuration(m.seconds * 1000)], [' look', m.webUi]]);
  const claims = part.claims.map(
    (c) => ` ${c.holds ? colors.green('holds') : colors.red('FAILS')}  ${c.says}\n        ${colors.dim(c.seen)}`,
  );
  const verdict = part.passed
    ? colors.green('Every claim was checked and holds.')
    : colors.red('Not every claim holds.');
  return ['', facts, '', writer, '', ...claims, '', verdict].join('\n');
}
