/** A report for a pull request or a wiki. */
import { headline, sections } from './report';
import type { ReportView } from './report';

const cell = (text: string): string => text.replace(/\|/g, '\\|').replace(/\r?\n/g, ' ').replace(/</g, '&lt;');

export function renderMarkdown(report: ReportView): string {
  const parts = sections(report).map(({ title, columns, rows }) => {
    const head = `| ${columns.map((column) => column.title).join(' | ')} |`;
    const rule = `|${columns.map((column) => (column.align === 'right' ? '---:' : '---')).join('|')}|`;
    const body = rows.map((row) => `| ${row.map(cell).join(' | ')} |`);
    return [...(title === '' ? [] : [`## ${title}`, '']), head, rule, ...body].join('\n');
  });
  return `# ${cell(headline(report))}\n\n${parts.join('\n\n')}\n`;
}
