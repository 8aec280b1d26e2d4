/** A report as one page that needs nothing else: no scripts, no links, no fonts from elsewhere. */
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
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}th{color:#8b949e}}`;

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
</body>
</html>`;
}
