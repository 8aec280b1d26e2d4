/**
 * `dev.json` in PGSHIFT_HOME: what a `pgshift dev` runs, with its ports for the next one and its processes' pids and start times. It
 * holds a database's URL, so it is readable by its owner alone, and it is replaced by a rename: nobody reads half of it.
 */
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { isAlive } from './embedded/process';
import type { ProcessMark } from './embedded/process';

const CHILDREN = ['dev', 'temporal', 'postgres', 'worker'] as const;
export type DevChild = (typeof CHILDREN)[number];

const schema = z.object({
  home: z.string(),
  /** null = not up yet. */
  temporalAddress: z.string().nullable(),
  uiUrl: z.string().nullable(),
  apiUrl: z.string().nullable(),
  metricsUrl: z.string().nullable(),
  databases: z.record(z.string(), z.string()),
  pids: z.record(z.enum(CHILDREN), z.int().nullable()),
  /** Opaque start times beside the pids: a pid alone may be another process by now. */
  started: z.record(z.enum(CHILDREN), z.string().nullable()),
  /** null = not in use. */
  ports: z.object({
    temporal: z.int().nullable(),
    ui: z.int().nullable(),
    postgres: z.int().nullable(),
    metrics: z.int().nullable(),
  }),
});
export type DevFile = z.output<typeof schema>;

/** PGSHIFT_HOME, default `.pgshift` in the working directory. */
export const homeFolder = (env: NodeJS.ProcessEnv = process.env): string => resolve(env.PGSHIFT_HOME || '.pgshift');

/** null when there is none that can be read. */
export function readDevFile(home: string): DevFile | null {
  try {
    const parsed = schema.safeParse(JSON.parse(readFileSync(join(home, 'dev.json'), 'utf8')));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

export function writeDevFile(home: string, file: DevFile): void {
  const path = join(home, 'dev.json');
  const next = `${path}.${process.pid}`;
  writeFileSync(next, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
  chmodSync(next, 0o600);
  renameSync(next, path);
}

/** The mark of one of its processes; null when it does not run (or never did). */
export function liveChild(file: DevFile, child: DevChild): ProcessMark | null {
  const pid = file.pids[child];
  const started = file.started[child];
  if (pid === null || started === null) return null;
  const mark = { pid, started };
  return isAlive(mark) ? mark : null;
}

/** The dev.json of a `dev` that runs, or whose servers still do after it was killed. */
export function liveDevFile(home: string): DevFile | null {
  const file = readDevFile(home);
  if (file === null || file.temporalAddress === null) return null;
  return liveChild(file, 'dev') || liveChild(file, 'temporal') ? file : null;
}
