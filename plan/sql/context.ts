/**
 * What the planner of one statement gets, and the only way in which it adds to the plan. Keeps true: a step's place is settled here
 * (phase, then `order`, then statement, then the order of adding), its id later; a finding that is not allowed makes the plan not
 * runnable; names of pgshift's own objects are the same each time the same plan is made.
 */
import { Problem } from '../model/errors';
import { PHASES } from '../model/steps';
import { describeRun } from './describe';
import { makeNames } from './names';
import { Overlay } from './overlay';
import type { ErrorCode, ProblemFields, Where } from '../model/errors';
import type { Catalog, Index } from '../model/catalog';
import type { SchemaMigrationPlan } from '../model/plan';
import type {
  Dependent,
  Estimate,
  Finding,
  Phase,
  PlannedLock,
  PreCheck,
  RelationName,
  RiskTable,
  Step,
  StepRun,
  WayBack,
  Work,
} from '../model/steps';
import type { Names } from './names';
import type { Statement } from './parse';

/** A step without id. Fields left out are filled from the run: `statement`, `transactional`, `wayBack` (lossless), `because`. */
export interface StepDraft {
  readonly phase: Exclude<Phase, 'preflight' | 'gate' | 'hold'>;
  readonly action: string;
  readonly title: string;
  readonly run: StepRun;
  readonly undo: readonly StepRun[];
  readonly locks: readonly PlannedLock[];
  readonly work: Work;
  readonly estimate: Estimate;
  readonly risk: RiskTable;
  readonly statement?: string;
  /** null needs `because`. Left out: the statements of `undo`, lossless; with an empty `undo` nothing needs undoing. */
  readonly wayBack?: WayBack | null;
  readonly because?: string | null;
  /** Sorts inside a phase before the statement's number; 0 when left out. Use it only where another statement's step must come later. */
  readonly order?: number;
  /** pgshift's own step: `from` is null. */
  readonly own?: boolean;
}

export interface FindingDraft {
  readonly rule: string;
  readonly level: Finding['level'];
  readonly message: string;
  readonly alternative?: string | null;
  readonly relation?: string | null;
  /** Byte position from the tree; the statement's own begin when left out. */
  readonly at?: number | undefined;
}

/** Asked type of a column that is going to get a shadow; known for the whole plan before the first statement is planned. */
export interface Retype {
  readonly table: RelationName;
  readonly column: string;
  readonly newType: string;
}

export interface PlanContext {
  /** The snapshot. */
  readonly catalog: Catalog;
  /** The snapshot with the effects of earlier statements. */
  readonly overlay: Overlay;
  readonly plan: SchemaMigrationPlan;
  readonly statement: Statement;
  readonly names: Names;
  /** By family, for the whole plan (one state for several statements on one table). */
  readonly shared: Map<string, unknown>;
  add(draft: StepDraft): void;
  finding(draft: FindingDraft): void;
  /** A finding of level error. True when `allow` names it: then go on and plan it; false: the plan is refused, leave the statement. */
  refuse(draft: Omit<FindingDraft, 'level'>): boolean;
  dependent(dependent: Dependent): void;
  /** What the catalogue will differ by when all is done, one line per object. */
  asked(line: string): void;
  /** What an earlier statement asked for and this one makes otherwise. */
  unask(line: string): void;
  /** Counted by preflight on the live database before anything runs. */
  preCheck(check: Omit<PreCheck, 'statement' | 'line'>): void;
  /** Something old stays after contract: there is a hold. */
  keepsOld(): void;
  /** A key of the plan's transforms that a statement asked for. */
  usedTransform(key: string): void;
  /** For errors: where the statement stands (or the byte position of a tree's node). */
  where(at?: number): Where;
  problem(code: ErrorCode, message: string, fields?: ProblemFields): Problem;
  /** Runs when every statement has been seen, with this statement's context. Type changes use it: they see the indexes and constraints that later statements ask for. */
  defer(plan: () => void): void;
  /**
   * Columns under a type change. An index that a statement asks for on one of them is NOT built on the visible column: it is put into the
   * overlay and marked wanted, and planTypeChange builds it on the shadow alone, then renames it in the swap (there is no old twin).
   */
  retyped(table: RelationName, column: string): Retype | null;
  want(index: Index): void;
  isWanted(index: Index): boolean;
}

export interface PlanState {
  readonly drafts: readonly (StepDraft & { readonly of: Statement; readonly seq: number })[];
  readonly findings: readonly Finding[];
  readonly dependents: readonly Dependent[];
  readonly asked: readonly string[];
  readonly preChecks: readonly PreCheck[];
  readonly keepsOld: boolean;
}

interface Allowed {
  readonly rule: string;
  readonly statement?: number | undefined;
}

/** One for each plan; `context()` gives the view of one statement. */
export class PlanBuilder implements PlanState {
  readonly drafts: (StepDraft & { of: Statement; seq: number })[] = [];
  readonly findings: Finding[] = [];
  readonly dependents: Dependent[] = [];
  readonly asked: string[] = [];
  readonly preChecks: PreCheck[] = [];
  readonly overlay: Overlay;
  keepsOld = false;
  readonly usedTransforms = new Set<string>();
  private readonly deferred: (() => void)[] = [];
  private readonly shared = new Map<string, unknown>();
  private readonly names: Names;
  private readonly wanted = new Set<string>();

