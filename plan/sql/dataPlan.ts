/**
 * A data migration as people see it before it runs: its phases with their locks and ways back, and what the plan's own keys mean for them. Pure. Keeps
 * true: what is said here is what the run does.
 */
import type { DataMigrationPlan } from '../model/dataMigration';
import { modesOf } from '../model/dataModes';
import { relation } from '../model/quote';
import type { KeyedFinding, PlannedStep, TablesPlan } from '../model/tablesPlan';
import { formatBytes } from '../model/values';
import { RATES, plannedLock, risk } from './figures';
import type { Look, LookedTable } from './tablesPlan';
import { LOCKS_LISTED, back, largest, many, over, readLocks, said, step, sumsOf, warning, whole } from './tablesPlan';

const MB = 1024 ** 2;
const LARGE = 10 * 1024 ** 3;
/** Bytes of heap and TOAST a second through COPY with its index, low and high. */
const COPY_RATE = [15 * MB, 120 * MB] as const;

export function dataPlanOf(plan: DataMigrationPlan, look: Look): TablesPlan {
  const mode = modesOf(plan);
  const { bytes } = sumsOf(look.tables);
  const merges = plan.load.method === 'upsert' && plan.schema === 'existing';
  return whole(look, {
    kind: 'data-migration',
    name: plan.name,
    database: plan.target,
    source: plan.source,
    mode: plan.mode,
    tables: plan.tables,
    steps: dataSteps(plan, look.tables),
    risk: risk({
      ...(merges ? { dataLoss: 'medium' } : {}),
      ...(bytes > LARGE || mode.streaming ? { performance: 'medium' } : {}),
      ...(plan.verify === 'none' ? { dataLoss: 'medium' } : {}),
    }),
    findings: dataFindings(plan),
  });
}

const NOT_MADE = ['indexes', 'constraints', 'triggers', 'views', 'functions'] as const;

