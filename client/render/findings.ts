/** Findings in the formats of CI systems: GitHub's workflow commands and SARIF 2.1.0. */
import type { Finding } from '../../plan/model/steps';

type Counts = Readonly<Record<Finding['level'], number>>;

export const counts = (findings: readonly Finding[]): Counts => {
  const of = (level: Finding['level']) => findings.filter((finding) => finding.level === level).length;
  return { error: of('error'), warning: of('warning'), info: of('info') };
};

const message = ({ message: what, alternative }: Finding): string =>
  alternative === null ? what : `${what} Instead: ${alternative}`;

/** An error that the plan allows by name is no error any more: it is shown, and stops nothing. */
const levelOf = ({ level, allowed }: Finding): 'error' | 'warning' | 'notice' => {
  if (level === 'info' || allowed) return 'notice';
  return level;
};

const property = (text: string): string => data(text).replace(/:/g, '%3A').replace(/,/g, '%2C');
const data = (text: string): string => text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');

/** `::error file=..,line=..,col=..,title=..::message` */
export const githubLines = (findings: readonly Finding[], file: string): string[] =>
  findings.map(
    (finding) =>
      `::${levelOf(finding)} file=${property(finding.file ?? file)},line=${finding.line},col=${finding.column},title=${property(finding.rule)}::${data(message(finding))}`,
  );

export function sarif(findings: readonly Finding[], file: string): unknown {
  const rules = [...new Set(findings.map((finding) => finding.rule))].sort();
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'pgshift', rules: rules.map((id) => ({ id })) } },
        results: findings.map((finding) => ({
          ruleId: finding.rule,
          level: levelOf(finding) === 'notice' ? 'note' : levelOf(finding),
          message: { text: message(finding) },
          locations: [
            {
              physicalLocation: {
                artifactLocation: { uri: (finding.file ?? file).replace(/\\/g, '/') },
                region: { startLine: finding.line, startColumn: finding.column },
              },
            },
          ],
          ...(finding.allowed ? { suppressions: [{ kind: 'inSource', justification: 'named under allow' }] } : {}),
        })),
      },
    ],
  };
}
