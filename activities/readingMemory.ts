/**
 * What a reading remembers of the one before it when the watch that took it is over and the next one begins: in this process alone, and for two intervals. Keeps
 * true: a rate is never reckoned from before a long rest; a worker that knows nothing begins anew, which is a reading that says nothing, never a wrong one.
 */
import type { Watched } from '../plan/model/health';
import { intervalMs } from '../plan/model/health';
import type { ReadingMemory } from './readings';

const KEPT_MAX = 1_000;
const kept = new Map<string, ReadingMemory>();

/** Of one condition of one run. Routers' counts alone go on: they only grow, so that two samples of them say the same whoever took them. */
export function memoryOf(workflowId: string, condition: Watched): ReadingMemory {
  if (condition.source !== 'router') return { brakes: {} };
  const key = `${workflowId}\n${condition.name}`;
  const found = kept.get(key);
  const age = found?.router === undefined ? Infinity : performance.now() - found.router.at;
  const memory: ReadingMemory = found !== undefined && age <= 2 * intervalMs(condition) ? found : { brakes: {} };
  // The last that was used stands last: those that nobody asks for any more go first.
  kept.delete(key);
  kept.set(key, memory);
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT_MAX) break;
    kept.delete(oldest);
  }
  return memory;
}