function dataSteps(plan: DataMigrationPlan, tables: readonly LookedTable[]): PlannedStep[] {
  const { source, target, schema, load, parallel, verify } = plan;
  const { streaming, incremental } = modesOf(plan);
  const { bytes, rows } = sumsOf(tables);
  const create = schema === 'create';
  const left = NOT_MADE.filter((what) => !plan.keep[what]);
  const [first] = largest(tables);
  const name = first === undefined ? '' : relation(first);
  const steps: (PlannedStep | null)[] = [
    step({
      id: 'preflight.1',
      phase: 'preflight',
      action: 'check',
      title: `look at ${source} and ${target}: versions, roles, tables, maps; claim the name on ${target}`,
      statement: '-- reads the catalogues of both sides',
    }),
    step({
      id: 'snapshot.1',
      phase: 'snapshot',
      action: 'hold_snapshot',
      title:
        streaming?.capture === 'wal'
          ? `publication and slot on ${source}; its snapshot is held by a process of its own`
          : streaming
            ? `triggers on ${source} write changes down; a snapshot is held by a process of its own`
            : `one snapshot of ${source}, held by a process of its own`,
      statement: 'SELECT pg_export_snapshot()',
      locks: streaming
        ? largest(tables)
            .slice(0, LOCKS_LISTED)
            .map((table) =>
              plannedLock(table, streaming.capture === 'wal' ? 'SHARE UPDATE EXCLUSIVE' : 'SHARE ROW EXCLUSIVE'),
            )
        : [],
      wayBack: back(streaming ? '-- let it go; drop slot, publication and triggers' : '-- let it go'),
    }),
    create
      ? step({
          id: 'schema.1',
          phase: 'schema',
          action: 'make_schema',
          title: `make ${many(tables.length, 'table')} and what they need on ${target}${left.length > 0 ? `, without ${left.join(', ')}` : ''}`,
          statement: '-- pg_dump of the source in sections, object by object',
          wayBack: back('-- drop what was made'),
        })
      : null,
    step({
      id: 'copy.1',
      phase: 'copy',
      action: 'copy_tables',
      title: `copy ${many(tables.length, 'table')}, about ${many(rows, 'row')}, ${formatBytes(bytes)}; ${parallel.tables} at once, ${parallel.rangesPerTable} ranges each`,
      statement: `COPY ${name} TO STDOUT`,
      locks: [
        ...readLocks(tables),
        ...(create || load.disable.length === 0
          ? []
          : tables.slice(0, LOCKS_LISTED).map(({ to }) => plannedLock(to, 'ACCESS EXCLUSIVE'))),
      ],
      work: 'batches',
      estimate: { ...over(bytes, COPY_RATE, rows), bytes: [bytes, 2 * bytes] },
      wayBack: back(
        create
          ? '-- with its table'
          : load.method === 'copy'
            ? '-- empty them again'
            : '-- rows of ours go, overwritten ones come back',
      ),
    }),
    step({
      id: 'build.1',
      phase: 'build',
      action: 'build',
      title: create
        ? 'foreign keys, triggers, rules, policies, views; positions of sequences; statistics'
        : 'what was off goes on again; positions of sequences',
      statement: create ? '-- the last section of the dump' : '-- setval of each sequence',
      work: 'build',
      estimate: over(create ? bytes : 0, RATES.scan, null),
      wayBack: back(create ? '-- drop what was made' : '-- with the rows'),
    }),
    streaming
      ? step({
          id: 'follow.1',
          phase: 'follow',
          action: 'follow',
          title: `apply the changes of ${source} in their order, until gate finish is opened`,
          statement:
            streaming.capture === 'wal' ? 'START_REPLICATION SLOT ... LOGICAL' : '-- reads what the triggers wrote',
          work: 'batches',
          wayBack: back('-- with the tables'),
        })
      : incremental
        ? step({
            id: 'follow.1',
            phase: 'follow',
            action: 'increment',
            title:
              incremental.every === undefined
                ? `read once more what ${incremental.column} says is new`
                : `read what ${incremental.column} says is new (${incremental.every}), until gate finish is opened`,
            statement: `SELECT ... WHERE ${incremental.column} > $1 AND ${incremental.column} <= $2`,
            locks: readLocks(tables),
            work: 'batches',
            wayBack: back('-- with the tables'),
          })
        : null,
    verify === 'none'
      ? null
      : step({
          id: 'verify.1',
          phase: 'verify',
          action: 'verify',
          title:
            streaming || incremental
              ? 'compare every row on both sides, beside what goes on'
              : verify === 'sample'
                ? 'count all rows, compare one in 16'
                : 'count and fingerprint of every table, both sides',
          statement: `SELECT count(*), sum(hash_record_extended(...)) FROM ONLY ${name}`,
          locks: readLocks(tables),
          work: 'scan',
          estimate: over(2 * bytes, RATES.scan, rows),
        }),
    step({
      id: 'finish.1',
      phase: 'finish',
      action: 'finish',
      title: streaming ? 'the last changes, sequences; slot and publication go' : 'let the snapshot go',
      statement: '-- ends what is held on the source',
      because: 'the copy is complete; the source is as it was',
    }),
  ];
  return steps.filter((one) => one !== null);
}

function dataFindings(plan: DataMigrationPlan): KeyedFinding[] {
  const { streaming, incremental } = modesOf(plan);
  const { errors, load, verify, schema } = plan;
  const findings: KeyedFinding[] = [];
  if (verify === 'none')
    findings.push(
      warning('unproven', 'verify', 'nothing will say that the rows are equal', { alternative: 'verify: full' }),
    );
  if (verify === 'sample')
    findings.push(said('unproven', 'info', 'verify', 'one row in 16 is compared, all are counted'));
  if (incremental)
    findings.push(
      warning(
        'deletes_stay',
        'incremental',
        'rows that are deleted on the source stay: no column says that they went',
        {
          alternative: 'transfer: streaming',
        },
      ),
    );
  if (streaming?.capture === 'wal')
    findings.push(
      said(
        'slot_keeps_wal',
        'info',
        'transfer',
        `${plan.source} keeps its WAL until ${plan.target} has it; watch its disk`,
      ),
    );
  if (streaming?.capture === 'triggers')
    findings.push(
      warning(
        'writes_cost_more',
        'transfer',
        `each write on ${plan.source} writes what changed a second time, in its own transaction`,
      ),
    );
  if (load.method === 'upsert' && schema === 'existing' && load.onConflict !== 'ignore')
    findings.push(
      warning('overwrites', 'load', 'rows with the same key are overwritten; the way back restores them until the end'),
    );
  if (!(['max', 'rate'] as const).every((key) => (errors[key] ?? 0) === 0))
    findings.push(
      said(
        'bad_rows',
        'info',
        'errors',
        'bad rows within the limit are set aside, in pgshift.quarantine of the target',
      ),
    );
  return findings;
}
