/**
 * The whole kill matrix: every crash point of every step, there and back; then random moments, a frozen attempt, two workers, and the deaths
 * of Temporal and of Postgres. Each case starts from the same database and must end like an undisturbed run, by every row and every row of the catalogue.
 * The result is written to test/chaos/RESULT.md; PGSHIFT_CHAOS_ONLY=regexp runs a part of it (and writes nothing).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Step } from '../../plan/model/steps';
import { lanesOr, runCases, writeResults } from '../support/chaosRun';
import type { Case, CaseResult } from '../support/chaosRun';
import { endState, rowsOf, startScenario } from '../support/killRun';
import type { EndState, Kill, ScenarioRun } from '../support/killRun';
import { killsOf, seed, seeded, storedSteps, undoKillsOf } from '../support/kills';
import { freshDatabase } from '../support/database';
import { startOwnServers } from '../support/ownServers';
import { spine } from '../support/scenarios';

const scenario = spine(6_000);
const RANDOM_COLUMNS = ['token'];
const LANES = lanesOr(4);

function same(what: string, got: readonly string[], want: readonly string[]): void {
  const missing = want.filter((line) => !got.includes(line)).slice(0, 3);
  const extra = got.filter((line) => !want.includes(line)).slice(0, 3);
  if (missing.length + extra.length > 0 || got.length !== want.length)
    throw new Error(`${what} differ: missing ${JSON.stringify(missing)} extra ${JSON.stringify(extra)}`);
}

function sameEnd(got: EndState, want: EndState): void {
  same('catalogues', got.catalog, want.catalog);
  same('rows', got.rows, want.rows);
}

describe('the kill matrix', () => {
  const number = seed();
  const random = seeded(number);
  const results: CaseResult[] = [];
  let steps: readonly Step[];
  let before: EndState;
  let after: EndState;
  let milliseconds: number;

  beforeAll(async () => {
    const untouched = await freshDatabase(18, scenario.setup);
    before = await endState(untouched, scenario.tables);
    await untouched.drop();
    const run = await startScenario(scenario, { plan: { hold: '0s' } });
    const began = Date.now();
    await run.supervise([], run.result());
    milliseconds = Date.now() - began;
    steps = await storedSteps(run.database);
    after = await run.end(scenario.tables, RANDOM_COLUMNS);
    await run.close();
  });

  const withRun = async (options: Parameters<typeof startScenario>[1], body: (run: ScenarioRun) => Promise<void>) => {
    const run = await startScenario(scenario, options);
    try {
      await body(run);
    } finally {
      await run.close();
    }
  };

  const there = (kill: Kill): Case => ({
    name: `there: ${kill}`,
    run: () =>
      withRun({ plan: { hold: '0s' } }, async (run) => {
        await run.supervise([kill], run.result());
        sameEnd(await run.end(scenario.tables, RANDOM_COLUMNS), after);
      }),
  });

  const rolledBack = (run: ScenarioRun): Promise<void> =>
    run.result().then(
      () => Promise.reject(new Error('the run completed instead of being rolled back')),
      (error: { cause?: { type?: string }; message?: string }) => {
        if (error.cause?.type !== 'RolledBack') throw new Error(`ended as ${error.cause?.type ?? error.message}`);
      },
    );

  const back = (kill: Kill): Case => ({
    name: `back: ${kill}`,
    run: () =>
      withRun({}, async (run) => {
        const first = run.worker();
        await run.until('hold', (status) => status.status === 'holding');
        await first.stop();
        await run.handle.signal('rollback', { by: 'chaos' });
        await run.supervise([kill], rolledBack(run));
        sameEnd(await run.end(scenario.tables), before);
      }),
  });

  it('every crash point of every step, on the way there', async () => {
    const kills = ['claim.before', 'claim.after', ...steps.flatMap(killsOf), 'finish.before'];
    results.push(...(await runCases(kills.map(there), LANES)));
    expect(results.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it('every crash point of every step, on the way back', async () => {
    const kills = steps.filter((step) => step.phase !== 'cleanup').flatMap(undoKillsOf);
    const here = await runCases(kills.map(back), LANES);
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it('20 random moments', async () => {
    const moments = Array.from({ length: 20 }, () => Math.round(random() * milliseconds));
    const cases = moments.map((at): Case => ({
      name: `random moment: ${at} ms`,
      run: () =>
        withRun({ plan: { hold: '0s' } }, async (run) => {
          const victim = run.worker();
          await Promise.race([sleep(at), run.result()]);
          victim.signal('SIGKILL');
          await victim.exited;
          await run.supervise([], run.result());
          sameEnd(await run.end(scenario.tables, RANDOM_COLUMNS), after);
        }),
    }));
    const here = await runCases(cases, LANES);
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it('an attempt frozen past its heartbeat, its successor run, then thawed', async () => {
    const moments = Array.from({ length: 6 }, () => Math.round((0.15 + 0.7 * random()) * milliseconds));
    const cases = moments.map((at): Case => ({
      name: `frozen at ${at} ms, thawed after its successor`,
      run: () =>
        withRun({ plan: { hold: '0s' } }, async (run) => {
          const frozen = run.worker();
          await sleep(at + 1_000);
          frozen.signal('SIGSTOP');
          const successor = run.worker();
          const done = run.result();
          await Promise.race([done, sleep(20_000, undefined, { ref: false })]);
          frozen.signal('SIGCONT');
          await done;
          await sleep(1_000);
          await successor.stop();
          sameEnd(await run.end(scenario.tables, RANDOM_COLUMNS), after);
        }),
    }));
    const here = await runCases(cases, 2);
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it('two workers at once, one killed again and again', async () => {
    const here = await runCases(
      [
        {
          name: 'two workers, one killed every second',
          run: () =>
            withRun({ plan: { hold: '0s' } }, async (run) => {
              const steady = run.worker();
              const done = run.result();
              let over = false;
              void done.then(() => (over = true)).catch(() => (over = true));
              for (let n = 0; n < 30 && !over; n++) {
                const victim = run.worker();
                await Promise.race([done, sleep(1_500 + random() * 1_500)]);
                victim.signal('SIGKILL');
                await victim.exited;
              }
              await done;
              await steady.stop();
              sameEnd(await run.end(scenario.tables, RANDOM_COLUMNS), after);
            }),
        },
      ],
      1,
    );
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it('Temporal and Postgres die at random moments', async () => {
    const cases = (['temporal', 'postgres'] as const).flatMap((victim) =>
      Array.from({ length: 5 }, (): Case => {
        const at = Math.round(random() * milliseconds) + 500;
        return {
          name: `${victim} killed at ${at} ms`,
          run: async () => {
            const home = mkdtempSync(join(tmpdir(), 'pgshift-chaos-'));
            const servers = await startOwnServers(home);
            try {
              const database = await servers.database(scenario.setup);
              await withRun(
                { plan: { hold: '0s' }, database, temporalAddress: servers.temporalAddress },
                async (run) => {
                  const worker = run.worker();
                  await sleep(at);
                  await servers.kill(victim);
                  await servers.start(victim);
                  await Promise.race([
                    run.result(),
                    sleep(120_000, undefined, { ref: false }).then(() =>
                      Promise.reject(new Error('not over after 120 s')),
                    ),
                  ]);
                  await worker.stop();
                  sameEnd(await run.end(scenario.tables, RANDOM_COLUMNS), after);
                },
              );
            } finally {
              await servers.stop();
              rmSync(home, { recursive: true, force: true });
            }
          },
        };
      }),
    );
    const here = await runCases(cases, 2);
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it('writers go on while the change is killed and taken back: no acknowledged write is lost', async () => {
    const here = await runCases(
      [
        {
          name: 'writers during kills, there and back',
          run: () =>
            withRun({}, async (run) => {
              const writer = await run.database.client();
              let writing = true;
              const acknowledged = new Map<number, string>();
              const loop = (async () => {
                for (let n = 1; writing; n++) {
                  const id = 1 + ((n * 7919) % 6_000);
                  const note = `w${n}`;
                  try {
                    await writer.query(`UPDATE payment SET note = $1, amount = amount + 0.01 WHERE payment_id = $2`, [
                      note,
                      id,
                    ]);
                    acknowledged.set(id, note);
                  } catch (error) {
                    if (!/cached plan/.test(String(error))) throw error;
                  }
                  await sleep(2);
                }
              })();
              const kills = [
                'batch.after-commit@backfill.1:2',
                'transaction.before-commit@contract.1',
                'transaction.after-commit@contract.1',
              ];
              await run.supervise(
                kills,
                run.until('hold', (status) => status.status === 'holding', 120_000),
              );
              await run.handle.signal('rollback', { by: 'chaos' });
              await run.supervise(['undo.after@contract.1'], rolledBack(run));
              writing = false;
              await loop;
              const lines = await rowsOf(run.database, 'payment');
              const notes = new Map(
                lines.map((line) => {
                  const row = JSON.parse(line.slice(8)) as { payment_id: number; note: string };
                  return [row.payment_id, row.note];
                }),
              );
              for (const [id, note] of acknowledged)
                if (notes.get(id) !== note) throw new Error(`write ${note} of payment ${id} is lost: ${notes.get(id)}`);
              same('catalogues', (await run.end([])).catalog, before.catalog);
            }),
        },
      ],
      1,
    );
    results.push(...here);
    expect(here.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  afterAll(() => writeResults('RESULT.md', 'kill matrix', number, results));
});
