/** What people and CI read, from fixed values: the plan's table, findings, status, reports, errors. */
import pico from 'picocolors';
import { tuning } from '../../client/commands/messages';
import { redact } from '../../client/redact';
import { problemJson, renderProblem } from '../../client/render/error';
import { counts, githubLines, sarif } from '../../client/render/findings';
import { renderPlan } from '../../client/render/plan';
import { renderReport } from '../../client/render/report';
import type { ReportView } from '../../client/render/report';
import { renderHtml } from '../../client/render/reportHtml';
import { renderMarkdown } from '../../client/render/reportMarkdown';
import { renderStatus } from '../../client/render/status';
import { table, widthOf } from '../../client/render/table';
import { problemOfTemporal } from '../../client/temporalFailure';
import { Problem } from '../../plan/model/errors';
import type { Finding, SchemaPlan, Step } from '../../plan/model/steps';

const colors = pico.createColors(false);
const none = { kind: 'transaction', lockFirst: [], statements: ['SELECT 1'], long: false } as const;

const step = (id: string, title: string, more: Partial<Step>): Step => ({
  id,
  phase: id.split('.')[0] as Step['phase'],
  action: 'x',
  title,
  statement: 'SELECT 1',
  from: { statement: 1, line: 1 },
  transactional: true,
  locks: [],
  work: 'metadata',
  estimate: { seconds: [0, 1], bytes: [0, 0], rows: null },
  risk: { dataLoss: 'low', downtime: 'low', performance: 'low', rollback: 'low' },
  wayBack: null,
  because: null,
  run: none,
  undo: [none],
  ...more,
});

const exclusive = {
  relation: 'public.payment',
  mode: 'ACCESS EXCLUSIVE',
  blocks: 'reads and writes',
  held: 'brief',
} as const;

const finding: Finding = {
  rule: 'rename',
  level: 'error',
  file: 'changes/a.yaml',
  line: 6,
  column: 3,
  statement: 1,
  relation: 'public.payment',
  message: 'clients still use the old name, 100% of them',
  alternative: 'add a new column',
  allowed: false,
};

const plan: SchemaPlan = {
  kind: 'schema-migration',
  name: '20261121_payment_precision',
  database: 'app',
  mode: 'production',
  checksum: 'c',
  serverVersion: 180006,
  runnable: true,
  risk: { overall: 'medium', dataLoss: 'low', downtime: 'low', performance: 'medium', rollback: 'low' },
  estimate: { seconds: [40.2, 69.5], bytes: [100e6, 180 * 1024 * 1024] },
  steps: [
    step('expand.1', 'add column payment.amount (numeric(14,4))', {
      locks: [exclusive],
      wayBack: { statement: 'ALTER TABLE "public"."payment" DROP COLUMN IF EXISTS "x"', lossless: true },
    }),
    step('backfill.1', '500,341 rows in batches', {
      locks: [{ relation: 'public.payment', mode: 'ROW EXCLUSIVE', blocks: 'nothing', held: 'batch' }],
      work: 'batches',
      undo: [],
      wayBack: { statement: '-- nothing to undo', lossless: true },
    }),
    step('build.1', 'index payment_amount_idx, concurrently', {
      locks: [{ relation: 'public.payment', mode: 'SHARE UPDATE EXCLUSIVE', blocks: 'schema changes', held: 'scan' }],
      wayBack: { statement: 'DROP INDEX CONCURRENTLY IF EXISTS "public"."i"', lossless: true },
    }),
    step('contract.1', 'swap names, turn the trigger round', {
      action: 'swap_column',
      locks: [exclusive],
      wayBack: { statement: 'ALTER TABLE a RENAME b TO c', lossless: true },
    }),
  ],
  findings: [],
  dependents: [],
  asked: [],
  preChecks: [],
  keepsOld: true,
} as SchemaPlan;

const view = {
  plan,
  file: 'changes/a.yaml',
  gates: { contract: 'a person' },
  hold: '24h',
  offline: false,
  withSql: false,
};

