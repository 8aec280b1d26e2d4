/**
 * `pgshift.config.yaml` as it is written: strict, every refusal with line and column. Values stay as typed (`env:NAME`, `file:PATH`);
 * they are secrets, so no message and no place of an error ever shows one.
 */
import { readFileSync } from 'node:fs';
import { LineCounter, isMap, isNode, isScalar, isSeq, parseDocument } from 'yaml';
import type { Document } from 'yaml';
import { z } from 'zod';
import { Problem } from '../plan/model/errors';
import type { Where } from '../plan/model/errors';
import { connectionName, schemaMigrationSchema } from '../plan/model/plan';
import { CONNECTION_NAME } from '../plan/model/values';

/** A literal, `env:NAME` or `file:PATH`. */
const value = z.string().min(1);

const database = z.strictObject({
  url: value.optional(),
  peerUrl: value.optional(),
  directUrl: value.optional(),
  environment: value.optional(),
  replicas: z.array(connectionName).default([]),
  applicationRoles: z.array(z.string().min(1)).default([]),
  poolMax: z.int().positive().optional(),
});
export type DatabaseEntry = z.output<typeof database>;

/** Keys of a plan that an environment may give defaults for: how to run, never what to change. */
const DEFAULTABLE = [
  ...['labels', 'mode', 'onFailure', 'backup', 'gates', 'window', 'throttle', 'lockTimeout', 'lockBudget'],
  ...['health', 'hold', 'hooks', 'timeout'],
];
// Checked, then kept as typed: filling in defaults here would overrule what a plan leaves to its own.
const planDefaults = z.record(z.string(), z.unknown()).superRefine((entries, context) => {
  const unknown = Object.keys(entries).filter((key) => !DEFAULTABLE.includes(key));
  if (unknown.length > 0) context.addIssue({ code: 'unrecognized_keys', keys: unknown, input: entries });
  for (const [key, given] of Object.entries(entries)) {
    if (!DEFAULTABLE.includes(key)) continue;
    const shape: Record<string, z.ZodType> = schemaMigrationSchema.shape;
    for (const issue of shape[key]?.safeParse(given).error?.issues ?? []) {
      context.addIssue({ code: 'custom', message: issue.message, path: [key, ...issue.path] });
    }
  }
});

const fileSchema = z.strictObject({
  databases: z
    .record(z.string().regex(CONNECTION_NAME, { error: 'a connection name is [a-z][a-z0-9_]*' }), z.unknown())
    .default({}),
  prometheus: z.strictObject({ url: value }).optional(),
  defaults: z.record(z.string(), planDefaults).default({}),
  control: connectionName.optional(),
});

export interface ConfigFile {
  readonly path: string | null;
  readonly databases: Readonly<Record<string, DatabaseEntry>>;
  readonly prometheusUrl: string | null;
  /** Environment -> plan keys as typed. */
  readonly defaults: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly control: string | null;
  /** The place of a key, for a refusal that is found later. */
  readonly where: (path: readonly PropertyKey[]) => Where;
}

export const NO_CONFIG_FILE: ConfigFile = {
  path: null,
  databases: {},
  prometheusUrl: null,
  defaults: {},
  control: null,
  where: () => ({}),
};

/** Throws NoSuchFile, or InvalidConfig with the place. */
export function readConfigFile(path: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    throw new Problem('NoSuchFile', 'the configuration file cannot be read', { value: path });
  }
  const lines = new LineCounter();
  // prettyErrors would put the source line, and so perhaps a password, into the message.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, strict: true });
  const place = (offset: number): Where => {
    const { line, col } = lines.linePos(offset);
    return { file: path, line, column: col };
  };
  const broken = document.errors[0];
  if (broken) {
    throw new Problem('InvalidConfig', `not YAML: ${broken.code.toLowerCase().replaceAll('_', ' ')}`, {
      where: place(broken.pos[0]),
    });
  }
  const where = (at: readonly PropertyKey[], key = false): Where => {
    const offset = offsetOf(document, at, key);
    return { ...(offset === null ? { file: path } : place(offset)), path: at.map(String).join('.') };
  };
  const check = <T>(schema: z.ZodType<T>, given: unknown, at: readonly PropertyKey[]): T => {
    const parsed = schema.safeParse(given);
    if (parsed.success) return parsed.data;
    throw refusal(parsed.error.issues, at, where);
  };

  const top = check(fileSchema, document.toJS() ?? {}, []);
  const databases: Record<string, DatabaseEntry> = {};
  for (const [name, entry] of Object.entries(top.databases)) {
    const given = typeof entry === 'string' ? { url: entry } : entry;
    databases[name] = check(database, given, ['databases', name]);
  }
  const { control = null, defaults } = top;
  return { path, databases, prometheusUrl: top.prometheus?.url ?? null, defaults, control, where };
}

function refusal(
  issues: readonly z.core.$ZodIssue[],
  at: readonly PropertyKey[],
  where: (path: readonly PropertyKey[], key?: boolean) => Where,
): Problem {
  const issue = issues[0];
  if (!issue) return new Problem('InvalidConfig', 'the configuration is not valid');
  const path = [...at, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    return new Problem('InvalidConfig', `unknown key ${[...path, key].map(String).join('.')}`, {
      where: where([...path, key], true),
      hint: 'see the configuration in docs; a key that is not known is refused, never ignored',
    });
  }
  const inKey = issue.code === 'invalid_key';
  const message = inKey ? (issue.issues[0]?.message ?? issue.message) : issue.message;
  return new Problem('InvalidConfig', `${path.map(String).join('.') || 'the file'}: ${message}`, {
    where: where(path, inKey),
  });
}

/** Offset of the value at `path` (or of its key); of the nearest thing around it when it is not there. */
function offsetOf(document: Document, path: readonly PropertyKey[], key: boolean): number | null {
  for (let length = path.length; length >= 0; length -= 1) {
    const parent = length === 0 ? null : document.getIn(path.slice(0, length - 1), true);
    if (key && length === path.length && isMap(parent)) {
      const pair = parent.items.find(
        (item) => isScalar(item.key) && String(item.key.value) === String(path[length - 1]),
      );
      if (pair && isNode(pair.key) && pair.key.range) return pair.key.range[0];
    }
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if ((isScalar(node) || isMap(node) || isSeq(node)) && node.range) return node.range[0];
  }
  return null;
}
