/**
 * One layout for every error: `error[Code]: what`, where with the line and a caret, the value as it was typed, what to do next; or the same as one
 * JSON object. Whatever is shown has passed the redaction.
 */
import type { Problem, Where } from '../../plan/model/errors';
import { echoable, redact } from '../redact';
import type { Colors } from '../terminal';

const position = ({ file, line, column }: Where): string | null => {
  if (file === undefined && line === undefined) return null;
  return [file ?? 'input', line, line === undefined ? undefined : column]
    .filter((part) => part !== undefined)
    .join(':');
};

/** The line with a run of carets under the place. Tabs stay tabs, so that the caret lands under its character. */
function excerpt({ text, column, length }: Where): string[] {
  if (text === undefined || !echoable(text)) return [];
  const shown = text.replace(/\r$/, '');
  if (column === undefined) return [`   | ${shown}`];
  const indent = shown
    .slice(0, column - 1)
    .replace(/[^\t]/g, ' ')
    .padEnd(column - 1);
  const carets = '^'.repeat(Math.max(1, Math.min(length ?? 1, shown.length - column + 1)));
  return [`   | ${shown}`, `   | ${indent}${carets}`];
}

interface Check {
  readonly name?: unknown;
  readonly message?: unknown;
  readonly remedy?: unknown;
}

/** PreflightFailed and GuardrailFailed carry the checks that said no. */
function checks(details: Readonly<Record<string, unknown>>): string[] {
  const list = details['checks'];
  if (!Array.isArray(list)) return [];
  return (list as unknown[]).flatMap((entry) => {
    if (typeof entry === 'string') return [`  check: ${entry}`];
    const { name, message, remedy } = (entry ?? {}) as Check;
    const head = [name, message].filter((part) => typeof part === 'string').join(': ');
    return [`  check: ${head}`, ...(typeof remedy === 'string' ? [`         ${remedy}`] : [])];
  });
}

export function renderProblem(problem: Problem, colors: Colors): string {
  const where = problem.where ?? {};
  const at = position(where);
  const lines = [`${colors.bold(colors.red(`error[${problem.code}]`))}${colors.bold(`: ${problem.message}`)}`];
  if (at !== null) lines.push(`  ${colors.blue('-->')} ${at}`);
  else if (where.path !== undefined) lines.push(`  ${colors.blue('-->')} ${where.path}`);
  lines.push(...excerpt(where));
  if (problem.value !== undefined && echoable(problem.value)) lines.push(`  value: ${problem.value}`);
  lines.push(...checks(problem.details));
  if (problem.hint !== '') lines.push(`  ${colors.cyan('help')}: ${problem.hint}`);
  return redact(lines.join('\n'));
}

/** `{"error": {...}}` of the contract. */
export function problemJson(problem: Problem): unknown {
  const { file, line, column, path } = problem.where ?? {};
  return {
    error: {
      code: problem.code,
      message: redact(problem.message),
      where:
        problem.where === undefined
          ? null
          : { file: file ?? null, line: line ?? null, column: column ?? null, path: path ?? null },
      value: problem.value === undefined || !echoable(problem.value) ? null : problem.value,
      hint: redact(problem.hint),
      docs: `docs/errors.md#${problem.code.toLowerCase()}`,
      ...(Object.keys(problem.details).length > 0 ? { details: problem.details } : {}),
    },
  };
}
