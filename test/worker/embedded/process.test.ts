/** A process is gone only when nothing of it holds a port any more. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { markOf } from '../../../worker/embedded/process';

/** Its first thread ends at once, and a second one keeps the port for a second more: what a killed worker looks like on a busy machine. */
const LEADER_GONE = `
import ctypes, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(1.5,)).start()
ctypes.CDLL(None).pthread_exit(None)
`;

const stateOf = (pid: number): string => {
  const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
  return stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '';
};

(process.platform === 'linux' ? test : test.skip)('a zombie is gone, but not while threads of it live', async () => {
  const child = spawn('python3', ['-c', LEADER_GONE], { stdio: 'ignore' });
  const pid = child.pid ?? 0;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  while (stateOf(pid) !== 'Z') await sleep(10);
  expect(markOf(pid)).not.toBeNull();
  await ended;
  expect(markOf(pid)).toBeNull();
});