test('a plan is a table with the strongest lock, how long it is held, and the way back', () => {
  expect(renderPlan(view, colors)).toBe(
    [
      '20261121_payment_precision on app (PostgreSQL 18.6)          risk: medium    about 40-70 s, 180 MB',
      ' phase     step                                         lock                            held       way back',
      ' expand    1 add column payment.amount (numeric(14,4))  ACCESS EXCLUSIVE payment        < 50 ms    drop column',
      ' backfill  2 500,341 rows in batches                    ROW EXCLUSIVE payment           per batch  -',
      ' build     3 index payment_amount_idx, concurrently     SHARE UPDATE EXCLUSIVE payment  scan       drop index',
      ' gate      contract waits for a person',
      ' contract  4 swap names, turn the trigger round         ACCESS EXCLUSIVE payment        < 50 ms    swap back, lossless for 24h',
      'Nothing was changed. Run it:  pgshift start changes/a.yaml --watch',
    ].join('\n'),
  );
});

test('a refused plan says which rule, where, and how to go on', () => {
  const text = renderPlan({ ...view, plan: { ...plan, runnable: false, findings: [finding] } }, colors);
  expect(text).toContain('error[rename]: clients still use the old name');
  expect(text).toContain('  --> changes/a.yaml:6:3\n  instead: add a new column');
  expect(text).toMatch(/Refused\..*allow: \[\{ rule: rename, reason: "\.\.\." \}\]$/);
  expect(text).not.toContain('Run it');
});

test('without a connection no size and no time is claimed', () => {
  expect(renderPlan({ ...view, offline: true }, colors)).toContain('no connection: no sizes, no times');
});

test('findings as workflow commands of GitHub are escaped', () => {
  expect(githubLines([finding], 'x')).toEqual([
    '::error file=changes/a.yaml,line=6,col=3,title=rename::clients still use the old name, 100%25 of them Instead: add a new column',
  ]);
  expect(githubLines([{ ...finding, allowed: true }], 'x')[0]).toMatch(/^::notice /);
  expect(counts([finding])).toEqual({ error: 1, warning: 0, info: 0 });
});

test('findings as SARIF 2.1.0', () => {
  expect(sarif([finding], 'x')).toMatchObject({
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'pgshift', rules: [{ id: 'rename' }] } },
        results: [
          {
            ruleId: 'rename',
            level: 'error',
            locations: [{ physicalLocation: { region: { startLine: 6, startColumn: 3 } } }],
          },
        ],
      },
    ],
  });
});

test('an error: code, place, caret, value, help', () => {
  const problem = new Problem(
    'TransformMissing',
    'payment.reference: text to bigint is no assignment cast; rows need an expression',
    {
      where: {
        file: 'a.yaml',
        line: 6,
        column: 46,
        length: 4,
        text: '  ALTER TABLE payment ALTER COLUMN reference TYPE bigint;',
      },
      hint: 'add  transforms: { payment.reference: { up: "...", down: "..." } }',
    },
  );
  expect(renderProblem(problem, colors)).toBe(
    [
      'error[TransformMissing]: payment.reference: text to bigint is no assignment cast; rows need an expression',
      '  --> a.yaml:6:46',
      '   |   ALTER TABLE payment ALTER COLUMN reference TYPE bigint;',
      '   |                                              ^^^^',
      '  help: add  transforms: { payment.reference: { up: "...", down: "..." } }',
    ].join('\n'),
  );
  expect(problemJson(problem)).toEqual({
    error: {
      code: 'TransformMissing',
      message: problem.message,
      where: { file: 'a.yaml', line: 6, column: 46, path: null },
      value: null,
      hint: problem.hint,
      docs: 'docs/errors.md#transformmissing',
    },
  });
});

test('whoever wrote it, a URL with a password is not shown; a link is', () => {
  const text = redact('cannot reach postgres://u:pw@h/db or https://x:y@z, password=abc; see http://127.0.0.1:8233/a');
  expect(text).toBe('cannot reach (URL not shown) or (URL not shown) password=(not shown) see http://127.0.0.1:8233/a');
});

