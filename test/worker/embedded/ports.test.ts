import { anyFreePort, choosePort } from '../../../worker/embedded/ports';

test('two that choose at the same moment never choose the same port, although nobody listens yet', async () => {
  const wanted = await anyFreePort();
  const [a, b] = await Promise.all([choosePort('a', wanted, false), choosePort('b', wanted, false)]);
  expect(a.port).not.toBe(b.port);
  await expect(choosePort('c', wanted, true)).rejects.toMatchObject({ code: 'PortInUse' });
  a.release();
  b.release();
  const again = await choosePort('c', wanted, true);
  expect(again.port).toBe(wanted);
  again.release();
});
