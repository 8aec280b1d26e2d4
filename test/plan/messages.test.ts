import fc from 'fast-check';
import type { GateRules, Inbox, MessageName, Moment } from '../../plan/model/inbox';
import { MESSAGE_NAMES, emptyInbox } from '../../plan/model/inbox';
import { reduce, settle } from '../../plan/model/messages';
import { validatePlan } from '../../plan/model/validate';
import { tunedOptions } from '../../plan/model/tuning';

const rules = (over: Partial<GateRules> = {}): GateRules => ({
  name: 'contract',
  expiresMs: null,
  onExpiry: 'reject',
  quorum: 1,
  roles: [],
  notBy: 'none',
  ...over,
});

const moment = (over: Partial<Moment> = {}): Moment => ({
  now: '2026-11-21T07:00:00.000Z',
  via: 'update',
  status: 'waiting',
  gates: { contract: rules() },
  open: ['contract'],
  holding: false,
  unwell: false,
  awaiting: null,
  starter: null,
  noRollback: null,
  ...over,
});

type Said = [MessageName, unknown];

function all(said: readonly Said[], at: Moment = moment(), from: Inbox = emptyInbox) {
  let inbox = from;
  const outcomes = said.map(([name, argument]) => {
    const step = reduce(name, argument, inbox, at);
    inbox = step.inbox;
    return step.outcome;
  });
  return { inbox, outcomes, last: outcomes.at(-1) };
}

const by = 'ann@example.org';
const ok = (duplicate = false) => ({ accepted: true, duplicate, requestId: null });
const no = (code: string) => expect.objectContaining({ accepted: false, code });

