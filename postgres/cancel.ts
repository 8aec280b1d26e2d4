/** Ends a running statement when the caller's signal comes: pg_cancel_backend from the observer, so that the session itself survives. */
import type { Work } from './work';

/** Starts to listen; the result stops it. Cancelling a backend that runs nothing does nothing. */
export function cancelOnAbort(work: Work, pid: number): () => void {
  const { signal } = work.context;
  const cancel = (): void => {
    work.observer.run(`SELECT pg_catalog.pg_cancel_backend($1)`, [pid]).catch(() => undefined);
  };
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  return () => signal.removeEventListener('abort', cancel);
}
