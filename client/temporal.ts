/**
 * The typed client: everything pgshift says to Temporal, in the words of the contract. Each call has a deadline; a server that does not answer is
 * `Unreachable`, a worker that does not answer is an answer of its own (`null`), never a hang.
 */
import { Client, Connection, WorkflowIdConflictPolicy, WorkflowIdReusePolicy } from '@temporalio/client';
import type { ConnectionOptions, WorkflowExecutionDescription } from '@temporalio/client';
import { defineSearchAttributeKey } from '@temporalio/common';
import type { SearchAttributePair } from '@temporalio/common';
import { Problem } from '../plan/model/errors';
import type { Kind } from '../plan/model/plan';
import { createLines, missingSearchAttributes } from '../worker/searchAttributes';
import { isNoAnswer, isNotFound, isNotReady, problemOfTemporal, unreachable } from './temporalFailure';

const CONNECT_MS = 5_000;
const CALL_MS = 10_000;
/** A worker that is alive answers in some 30 ms; longer than this means that none is. */
const QUERY_MS = 2_500;
const UPDATE_MS = 15_000;
/** Temporal's limit is 400 bytes; its UI cuts earlier. */
const SUMMARY_BYTES = 200;

export interface TemporalSettings {
  readonly address: string;
  readonly namespace: string;
  readonly connectionOptions: ConnectionOptions | undefined;
  /** Where the Web UI listens, when that is known. */
  readonly uiUrl: string | null;
  readonly taskQueue: string;
}

/** A run as Temporal's visibility has it: known without any worker. */
export interface Seen {
  readonly id: string;
  readonly runId: string;
  readonly type: string;
  /** RUNNING, COMPLETED, FAILED, CANCELLED, TERMINATED, TIMED_OUT, ... */
  readonly execution: string;
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface StartRequest {
  readonly type: string;
  readonly id: string;
  readonly argument: unknown;
  readonly summary?: string;
  /** Who starts it: kept as memo `startedBy`, for gates that are not for the starter. */
  readonly by: string;
  readonly attributes: { readonly name: string; readonly database: string; readonly kind: Kind };
}

const clamp = (text: string, bytes: number): string => {
  let cut = text.replace(/\s+/g, ' ').trim();
  while (Buffer.byteLength(cut) > bytes) cut = cut.slice(0, -1);
  return cut;
};

const keyword = (name: string, value: string): SearchAttributePair =>
  ({ key: defineSearchAttributeKey(name, 'KEYWORD'), value }) as SearchAttributePair;

const STATUS_NAMES = [
  'UNSPECIFIED',
  'RUNNING',
  'COMPLETED',
  'FAILED',
  'CANCELLED',
  'TERMINATED',
  'CONTINUED_AS_NEW',
  'TIMED_OUT',
  'PAUSED',
];

interface Stamp {
  readonly seconds?: unknown;
  readonly nanos?: number | null;
}

const isoOf = (stamp: Stamp | null | undefined): string | null =>
  stamp ? new Date(Number(stamp.seconds ?? 0) * 1000 + Math.floor((stamp.nanos ?? 0) / 1e6)).toISOString() : null;

const decode = (data: Uint8Array | null | undefined): unknown => {
  try {
    return JSON.parse(Buffer.from(data ?? []).toString('utf8')) as unknown;
  } catch {
    return null; // an attribute of another tool, in an encoding of its own
  }
};

export class Temporal {
  private constructor(
    readonly settings: TemporalSettings,
    private readonly connection: Connection,
    private readonly client: Client,
  ) {}

  /** @throws Problem Unreachable, TlsFailed, LoginFailed. */
  static async connect(settings: TemporalSettings): Promise<Temporal> {
    try {
      const connection = await Connection.connect({ ...settings.connectionOptions, connectTimeout: CONNECT_MS });
      return new Temporal(settings, connection, new Client({ connection, namespace: settings.namespace }));
    } catch (error) {
      throw problemOfTemporal(error, settings.address) ?? unreachable(settings.address);
    }
  }

  close = (): Promise<void> => this.connection.close();

  #call<T>(milliseconds: number, work: () => Promise<T>): Promise<T> {
    return this.connection.withDeadline(Date.now() + milliseconds, work);
  }

