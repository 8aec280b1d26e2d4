/** A validation as people see it before it runs: what is compared, how, and what a repair would do. Pure. */
import type { PlannedStep, TablesPlan } from '../model/tablesPlan';
import type { ValidationPlan } from '../model/validation';
import { formatBytes } from '../model/values';
import { RATES, plannedLock, risk } from './figures';
import type { Look } from './tablesPlan';
import { LOCKS_LISTED, many, over, readLocks, step, sumsOf, warning, whole } from './tablesPlan';

const LARGE = 10 * 1024 ** 3;

export function validationPlanOf(plan: ValidationPlan, look: Look): TablesPlan {
  const { bytes, rows } = sumsOf(look.tables);
  const rowsToo = plan.checks.includes('rows');
  const others = plan.checks.filter((check) => check !== 'rows');
  const repairs = plan.repair === 'target';
  const steps: (PlannedStep | null)[] = [
    rowsToo
      ? step({
          id: 'compare.1',
          phase: 'compare',
          action: 'compare',
          title: `compare ${many(look.tables.length, 'table')}, about ${many(rows, 'row')}, ${formatBytes(bytes)}, by ranges; ${plan.parallel} at once`,
          statement: 'SELECT count(*), sum(key), sum(hash_record_extended(...)) FROM ... WHERE <range>',
          locks: readLocks(look.tables),
          work: 'scan',
          estimate: over(2 * bytes, RATES.scan, rows),
        })
      : null,
    others.length > 0
      ? step({
          id: 'compare.2',
          phase: 'compare',
          action: 'checks',
          title: `compare ${others.join(', ')}`,
          statement: '-- reads the catalogues of both sides',
        })
      : null,
    rowsToo
      ? step({
          id: 'recheck.1',
          phase: 'recheck',
          action: 'recheck',
          title: `look again at rows that differ${plan.live === 'auto' ? ', behind a position that the target has' : ''}`,
          statement: 'SELECT ... WHERE <key>',
        })
      : null,
    repairs
      ? step({
          id: 'repair.1',
          phase: 'repair',
          action: 'repair',
          title: `make rows of ${plan.target} that differ like those of ${plan.source}`,
          statement: 'INSERT, UPDATE or DELETE of each such row',
          locks: look.tables.slice(0, LOCKS_LISTED).map(({ to }) => plannedLock(to, 'ROW EXCLUSIVE', 'batch')),
          work: 'batches',
          risk: risk({ dataLoss: 'medium' }),
          because: 'what was repaired is listed; nothing keeps the old rows',
        })
      : null,
  ];
  return whole(look, {
    kind: 'validation',
    name: plan.name,
    database: plan.target,
    source: plan.source,
    mode: 'production',
    tables: plan.tables,
    steps: steps.filter((one) => one !== null),
    risk: risk({
      ...(repairs ? { dataLoss: 'medium', rollback: 'high' } : {}),
      ...(bytes > LARGE ? { performance: 'medium' } : {}),
    }),
    findings: repairs
      ? [warning('overwrites', 'repair', 'rows of the target that differ are overwritten; there is no way back')]
      : [],
  });
}