const report: ReportView = {
  id: 'migration/app/a',
  name: 'a',
  database: 'app',
  kind: 'schema-migration',
  mode: 'production',
  status: 'holding',
  phase: 'hold',
  step: null,
  attempt: 1,
  startedAt: '2026-11-21T07:00:00.000Z',
  updatedAt: '2026-11-21T07:01:00.000Z',
  endedAt: '2026-11-21T07:01:00.000Z',
  waitingFor: null,
  approvals: [
    { gate: 'contract', by: 'ann|x', at: '2026-11-21T07:00:30.000Z', verdict: 'approved', reason: null, via: 'cli' },
  ],
  lastError: null,
  wayBack: { possible: true, lossless: true, until: '2026-11-22T07:01:00.000Z', how: 'pgshift rollback a' },
  messages: [],
  steps: [
    {
      id: 'expand.1',
      status: 'done',
      startedAt: '2026-11-21T07:00:00.000Z',
      endedAt: '2026-11-21T07:00:00.040Z',
      attempts: 1,
      rows: 0,
      locks: [{ relation: 'public.payment', mode: 'ACCESS EXCLUSIVE', waitedMs: 1, heldMs: 12 }],
    },
  ],
  proof: [
    {
      table: 'public.payment',
      column: 'payment.amount',
      rows: 1000,
      remaining: 0,
      ranges: 2,
      fingerprintOld: '17',
      fingerprintNew: '17',
      equal: true,
      differing: 0,
    },
  ],
  longestLock: { relation: 'public.payment', mode: 'ACCESS EXCLUSIVE', waitedMs: 1, heldMs: 12, step: 'expand.1' },
  health: [],
  catalogDiff: { asked: ['column payment.amount: numeric(14,4)'], other: [] },
  measured: { walBytes: 2048, writer: { p99Ms: 4 } },
  live: true,
};

test('a report says the same as text, Markdown and HTML', () => {
  const pages = [renderReport(report, colors), renderMarkdown(report), renderHtml(report)];
  for (const page of pages)
    for (const part of [
      'a on app',
      'holding',
      'ACCESS EXCLUSIVE',
      '12 ms',
      'payment.amount',
      '1,000',
      'equal',
      'approved',
      '2.0 kB',
      '4 ms',
    ])
      expect(page).toContain(part);
  expect(pages[1]).toContain('ann\\|x');
  expect(renderHtml({ ...report, name: '<b>' })).toContain('&lt;b&gt; on app');
});

test('a status shows what it waits for and the line that lets it go on', () => {
  const waiting = {
    ...report,
    endedAt: null,
    status: 'waiting' as const,
    waitingFor: {
      type: 'gate' as const,
      gate: 'contract',
      since: '2026-11-21T07:00:30.000Z',
      until: null,
      reason: 'a person decides',
      evidence: {},
      commands: ['pgshift approve a --gate contract'],
    },
  };
  const text = renderStatus(waiting, null, null, colors);
  expect(text).toMatch(/waits for +gate contract since 2026-11-21 07:00:30 UTC: a person decides/);
  expect(text).toMatch(/type +pgshift approve a --gate contract/);
  expect(renderStatus({ ...waiting, live: false }, null, null, colors)).toContain('no worker answers');
});

test('tables line up whatever the colours and wrap long cells', () => {
  const red = pico.createColors(true).red('ab');
  expect(widthOf(red)).toBe(2);
  expect(
    table(
      [
        { title: 'a', max: 5 },
        { title: 'n', align: 'right' },
      ],
      [
        ['one two', '7'],
        [red, '10'],
      ],
      { indent: '' },
    ),
  ).toBe(`a     n\none   7\ntwo\n${red}   10`);
});

test('--set builds the update argument and refuses what cannot be tuned', () => {
  expect(tuning(['throttle.parallel=4', 'throttle.batch.max=2000', 'hold=48h'])).toEqual({
    throttle: { parallel: 4, batch: { max: 2000 } },
    hold: '48h',
  });
  for (const bad of ['mode=safe', 'hold', '=1', 'throttle..a=1', 'throttle.__proto__.a=1'])
    expect(() => tuning([bad])).toThrow(/--set takes key=value/);
});

test('the cause of a rollback is what is shown', () => {
  const failure = Object.assign(new Error('rows differ'), {
    name: 'ApplicationFailure',
    type: 'RolledBack',
    details: [{ cause: 'ProofFailed', hint: 'look' }],
  });
  expect(
    problemOfTemporal(Object.assign(new Error('x'), { name: 'WorkflowFailedError', cause: failure })),
  ).toMatchObject({
    code: 'ProofFailed',
    hint: 'look',
  });
});
