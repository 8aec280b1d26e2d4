/**
 * A backend of HAProxy for reads that may be a little old, whose servers have weights: a share of new sessions for clients without the router library. Keeps
 * true: weights follow the rows of `pgshift.routes`, whoever sets them looks at the rows again afterwards; HAProxy asks green by itself whether
 * it is near (readsCheck.ts), so that reads come home when nobody says so any more; a weight of 0 ends the sessions that are open there.
 */
import { isProblem } from '../../plan/model/errors';
import { LEAST_PERCENT, NEAR, noticesMs, readsRoute, readsSides, weightsFor } from '../../plan/model/readsCheck';
import type { Weights } from '../../plan/model/readsCheck';
import type { HaproxyReadsPlan, Side } from '../../plan/model/traffic';
import { SIDES } from '../../plan/model/traffic';
import type { RouteRow } from '../../postgres/state/routes';
import { Deadline, failed } from '../deadline';
import { RouteRows } from '../router/rows';
import { changeShare } from '../router/share';
import type { ShareAsked, ShareHeard, TrafficDeps, TrafficFinding } from '../types';
import type { Runtime, ServerSeen } from './api';

const LAST_LOOK_MS = 500;

export class HaproxyReads {
  readonly #rows: RouteRows;
  /** What the rows call the two sides. */
  readonly #sides: HaproxyReadsPlan['servers'];
  readonly #noticesMs: number;
  readonly #name: string;

  constructor(
    private readonly plan: HaproxyReadsPlan,
    private readonly runtimes: readonly Runtime[],
    private readonly deps: Pick<TrafficDeps, 'sides' | 'log'>,
  ) {
    this.#sides = readsSides(plan);
    this.#rows = new RouteRows(readsRoute(plan.backend), deps.sides, this.#sides.blue);
    this.#noticesMs = noticesMs(plan);
    this.#name = `haproxy ${plan.backend}`;
  }

