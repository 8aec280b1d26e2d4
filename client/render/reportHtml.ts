/** A report as one page that needs nothing else: no scripts, no links, no fonts from elsewhere. */
import type { StageMetric } from '../../plan/model/canary';
import { headline, sections } from './report';
import type { ReportView } from './report';

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const escape = (text: string): string => text.replace(/[&<>"']/g, (char) => ENTITIES[char] ?? char);

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}
th{color:#57606a;font-weight:600}.right{text-align:right;font-variant-numeric:tabular-nums}h1{font-size:1.4rem}h2{font-size:1.1rem}
figure{margin:.5rem 0 1rem}figcaption{color:#57606a}svg{width:100%;max-width:40rem;height:auto}polyline{fill:none;stroke:#0969da;stroke-width:2}.base{stroke:#8b949e;stroke-dasharray:6 4}circle{fill:#0969da}polyline.bad{stroke:#cf222e}circle.bad{fill:#cf222e}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}th{color:#8b949e}}`;

const WIDTH = 560;
const HEIGHT = 90;

const clock = (seconds: number): string => new Date(seconds * 1_000).toISOString().slice(11, 19);
const short = (value: number): string => String(Number(value.toPrecision(4)));

/** One metric over one stage as a line, or a dot where it was read once; the baseline, where there is one, as a broken line. */
function chart(stage: string, { name, points, baseline, verdict }: StageMetric): string {
  const values = [...points.map(([, value]) => value), ...(baseline === null ? [] : [baseline])];
  const [low, high] = [Math.min(0, ...values), Math.max(...values)];
  const [from, to] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
  const x = (at: number): string => (((at - from) / Math.max(1, to - from)) * WIDTH).toFixed(1);
  const y = (value: number): string => (HEIGHT - ((value - low) / (high - low || 1)) * HEIGHT).toFixed(1);
  const kind = verdict === 'failed' || verdict === 'error' ? ' class="bad"' : '';
  const [only] = points;
  const line =
    points.length === 1 && only
      ? `<circle cx="${x(only[0])}" cy="${y(only[1])}" r="3"${kind}/>`
      : `<polyline points="${points.map(([at, value]) => `${x(at)},${y(value)}`).join(' ')}"${kind}/>`;
  const level =
    baseline === null ? '' : `<line x1="0" x2="${WIDTH}" y1="${y(baseline)}" y2="${y(baseline)}" class="base"/>`;
  const title = `${stage}: ${name}`;
  const about = [
    `${short(low)} to ${short(high)}`,
    `${clock(from)}${to === from ? '' : ` to ${clock(to)}`} UTC`,
    ...(baseline === null ? [] : [`baseline ${short(baseline)}`]),
    ...(verdict === null || verdict === 'passed' ? [] : [verdict]),
  ];
  return `<figure><figcaption>${escape(title)} (${escape(about.join(', '))})</figcaption><svg viewBox="-4 -4 ${WIDTH + 8} ${HEIGHT + 8}" role="img" aria-label="${escape(title)}">${level}${line}</svg></figure>`;
}

/** Of a canary: each metric of each stage that was read; what says nothing stands in the table alone. */
function charts({ stages = [] }: ReportView): string {
  const all = stages.flatMap(({ name, metrics }) =>
    metrics.filter(({ points }) => points.length > 0).map((metric) => chart(name, metric)),
  );
  return all.length === 0 ? '' : `<h2>Metrics by stage</h2>\n${all.join('\n')}`;
}

export function renderHtml(report: ReportView): string {
  const parts = sections(report).map(({ title, columns, rows }) => {
    const kind = (i: number) => (columns[i]?.align === 'right' ? ' class="right"' : '');
    const head = columns.map((column, i) => `<th${kind(i)}>${escape(column.title)}</th>`).join('');
    const body = rows.map((row) => `<tr>${row.map((text, i) => `<td${kind(i)}>${escape(text)}</td>`).join('')}</tr>`);
    return `${title === '' ? '' : `<h2>${escape(title)}</h2>\n`}<table>\n<tr>${head}</tr>\n${body.join('\n')}\n</table>`;
  });
  const head = escape(headline(report));
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${head}</title>
<style>${STYLE}</style></head>
<body>
<h1>${head}</h1>
${parts.join('\n')}
${charts(report)}
</body>
</html>`;
}