  constructor(
    private readonly input: {
      readonly plan: SchemaMigrationPlan;
      readonly catalog: Catalog;
      readonly file: string | null;
      readonly source: string;
      readonly allow: readonly Allowed[];
      readonly retypes: readonly Retype[];
      readonly place: (byte: number) => { readonly line: number; readonly column: number };
    },
  ) {
    this.overlay = new Overlay(input.catalog, input.plan.searchPath);
    this.names = makeNames(input.plan.name);
  }

  get transforms(): SchemaMigrationPlan['transforms'] {
    return this.input.plan.transforms;
  }

  allowed(rule: string, statement: number): boolean {
    return this.input.allow.some((a) => a.rule === rule && (a.statement === undefined || a.statement === statement));
  }

  runDeferred(): void {
    for (let next = this.deferred.shift(); next; next = this.deferred.shift()) next();
  }

  private where(statement: Statement, at?: number): Where {
    const place = at === undefined ? statement : this.input.place(at);
    const text = this.input.source.split('\n')[place.line - 1] ?? '';
    const { file } = this.input;
    return { line: place.line, column: place.column, text, ...(file === null ? {} : { file }) };
  }

  private addFinding(statement: Statement, draft: FindingDraft): Finding {
    const place = draft.at === undefined ? statement : this.input.place(draft.at);
    const finding: Finding = {
      rule: draft.rule,
      level: draft.level,
      file: this.input.file,
      line: place.line,
      column: place.column,
      statement: statement.number,
      relation: draft.relation ?? null,
      message: draft.message,
      alternative: draft.alternative ?? null,
      allowed: this.allowed(draft.rule, statement.number),
    };
    this.findings.push(finding);
    return finding;
  }

  context(statement: Statement): PlanContext {
    const indexKey = (index: Index): string => `${index.schema}\0${index.name}`;
    return {
      catalog: this.input.catalog,
      overlay: this.overlay,
      plan: this.input.plan,
      statement,
      names: this.names,
      shared: this.shared,
      add: (draft) => void this.drafts.push({ ...draft, of: statement, seq: this.drafts.length }),
      finding: (draft) => void this.addFinding(statement, draft),
      refuse: (draft) => this.addFinding(statement, { ...draft, level: 'error' }).allowed,
      dependent: (dependent) => void this.dependents.push(dependent),
      asked: (line) => void this.asked.push(line),
      unask: (line) => {
        const at = this.asked.indexOf(line);
        if (at >= 0) this.asked.splice(at, 1);
      },
      preCheck: (check) => void this.preChecks.push({ ...check, statement: statement.number, line: statement.line }),
      keepsOld: () => void (this.keepsOld = true),
      usedTransform: (key) => void this.usedTransforms.add(key),
      where: (at) => this.where(statement, at),
      problem: (code, message, fields = {}) => new Problem(code, message, { where: this.where(statement), ...fields }),
      defer: (plan) => void this.deferred.push(plan),
      retyped: (table, column) =>
        this.input.retypes.find(
          (r) => r.table.schema === table.schema && r.table.name === table.name && r.column === column,
        ) ?? null,
      want: (index) => void this.wanted.add(indexKey(index)),
      isWanted: (index) => this.wanted.has(indexKey(index)),
    };
  }

  /** Phases in order; inside a phase by order, statement, adding; ids `<phase>.<n>`. */
  steps(): Step[] {
    const rank = (phase: Phase): number => PHASES.indexOf(phase);
    const sorted = [...this.drafts].sort(
      (a, b) =>
        rank(a.phase) - rank(b.phase) || (a.order ?? 0) - (b.order ?? 0) || a.of.number - b.of.number || a.seq - b.seq,
    );
    const counts = new Map<Phase, number>();
    return sorted.map((draft) => {
      const n = (counts.get(draft.phase) ?? 0) + 1;
      counts.set(draft.phase, n);
      return finish(draft, `${draft.phase}.${n}`);
    });
  }
}

function finish(draft: StepDraft & { readonly of: Statement }, id: string): Step {
  const { run, undo } = draft;
  const wayBack: WayBack | null =
    draft.wayBack !== undefined
      ? draft.wayBack
      : { statement: undo.length > 0 ? undo.map(describeRun).join(';\n') : '-- nothing to undo', lossless: true };
  return {
    id,
    phase: draft.phase,
    action: draft.action,
    title: draft.title,
    statement: draft.statement ?? describeRun(run),
    from: draft.own ? null : { statement: draft.of.number, line: draft.of.line },
    transactional: run.kind !== 'create-index' && run.kind !== 'drop-index' && run.kind !== 'autocommit',
    locks: draft.locks,
    work: draft.work,
    estimate: draft.estimate,
    risk: draft.risk,
    wayBack,
    because: wayBack === null ? (draft.because ?? 'no way back is known') : null,
    run,
    undo,
  };
}
