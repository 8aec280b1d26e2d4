/**
 * The share of a canary in a route's rows, for every adapter that has one. Keeps true: a change that was given up and comes late is refused by its number;
 * nobody is sent to a side that does not know of it, and everybody comes home when either database answers.
 */
import { Problem } from '../../plan/model/errors';
import { SIDES } from '../../plan/model/traffic';
import type { RouteRow } from '../../postgres/state/routes';
import type { Deadline } from '../deadline';
import type { ShareAsked } from '../types';
import type { RouteRows, RouteTruth } from './rows';

/** A change of this run that was given up, and comes after a later one. */
function refuseLate({ details }: RouteRow, { run, number }: ShareAsked): void {
  const last = details.canary as { readonly run?: unknown; readonly number?: unknown } | undefined;
  if (last?.run === run && Number(last.number) > number)
    throw new Problem('FenceBroken', 'the share was changed again since');
}

/** @param to what the rows call green. @throws Problem FenceBroken, TrafficFailed. */
export function changeShare(
  rows: RouteRows,
  asked: ShareAsked,
  to: string,
  token: number | null,
  deadline: Deadline,
): Promise<RouteTruth> {
  const change = (row: RouteRow): RouteRow => {
    refuseLate(row, asked);
    const { share: _, ...rest } = row.details;
    const share = asked.share === null ? {} : { share: { ...asked.share, to, moving: null } };
    return { ...row, details: { ...rest, ...share, canary: { run: asked.run, number: asked.number } } };
  };
  return rows.change(change, asked.share === null ? [] : SIDES, token, deadline);
}
