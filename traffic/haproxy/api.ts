/** The runtime API of one HAProxy: one command, one connection, one answer. Needs level admin on its stats socket. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { parseHostPort } from '../../plan/model/traffic';
import type { Deadline } from '../deadline';
import { failed } from '../deadline';

const MAX_ANSWER = 8 * 1024 * 1024;

/** One server of a backend. */
export interface ServerSeen {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Kept out of service by somebody (state maint). */
  readonly maint: boolean;
  /** Takes no new sessions (state drain). */
  readonly drain: boolean;
  /** Up, as far as its checks say. */
  readonly up: boolean;
  /** Sessions open to it now. */
  readonly sessions: number;
  /** What its last check said; '' = nothing, or it has none. */
  readonly lastCheck: string;
  /** As it is now, 0..256. */
  readonly weight: number;
}

/** Bits of srv_admin_state: forced and inherited maintenance, resolution; forced and inherited drain. 0x04 only says "as configured". */
const MAINT = 0x01 | 0x02 | 0x20;
const DRAIN = 0x08 | 0x10;

export class Runtime {
  constructor(readonly place: string) {}

  get name(): string {
    return `haproxy ${this.place}`;
  }

  /** The answer, without blank lines at its end. @throws Problem TrafficFailed when there is none by the deadline. */
  async ask(command: string, deadline: Deadline): Promise<string> {
    deadline.signal.throwIfAborted();
    const address = parseHostPort(this.place);
    let socket: Socket | null = null;
    const answer = new Promise<string>((resolve, reject) => {
      socket = address ? connect(address.port, address.host) : connect(this.place);
      let text = '';
      socket.setEncoding('utf8');
      socket.on('data', (piece: string) => {
        text += piece;
        if (text.length > MAX_ANSWER) socket?.destroy(new Error('too long'));
      });
      socket.on('end', () => resolve(text.trimEnd()));
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('closed')));
      socket.write(`${command}\n`);
    });
    try {
      return await deadline.race(
        answer.catch((error: NodeJS.ErrnoException) => {
          throw failed(this.name, `its runtime API does not answer (${error.code ?? error.message})`);
        }),
        () => {
          throw failed(this.name, 'its runtime API does not answer in time');
        },
      );
    } finally {
      (socket as Socket | null)?.destroy();
    }
  }

  /** A command that says nothing when it is done. @throws Problem TrafficFailed with what it said. */
  async tell(command: string, deadline: Deadline): Promise<void> {
    const said = await this.ask(command, deadline);
    if (said !== '' && !/^(no need to change|IP changed|addr changed|port changed)/i.test(said))
      throw failed(this.name, `"${command}" was refused: ${said.split('\n')[0]}`);
  }

  async info(deadline: Deadline): Promise<ReadonlyMap<string, string>> {
    const lines = (await this.ask('show info', deadline)).split('\n');
    return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
  }

  async servers(backend: string, deadline: Deadline): Promise<ServerSeen[]> {
    const states = await this.ask(`show servers state ${backend}`, deadline);
    const lines = states.split('\n');
    if (!lines[1]?.startsWith('# ')) throw failed(this.name, `knows no backend ${backend}`);
    const columns = lines[1].slice(2).split(' ');
    const stat = new Map(
      (await this.stat(deadline))
        .filter((row) => row.get('pxname') === backend)
        .map((row) => [row.get('svname') ?? '', row]),
    );
    return lines.slice(2).map((line) => {
      const values = line.split(' ');
      const get = (column: string): string => values[columns.indexOf(column)] ?? '';
      const admin = Number(get('srv_admin_state'));
      return {
        name: get('srv_name'),
        address: get('srv_addr'),
        port: Number(get('srv_port')),
        maint: (admin & MAINT) !== 0,
        drain: (admin & DRAIN) !== 0,
        up: Number(get('srv_op_state')) !== 0,
        sessions: Number(stat.get(get('srv_name'))?.get('scur') ?? NaN),
        lastCheck: stat.get(get('srv_name'))?.get('last_chk') ?? '',
        weight: Number(get('srv_uweight')),
      };
    });
  }

  /** Rows of `show stat` by column. */
  async stat(deadline: Deadline): Promise<ReadonlyMap<string, string>[]> {
    const [head = '', ...rows] = (await this.ask('show stat', deadline)).split('\n');
    const columns = head.replace(/^# /, '').split(',');
    return rows.map((row) => new Map(row.split(',').map((value, i) => [columns[i] ?? '', value])));
  }
}

/**
 * Raising a frontend's maxconn while clients wait ends the process in versions before these (haproxy#2726: a deadlock, and its own watchdog).
 */
export function mayHoldFrontend(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = (/^(\d+)\.(\d+)(?:\.(\d+))?/.exec(version) ?? []).slice(1).map(Number);
  const fixed: Readonly<Record<string, number>> = { '2.6': 20, '2.8': 12, '2.9': 12, '3.0': 6 };
  const since = fixed[`${major}.${minor}`];
  return since === undefined ? major > 3 || (major === 3 && minor >= 1) : patch >= since;
}
