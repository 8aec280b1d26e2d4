/** A validation before it runs: the look at both sides that every phase begins with, as `pgshift plan` shows it. Writes nothing. */
import { ERRORS, isProblem } from '../../plan/model/errors';
import { shownRelation } from '../../plan/model/quote';
import { tableFilter } from '../../plan/model/tableNames';
import type { TablesPlan } from '../../plan/model/tablesPlan';
import type { ValidationPlan } from '../../plan/model/validation';
import type { LookedTable } from '../../plan/sql/tablesPlan';
import { refusal, warning } from '../../plan/sql/tablesPlan';
import { validationPlanOf } from '../../plan/sql/validationPlan';
import type { Target } from '../types';
import { validationChecksum } from './checksum';
import type { Pair } from './pairs';
import type { Prepared } from './prepared';
import { prepare } from './prepared';
import { closePair, openPair } from './session';

const wayOf = ({ key, mapped }: Pair): string =>
  `${key?.walk ? `by ${key.walk.source.map(({ name }) => name).join(', ')}` : 'by blocks and hashes'}${mapped ? ', through the map' : ''}`;

const lookedAt = (pair: Pair): LookedTable => ({
  schema: pair.source.schema,
  name: pair.source.name,
  to: { schema: pair.target.schema, name: pair.target.name },
  bytes: pair.source.bytes,
  rows: pair.source.rows,
  ranges: null,
  how: wayOf(pair),
});

/** @throws Problem Unreachable and what else says nothing of the plan. */
export async function previewValidation(plan: ValidationPlan, source: Target, target: Target): Promise<TablesPlan> {
  const sessions = await openPair(source, target, plan.name, 'plan');
  try {
    const versions = { sourceVersion: sessions.source.serverVersion, serverVersion: sessions.target.serverVersion };
    const of = { checksum: validationChecksum(plan), ...versions };
    let prepared: Prepared;
    try {
      prepared = await prepare({ plan, target }, sessions);
    } catch (error) {
      if (!isProblem(error) || ![2, 3].includes(ERRORS[error.code].exit)) throw error;
      return validationPlanOf(plan, { ...of, tables: [], leftOut: [], findings: [refusal(error)] });
    }
    const wanted = tableFilter(plan.tables.include, plan.tables.exclude);
    return validationPlanOf(plan, {
      ...of,
      tables: prepared.pairs.map(lookedAt),
      chosen: prepared.source.filter(wanted).length,
      leftOut: prepared.source.filter((shape) => !wanted(shape)),
      findings: [
        ...prepared.findings.map(({ table, message }) =>
          warning('will_differ', 'tables', `${table ?? ''}: ${message}: the result will say that they differ`, {
            relation: table,
          }),
        ),
        ...prepared.pairs
          .filter(({ key }) => key === null)
          .map(({ source: shape }) =>
            warning(
              'no_key',
              'tables',
              `${shownRelation(shape)} has no key: rows are told apart by all of their values`,
              {
                level: 'info',
                relation: shownRelation(shape),
              },
            ),
          ),
      ],
    });
  } finally {
    await closePair(sessions);
  }
}
