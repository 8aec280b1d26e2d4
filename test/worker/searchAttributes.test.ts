import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { Connection } from '@temporalio/client';
import { checkSearchAttributes, SEARCH_ATTRIBUTES } from '../../worker/searchAttributes';
import { temporalAddress } from '../support/temporal';

const run = promisify(execFile);

it('says the exact lines that create what is missing, and they do', async () => {
  const connection = await Connection.connect({ address: temporalAddress() });
  const namespace = `n-${randomBytes(4).toString('hex')}`;
  try {
    await expect(checkSearchAttributes(connection, 'default')).resolves.toBeUndefined();
    await connection.workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: { seconds: 86_400 as unknown as Long },
    });
    // A new namespace is seen after the server's next look.
    const failure = await eventually(async () => {
      const found = await checkSearchAttributes(connection, namespace).then(
        () => null,
        (error: unknown) => error,
      );
      return found as { code: string; hint: string; details: { commands: string[] } } | null;
    });
    expect(failure.code).toBe('InvalidConfig');
    const { commands } = failure.details;
    expect(commands).toHaveLength(Object.keys(SEARCH_ATTRIBUTES).length);
    expect(commands).toContain(
      `temporal operator search-attribute create --namespace ${namespace} --name NeedsApproval --type Bool`,
    );
    expect(failure.hint).toContain(commands.join('\n'));

    const cli = process.env.PGSHIFT_TEST_TEMPORAL_CLI;
    if (!cli) return; // the server is somebody else's
    for (const command of commands) {
      const [, ...args] = command.split(' ');
      await run(cli, args, { env: { ...process.env, TEMPORAL_ADDRESS: temporalAddress() } });
    }
    await expect(checkSearchAttributes(connection, namespace)).resolves.toBeUndefined();
  } finally {
    await connection.close();
  }
});

type Long = NonNullable<
  NonNullable<
    Parameters<Connection['workflowService']['registerNamespace']>[0]['workflowExecutionRetentionPeriod']
  >['seconds']
>;

async function eventually<T extends { code?: unknown }>(read: () => Promise<T | null>): Promise<T> {
  for (const until = Date.now() + 20_000; ; await new Promise((done) => setTimeout(done, 200))) {
    const found = await read();
    if (typeof found?.code === 'string') return found;
    if (Date.now() > until) throw new Error('not in time');
  }
}