  /**
   * Looks, changes nothing.
   * @param target where the writes go.
   */
  async check(target: Side | null, deadline: Deadline): Promise<TrafficFinding[]> {
    const { backend, servers } = this.plan;
    const { row } = await this.#rows.read(deadline);
    const nobodySays = row.side !== this.#sides.green && (row.share?.freshMs ?? 0) <= 0;
    const found: TrafficFinding[] = [];
    const add = (check: string, message: string, remedy: string) =>
      found.push({ check: `haproxy.${check}`, level: 'error', message, remedy });
    if (target !== null && row.side !== this.#sides[target])
      add(
        'reads_route',
        `pgshift.routes has the reads of backend ${backend} at server ${row.side}, the writes are at ${target}, which is ${servers[target]} there`,
        `call the servers as they were called before; or, when their names have another meaning now:  DELETE FROM pgshift.routes WHERE route = '${readsRoute(backend)}'  in both databases`,
      );
    for (const runtime of this.runtimes) {
      try {
        const seen = await this.#see(runtime, deadline);
        if (row.side !== this.#sides.green && !seen.blue.up)
          add('reads', `${runtime.name}: blue is down for reads`, `look at backend ${backend}`);
        if (seen.green.maint || seen.green.drain)
          add('reads', `${runtime.name}: green is kept out of service for reads`, `take that from backend ${backend}`);
        else if (nobodySays) {
          const wrong = await this.#asks(runtime, deadline);
          if (wrong !== null) add('reads_check', `${runtime.name}: ${wrong}`, this.#lookRemedy());
        }
      } catch (error) {
        add('reads', (error as Error).message, `look at backend ${backend}`);
      }
    }
    return found;
  }

  #lookRemedy(): string {
    const { backend, check } = this.plan;
    return `write the lines that pgshift plan shows into backend ${backend}; green lets role ${check.user} into database ${check.database} from there without a password (trust in pg_hba.conf)`;
  }

  /** While nobody says that green is near HAProxy has asked, and green has said so: down for any other reason proves nothing. null = so it is. */
  async #asks(runtime: Runtime, deadline: Deadline): Promise<string | null> {
    const mayTakeMs = Math.min(Math.max(1_000, 2 * this.#noticesMs), deadline.leftMs - LAST_LOOK_MS);
    const soon = performance.now() + mayTakeMs;
    let last = '';
    const asked = await deadline.poll(async () => {
      const { green } = await this.#see(runtime, deadline);
      if (!green.up && green.lastCheck.includes(NEAR)) return true;
      last = green.up
        ? 'green is up for reads although nobody said that it is near: nothing would send reads home if pgshift died'
        : `green does not answer what HAProxy asks it (${green.lastCheck || 'it was not asked'}): no read would ever go there`;
      return performance.now() > soon ? false : null;
    }, 50);
    return asked === true ? null : last;
  }

  async share(asked: ShareAsked, token: number | null, deadline: Deadline): Promise<ShareHeard> {
    const percent = asked.share === null ? 0 : asked.share.percent;
    if (asked.share?.moves === 'reads' && weightsFor(percent) === null)
      throw failed(this.#name, `${percent} percent are less than a weight can say (${LEAST_PERCENT})`);
    await changeShare(this.#rows, asked, this.#sides.green, token, deadline);
    // Home is where the row says: who cannot be told a weight still asks green, and must not keep everybody else from going on.
    await (asked.share === null ? this.#tryToFollow(deadline) : this.#follow(deadline));
    const { row } = await this.#rows.read(deadline);
    return { alive: this.runtimes.length, heard: await this.#heard(row, deadline) };
  }

  /** Those that send reads as asked: the weight alone is nothing while HAProxy keeps green out. */
  async #heard(row: RouteRow, deadline: Deadline): Promise<number> {
    const { green } = this.#wantedBy(row);
    const expects = row.side !== this.#sides.green && green > 0;
    const look = async (): Promise<number> => {
      const seen = await Promise.allSettled(this.runtimes.map((one) => this.#see(one, deadline)));
      return seen.filter(
        (one) => one.status === 'fulfilled' && one.value.green.weight === green && (!expects || one.value.green.up),
      ).length;
    };
    let heard = await look();
    // The last look ends before the deadline does: that not everybody has heard is an answer.
    while (heard < this.runtimes.length && deadline.leftMs > LAST_LOOK_MS) {
      await deadline.wait(50);
      heard = await look();
    }
    return heard;
  }

  /** Also mends what a reload of HAProxy has forgotten. */
  async keepFresh(ms: number, deadline: Deadline): Promise<void> {
    await this.#rows.keepFresh(ms - this.#noticesMs, deadline);
    // One that hangs must not make the next word come too late for all the others.
    const { signal, leftMs } = deadline;
    await this.#tryToFollow(new Deadline({ deadlineMs: Math.min(leftMs, ms / 4), signal }));
  }

  /** Whoever does not answer serves its clients by what it knows, and asks green by itself. */
  async #tryToFollow(deadline: Deadline): Promise<void> {
    try {
      await this.#follow(deadline);
    } catch (error) {
      if (!isProblem(error) || error.code !== 'TrafficFailed') throw error;
      this.deps.log('warn', error.message);
    }
  }

  /** All reads to the side that takes the writes: after the switch, and on every way back. */
  async lead(side: Side, token: number | null, deadline: Deadline): Promise<void> {
    await this.#rows.change((row) => ({ ...row, side: this.#sides[side] }), [side], token, deadline);
    await this.#follow(deadline);
  }

  /** Weights as the rows have them. Whoever was overtaken between its look and its setting sees it, and sets again. */
  async #follow(deadline: Deadline): Promise<void> {
    for (;;) {
      const { row } = await this.#rows.read(deadline);
      await this.#all((runtime) => this.#set(runtime, this.#wantedBy(row), deadline));
      const after = await this.#rows.read(deadline);
      if (after.row.epoch === row.epoch) return;
    }
  }

  /** First the one that grows: at no moment has nobody a weight. */
  async #set(runtime: Runtime, wanted: Weights, deadline: Deadline): Promise<void> {
    const seen = await this.#see(runtime, deadline);
    const grows = [...SIDES].sort((a, b) => wanted[b] - seen[b].weight - (wanted[a] - seen[a].weight));
    for (const side of grows)
      if (seen[side].weight !== wanted[side])
        await runtime.tell(`set server ${this.#server(side)} weight ${wanted[side]}`, deadline);
    const rest = SIDES.filter((side) => wanted[side] === 0);
    if (rest.length === 0) return;
    // Looked at again: nobody comes any more, but somebody may have come just before.
    const after = await this.#see(runtime, deadline);
    for (const side of rest)
      if (after[side].sessions > 0) await runtime.tell(`shutdown sessions server ${this.#server(side)}`, deadline);
  }

  /** Everybody where the writes are, but for a share of reads. What cannot be said is nobody. */
  #wantedBy({ side, share }: RouteRow): Weights {
    if (side === this.#sides.green) return { blue: 0, green: 100 };
    const percent = share?.moves === 'reads' ? share.percent : 0;
    return weightsFor(percent) ?? { blue: 100, green: 0 };
  }

  #server(side: Side): string {
    return `${this.plan.backend}/${this.plan.servers[side]}`;
  }

  async #see(runtime: Runtime, deadline: Deadline): Promise<Readonly<Record<Side, ServerSeen>>> {
    const all = await runtime.servers(this.plan.backend, deadline);
    const of = (side: Side): ServerSeen => {
      const found = all.find(({ name }) => name === this.plan.servers[side]);
      if (!found) throw failed(this.#name, `${runtime.name}: the backend has no server ${this.plan.servers[side]}`);
      return found;
    };
    return { blue: of('blue'), green: of('green') };
  }

  /** Never throws before every HAProxy was tried. */
  async #all(work: (runtime: Runtime) => Promise<void>): Promise<void> {
    const done = await Promise.allSettled(this.runtimes.map(work));
    const bad = done.find((one) => one.status === 'rejected');
    if (bad) throw bad.reason;
  }

  close(): Promise<void> {
    return this.#rows.close();
  }
}
