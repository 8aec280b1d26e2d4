/** Parts of a build that a command needs and an installation may lack: said in one clear line, not with a stack. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Problem } from '../plan/model/errors';

/**
 * Loads `name` from a module of this build.
 * @param path as `worker/worker`, from the build's root. @throws Problem NotYet.
 */
export async function part<T>(path: string, name: string): Promise<T> {
  const file = resolve(__dirname, '..', `${path}.js`);
  const loaded = existsSync(file) ? ((await import(pathToFileURL(file).href)) as Record<string, unknown>) : {};
  const found = loaded[name] ?? (loaded['default'] as Record<string, unknown> | undefined)?.[name];
  if (found === undefined)
    throw new Problem('NotYet', `this build has no ${path}`, { hint: 'build the whole project: npm run build' });
  return found as T;
}
