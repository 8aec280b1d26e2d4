/**
 * How a data migration goes on after its copy: `transfer: streaming` follows the source's changes, `transfer: incremental` reads what a monotone
 * column says is new. Pure.
 */
import { Cron } from 'croner';
import { z } from 'zod';
import { Problem } from './errors';
import type { Gate } from './plan';
import { duration, size } from './plan';
import { parseColumnName } from './tableNames';
import { parseDuration, parseSize } from './values';

export const streamingSchema = z.strictObject({
  capture: z.enum(['wal', 'triggers']).default('wal'),
  slot: z
    .string()
    .regex(/^[a-z0-9_]{1,63}$/, { error: 'a slot is called [a-z0-9_], 63 of them at most' })
    .optional(),
  buffer: size.default('64MB'),
  flush: duration.default('1s'),
  onError: z.enum(['fail', 'skip', 'retry']).default('fail'),
});

export const incrementalSchema = z.strictObject({
  column: z.string().refine((text) => parseColumnName(text) !== null, { error: 'not a column' }),
  every: z.string().optional(),
});

export const MODES = ['full', 'incremental', 'streaming'] as const;

/** What the workflow keeps of it: at most one of the two. */
export interface ModeControl {
  readonly streaming?: z.output<typeof streamingSchema>;
  readonly incremental?: z.output<typeof incrementalSchema>;
}

interface Given {
  readonly transfer: (typeof MODES)[number];
  readonly streaming?: z.output<typeof streamingSchema> | undefined;
  readonly incremental?: z.output<typeof incrementalSchema> | undefined;
}

export function modesOf({ transfer, streaming, incremental }: Given): ModeControl {
  if (transfer === 'streaming') return { streaming: streaming ?? streamingSchema.parse({}) };
  return transfer === 'incremental' && incremental ? { incremental } : {};
}

/** Does the run go on until somebody ends it? */
export const goesOn = ({ streaming, incremental }: ModeControl): boolean =>
  streaming !== undefined || incremental?.every !== undefined;

const bad = (path: string, what: string, hint?: string): Problem =>
  new Problem('InvalidPlan', `${path}: ${what}`, { where: { path }, ...(hint === undefined ? {} : { hint }) });

/** Keys that belong together. Throws InvalidPlan. */
export function checkModes(plan: Given): void {
  for (const key of ['streaming', 'incremental'] as const)
    if (plan[key] !== undefined && plan.transfer !== key)
      throw bad(key, `belongs to transfer: ${key}`, `say  transfer: ${key}`);
  if (plan.streaming?.capture === 'triggers' && plan.streaming.slot !== undefined)
    throw bad('streaming.slot', 'triggers need no slot');
  if (plan.streaming && (parseSize(plan.streaming.buffer) ?? 0) < 1024 ** 2)
    throw bad('streaming.buffer', 'less than 1MB');
  if (plan.transfer !== 'incremental') return;
  if (!plan.incremental) throw bad('incremental', 'is required by transfer: incremental', 'name its column');
  const { every } = plan.incremental;
  if (every !== undefined && nextRun(every, 0) === null)
    throw bad('incremental.every', 'not a cron line that ever comes', 'as */15 * * * *');
}

/** What goes on for ever is ended by a person, unless the plan says otherwise. */
export const withFinishGate = <P extends Given & { readonly gates: Readonly<Record<string, Gate>> }>(plan: P): P =>
  goesOn(modesOf(plan)) && plan.gates.finish === undefined
    ? { ...plan, gates: { ...plan.gates, finish: 'manual' } }
    : plan;

/** Epoch ms of the first time of the cron line after `nowMs`; null = never, or not a cron line. */
export function nextRun(every: string, nowMs: number): number | null {
  try {
    return new Cron(every, { timezone: 'UTC', paused: true }).nextRun(new Date(nowMs))?.getTime() ?? null;
  } catch {
    return null;
  }
}

export const bufferBytes = ({ buffer }: { readonly buffer: string }): number => parseSize(buffer) ?? 64 * 1024 ** 2;
export const flushMs = ({ flush }: { readonly flush: string }): number => parseDuration(flush) ?? 1_000;