describe('messages', () => {
  test('an approval of the open gate', () => {
    const { inbox, last } = all([['approve', { by }]]);
    expect(last).toEqual(ok());
    expect(inbox.gates['contract']?.verdict).toBe('approved');
    expect(inbox.approvals).toEqual([
      { gate: 'contract', by, at: '2026-11-21T07:00:00.000Z', reason: null, verdict: 'approved', via: 'update' },
    ]);
    expect(inbox.audit).toHaveLength(1);
  });

  test.each<[string, Said[], unknown]>([
    [
      'the same verdict again',
      [
        ['approve', { by }],
        ['approve', { by }],
      ],
      ok(true),
    ],
    [
      'the same verdict by somebody else',
      [
        ['approve', { by }],
        ['approve', { by: 'bob', gate: 'contract' }],
      ],
      ok(true),
    ],
    [
      'the other verdict afterwards',
      [
        ['approve', { by }],
        ['reject', { by: 'bob', gate: 'contract' }],
      ],
      no('NotNow'),
    ],
    [
      'an approval after a rejection',
      [
        ['reject', { by }],
        ['approve', { by, gate: 'contract' }],
      ],
      no('NotNow'),
    ],
    ['no by', [['approve', {}]], no('InvalidMessage')],
    ['an empty by', [['approve', { by: '  ' }]], no('InvalidMessage')],
    ['nothing at all', [['approve', undefined]], no('InvalidMessage')],
    ['an unknown key', [['approve', { by, gat: 'contract' }]], no('InvalidMessage')],
    ['no such gate', [['approve', { by, gate: 'nowhere' }]], no('NoSuchGate')],
    ['a prototype as a gate', [['approve', { by, gate: '__proto__' }]], no('NoSuchGate')],
    ['resume of what runs', [['resume', { by }]], no('NotNow')],
    [
      'pause twice',
      [
        ['pause', { by }],
        ['pause', { by }],
      ],
      ok(true),
    ],
    [
      'pause and resume',
      [
        ['pause', { by }],
        ['resume', { by }],
      ],
      ok(),
    ],
    [
      'rollback twice',
      [
        ['rollback', { by }],
        ['rollback', { by }],
      ],
      ok(true),
    ],
    ['retry of nothing', [['retry', { by, target: 'contract.1' }]], no('NotNow')],
    ['a tuning that says nothing', [['tune', { by }]], no('InvalidMessage')],
    ['a tuning of an unknown key', [['tune', { by, throttle: { paralel: 2 } }]], no('InvalidMessage')],
    ['a tuning out of range', [['tune', { by, throttle: { parallel: 0 } }]], no('InvalidMessage')],
    ['cleanup while nothing is held', [['approve', { by, gate: 'cleanup' }]], no('NoSuchGate')],
  ])('%s', (_, said, expected) => expect(all(said).last).toEqual(expected));

  test('without a gate that is open one must be named, and an early approval counts', () => {
    const early = moment({ open: [], status: 'running' });
    expect(all([['approve', { by }]], early).last).toEqual(no('NoSuchGate'));
    expect(all([['approve', { by, gate: 'contract' }]], early).inbox.gates['contract']?.verdict).toBe('approved');
  });

  test('a quorum counts people, not messages', () => {
    const two = moment({ gates: { contract: rules({ quorum: 2 }) } });
    const once = all(
      [
        ['approve', { by }],
        ['approve', { by }],
      ],
      two,
    );
    expect(once.last).toEqual(ok(true));
    expect(once.inbox.gates['contract']?.verdict).toBeNull();
    expect(all([['approve', { by: 'bob' }]], two, once.inbox).inbox.gates['contract']?.verdict).toBe('approved');
    expect(all([['reject', { by: 'bob' }]], two, once.inbox).inbox.gates['contract']?.verdict).toBe('rejected');
  });

  test('roles are taken as said, and the refusal says how', () => {
    const dba = moment({ gates: { contract: rules({ roles: ['dba'] }) } });
    const refused = all([['approve', { by: 'ann' }]], dba).last;
    expect(refused).toEqual(no('NotAllowed'));
    expect(JSON.stringify(refused)).toContain('dba:<name>');
    expect(all([['approve', { by: 'dba:ann' }]], dba).last).toEqual(ok());
  });

  test('not by the starter, who must be known', () => {
    const gates = { contract: rules({ notBy: 'starter' }) };
    expect(all([['approve', { by: 'ann' }]], moment({ gates, starter: 'ann' })).last).toEqual(no('NotAllowed'));
    expect(all([['approve', { by: 'ann' }]], moment({ gates, starter: null })).last).toEqual(no('NotAllowed'));
    expect(all([['approve', { by: 'bob' }]], moment({ gates, starter: 'ann' })).last).toEqual(ok());
    expect(all([['reject', { by: 'ann' }]], moment({ gates, starter: 'ann' })).last).toEqual(ok());
  });

  test('approve of cleanup ends a hold; naming no gate never does', () => {
    const hold = moment({ holding: true, open: [], gates: {}, status: 'holding' });
    expect(all([['approve', { by, gate: 'cleanup' }]], hold).inbox.endHold).not.toBeNull();
    expect(all([['approve', { by }]], hold).last).toEqual(no('NoSuchGate'));
  });

  test('an answer goes to what waits', () => {
    const waits = moment({ awaiting: { target: 'backfill.1', takes: ['retry'] }, open: [], status: 'paused' });
    expect(all([['retry', { by, target: 'expand.1' }]], waits).last).toEqual(no('NotNow'));
    expect(all([['skip', { by, target: 'backfill.1' }]], waits).last).toEqual(no('NotAllowed'));
    expect(all([['retry', { by, target: 'backfill.1' }]], waits).inbox.answer?.kind).toBe('retry');
    expect(all([['resume', { by }]], waits).inbox.answer?.kind).toBe('retry');
  });

  test('the same request twice is a duplicate, whatever has happened since', () => {
    const { outcomes } = all([
      ['pause', { by, requestId: 'r1' }],
      ['resume', { by, requestId: 'r2' }],
      ['pause', { by, requestId: 'r1' }],
      ['resume', { by, requestId: 'r1' }],
    ]);
    expect(outcomes[2]).toEqual({ accepted: true, duplicate: true, requestId: 'r1' });
    expect(outcomes[3]).toEqual(no('InvalidMessage'));
  });

  test('refused signals are shown, the last five', () => {
    const signal = moment({ via: 'signal' });
    const { inbox } = all(
      Array.from({ length: 8 }, (): Said => ['approve', {}]),
      signal,
    );
    expect(inbox.refused).toHaveLength(5);
    expect(all([['approve', {}]], moment()).inbox.refused).toHaveLength(0);
  });

  test('a verdict of nobody comes only first', () => {
    const approved = all([['approve', { by }]]).inbox;
    expect(settle(approved, 'contract', 'expired', 'now', 'late')).toBe(approved);
    const expired = settle(emptyInbox, 'contract', 'expired', 'now', 'late');
    expect(all([['approve', { by, gate: 'contract' }]], moment(), expired).last).toEqual(no('NotNow'));
  });

  test('a tuning changes what it names and nothing else', () => {
    const plan = validatePlan({
      name: 'a',
      database: 'app',
      sql: 'x',
      throttle: { parallel: 2, batch: { target: '1s' } },
    });
    const { inbox } = all([
      ['tune', { by, throttle: { batch: { max: 500 } }, hold: '48h' }],
      ['tune', { by, throttle: { parallel: 4 } }],
    ]);
    expect(tunedOptions(plan, inbox.tuning)).toMatchObject({
      hold: '48h',
      throttle: { parallel: 4, batch: { target: '1s', max: 500, min: 100 } },
    });
    expect(tunedOptions(plan, all([['tune', { by, throttle: 'none' }]]).inbox.tuning).throttle).toBe('none');
    expect(inbox.tunings).toBe(2);
  });
});