  #fail(error: unknown): never {
    throw problemOfTemporal(error, this.settings.address) ?? error;
  }

  /** Conflict policy Fail, reuse AllowDuplicate: the name's row in the database is the guard. @returns the run's id. */
  async start({ type, id, argument, summary, by, attributes }: StartRequest): Promise<string> {
    try {
      const handle = await this.#call(CALL_MS, () =>
        this.client.workflow.start(type, {
          workflowId: id,
          taskQueue: this.settings.taskQueue,
          args: [argument],
          workflowIdConflictPolicy: WorkflowIdConflictPolicy.FAIL,
          workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
          memo: { startedBy: by },
          ...(summary === undefined ? {} : { staticSummary: clamp(summary, SUMMARY_BYTES) }),
          typedSearchAttributes: [
            keyword('MigrationName', attributes.name),
            keyword('MigrationDatabase', attributes.database),
            keyword('MigrationKind', attributes.kind),
            keyword('MigrationStatus', 'pending'),
          ],
        }),
      );
      return handle.firstExecutionRunId;
    } catch (error) {
      await this.#explainAttributes(error);
      const problem = problemOfTemporal(error, this.settings.address);
      if (problem?.code !== 'NameInUse') throw problem ?? error;
      throw new Problem('NameInUse', `${id} is running already`, { hint: `look at it: pgshift status ${id}` });
    }
  }

  /** A start with an attribute that the namespace does not know is refused: say what to type. */
  async #explainAttributes(error: unknown): Promise<void> {
    if (!/search attribute/i.test(error instanceof Error ? `${error.message} ${String(error.cause)}` : '')) return;
    const missing = await missingSearchAttributes(this.connection, this.settings.namespace).catch(() => []);
    if (missing.length === 0) return;
    throw new Problem(
      'InvalidConfig',
      `namespace ${this.settings.namespace} lacks search attributes: ${missing.join(', ')}`,
      {
        hint: `run:\n${createLines(missing, this.settings.namespace).join('\n')}`,
      },
    );
  }

  /** null: no such run. */
  async describe(id: string, runId?: string): Promise<Seen | null> {
    let found: WorkflowExecutionDescription;
    try {
      found = await this.#call(CALL_MS, () => this.client.workflow.getHandle(id, runId).describe());
    } catch (error) {
      if (isNotFound(error)) return null;
      return this.#fail(error);
    }
    const fields = found.raw.workflowExecutionInfo?.searchAttributes?.indexedFields ?? {};
    return {
      id: found.workflowId,
      runId: found.runId,
      type: found.type,
      execution: found.status.name,
      startedAt: found.startTime.toISOString(),
      endedAt: found.closeTime?.toISOString() ?? null,
      attributes: Object.fromEntries(Object.entries(fields).map(([name, payload]) => [name, decode(payload.data)])),
    };
  }

  /** `query` is a filter of Temporal's own; newest first. */
  async list(query: string, limit: number, after?: string): Promise<{ items: Seen[]; next: string | null }> {
    try {
      const answer = await this.#call(CALL_MS, () =>
        this.connection.workflowService.listWorkflowExecutions({
          namespace: this.settings.namespace,
          query,
          pageSize: limit,
          ...(after === undefined ? {} : { nextPageToken: Buffer.from(after, 'base64url') }),
        }),
      );
      const items = (answer.executions ?? []).map((info) => ({
        id: info.execution?.workflowId ?? '',
        runId: info.execution?.runId ?? '',
        type: info.type?.name ?? '',
        execution: STATUS_NAMES[info.status ?? 0] ?? 'UNKNOWN',
        startedAt: isoOf(info.startTime) ?? '',
        endedAt: isoOf(info.closeTime),
        attributes: Object.fromEntries(
          Object.entries(info.searchAttributes?.indexedFields ?? {}).map(([name, payload]) => [
            name,
            decode(payload.data),
          ]),
        ),
      }));
      const token = answer.nextPageToken;
      const next =
        token && token.length > 0 && items.length === limit ? Buffer.from(token).toString('base64url') : null;
      return { items, next };
    } catch (error) {
      await this.#explainAttributes(error);
      return this.#fail(error);
    }
  }

  /** null: no worker answers. @throws Problem NoSuchRun, Unreachable. */
  async query<T>(id: string, name: string, runId?: string): Promise<T | null> {
    try {
      return await this.#call(QUERY_MS, () => this.client.workflow.getHandle(id, runId).query<T>(name));
    } catch (error) {
      if (isNotFound(error)) return this.#fail(error);
      // A query that the worker refuses (an old run, a bundle without it) is as good as none: visibility still knows.
      if (isNoAnswer(error) || isNotReady(error) || (error instanceof Error && /Query/.test(error.name))) return null;
      return this.#fail(error);
    }
  }

  /** Sends an update and waits for its answer. What makes two messages one is the request id inside: Temporal's own would repeat the first answer. */
  async update<T>(id: string, name: string, argument: unknown): Promise<T> {
    try {
      return await this.#call(UPDATE_MS, () =>
        this.client.workflow.getHandle(id).executeUpdate<T, [unknown]>(name, { args: [argument] }),
      );
    } catch (error) {
      if (!isNoAnswer(error)) return this.#fail(error);
      throw new Problem('Unreachable', `no worker answers on task queue ${this.settings.taskQueue}`, {
        hint: `start one (pgshift worker), or leave the message as a signal, which waits for it: temporal workflow signal --workflow-id ${id} --name ${name} --input '${JSON.stringify(argument)}'`,
      });
    }
  }

  async cancel(id: string, reason: string | undefined): Promise<void> {
    try {
      await this.#call(CALL_MS, () =>
        this.connection.workflowService.requestCancelWorkflowExecution({
          namespace: this.settings.namespace,
          workflowExecution: { workflowId: id },
          reason: reason ?? '',
        }),
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The failure that ended a run, as a Problem; null when it did not fail. */
  async failure(id: string, runId?: string): Promise<Problem | null> {
    try {
      await this.#call(CALL_MS, () => this.client.workflow.getHandle(id, runId).result());
      return null;
    } catch (error) {
      return problemOfTemporal(error, this.settings.address);
    }
  }

  /** Does a worker poll our queue? Unknown counts as yes: a warning must not be a guess. */
  async hasWorker(): Promise<boolean> {
    try {
      const answer = await this.#call(CALL_MS, () =>
        this.connection.workflowService.describeTaskQueue({
          namespace: this.settings.namespace,
          taskQueue: { name: this.settings.taskQueue },
          taskQueueType: 1,
        }),
      );
      const fresh = Date.now() - 90_000;
      return (answer.pollers ?? []).some((poller) => Date.parse(isoOf(poller.lastAccessTime) ?? '') > fresh);
    } catch {
      return true;
    }
  }

  /** Link of a run in the Web UI. */
  url(id: string): string | null {
    const { uiUrl, namespace } = this.settings;
    return uiUrl === null
      ? null
      : `${uiUrl.replace(/\/$/, '')}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(id)}`;
  }
}
