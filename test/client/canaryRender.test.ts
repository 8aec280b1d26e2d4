/** What people see of a canary: its road before it starts, and its stages in every form of the report. */
import { resolve } from 'node:path';
import pico from 'picocolors';
import type { StageReport } from '../../plan/model/canary';
import { roadOf } from '../../plan/model/road';
import { openers } from '../../client/gates';
import { loadStartable } from '../../client/planFile';
import { renderHtml } from '../../client/render/reportHtml';
import { renderMarkdown } from '../../client/render/reportMarkdown';
import type { ReportView } from '../../client/render/report';
import { renderReport } from '../../client/render/report';
import { renderRoad } from '../../client/render/road';

const colors = pico.createColors(false);
const file = resolve(__dirname, '../../examples/07_shop_few_at_a_time.yaml');

test('the road names each stage, what judges it and where its gate is', () => {
  const startable = loadStartable(file);
  if (!('pair' in startable)) throw new Error('not a pair');
  const { plan } = startable.pair;
  const text = renderRoad({ road: roadOf(plan), file, gates: openers(plan) }, colors);
  for (const part of [
    /alpha .*5 % for 2h/,
    /judged by payments_there/,
    /its gate/,
    /production .*writes too/,
    /one switch/,
  ])
    expect(text).toMatch(part);
});

const stage = (name: string, percent: number, more: Partial<StageReport> = {}): StageReport => ({
  ...{ name, percent, verdict: 'passed', metrics: [], keys: 0, startedAt: '2026-11-21T07:00:00.000Z' },
  ...{ endedAt: '2026-11-21T08:00:00.000Z', routers: { alive: 2, heard: 2 }, skipped: false },
  ...more,
});
const report: ReportView = {
  ...{ id: 'migration/app/a', name: 'a', database: 'app', kind: 'canary', mode: 'production', status: 'rolled_back' },
  ...{ phase: 'decommission_green', step: null, attempt: 0, startedAt: '2026-11-21T07:00:00.000Z' },
  ...{ updatedAt: '2026-11-21T09:00:00.000Z', endedAt: '2026-11-21T09:00:00.000Z', waitingFor: null, approvals: [] },
  ...{
    lastError: null,
    wayBack: { possible: false, lossless: true, until: null, how: 'nothing is left' },
    messages: [],
  },
  ...{
    steps: [],
    proof: [],
    longestLock: null,
    health: [],
    catalogDiff: { asked: [], other: [] },
    measured: {},
    live: true,
  },
  stages: [
    stage('internal', 0),
    stage('alpha', 5, {
      verdict: 'failed',
      metrics: [
        {
          ...{ name: 'errors', verdict: 'failed', value: 0.5, baseline: 0.01, readings: 7, failures: 1 },
          at: '2026-11-21T09:00:00.000Z',
          points: [
            [1, 0.01],
            [2, 0.5],
          ],
        },
      ],
    }),
  ],
};

test('each form of the report says which stage failed by which metric; HTML draws it', () => {
  for (const page of [renderReport(report, colors), renderMarkdown(report), renderHtml(report)])
    for (const part of ['Stages', 'internal', 'alpha', '5 %', 'failed', 'errors', '0.5', '0.01', '1 of 7'])
      expect(page).toContain(part);
  const page = renderHtml(report);
  expect(page).toMatch(/<figcaption>alpha: errors .*<polyline points="0.0,\S+ 560.0,0.0" class="bad"/);
  expect(page).toContain('alpha: errors (0 to 0.5, 00:00:01 to 00:00:02 UTC, baseline 0.01, failed)');
  expect(page.match(/<svg/g)).toHaveLength(1);
  // Read once is a dot; never read is no chart.
  const [metric] = report.stages?.[1]?.metrics ?? [];
  if (!metric) throw new Error('no metric');
  const few = (points: typeof metric.points) =>
    renderHtml({ ...report, stages: [stage('a<b', 5, { metrics: [{ ...metric, verdict: 'passed', points }] })] });
  expect(few([[1, 0.01]])).toContain('<circle cx="0.0" cy="0.0" r="3"/>');
  expect(few([[1, 0.01]])).toContain('a&lt;b: errors');
  expect(few([])).not.toContain('<svg');
  expect(renderHtml({ ...report, stages: [stage('internal', 0)] })).not.toContain('<polyline');
});