describe('whatever is sent', () => {
  const someone = fc.constantFrom('ann', 'bob', 'dba:cid', '', undefined);
  const argument = fc.oneof(
    fc.record(
      {
        by: someone,
        gate: fc.constantFrom('contract', 'expand', 'nowhere', 'rollback', 'cleanup'),
        reason: fc.string(),
        requestId: fc.constantFrom('r1', 'r2', 'r3'),
        target: fc.constantFrom('backfill.1', 'x'),
      },
      { requiredKeys: ['by'] },
    ),
    fc.record({ by: someone }, { requiredKeys: [] }),
    fc.anything(),
  );
  const message = fc.tuple(fc.constantFrom(...MESSAGE_NAMES), argument);
  const when = fc.record({
    status: fc.constantFrom<Moment['status']>('running', 'waiting', 'paused', 'holding', 'rolling_back', 'completed'),
    open: fc.constantFrom<string[]>([], ['contract'], ['contract', 'expand']),
    holding: fc.boolean(),
    via: fc.constantFrom<Moment['via']>('signal', 'update'),
  });

  test('the reducer never throws, a verdict never changes, and refusals change nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(message, when), { maxLength: 25 }), (said) => {
        let inbox = emptyInbox;
        for (const [[name, body], at] of said) {
          const before = inbox;
          const { inbox: after, outcome } = reduce(
            name,
            body,
            inbox,
            moment({ ...at, gates: { contract: rules(), expand: rules({ name: 'expand', quorum: 2 }) } }),
          );
          for (const [gate, record] of Object.entries(before.gates))
            if (record.verdict !== null) expect(after.gates[gate]?.verdict).toBe(record.verdict);
          if (!outcome.accepted) expect({ ...after, refused: [] }).toEqual({ ...before, refused: [] });
          if (outcome.accepted && !outcome.duplicate) expect(after.audit.length).toBe(before.audit.length + 1);
          else expect(after.audit).toBe(before.audit);
          inbox = after;
        }
        expect(JSON.parse(JSON.stringify(inbox))).toEqual(inbox);
      }),
      { numRuns: 300 },
    );
  });
});
