/** What the demo says of itself: a claim is printed with what was measured for it, and it holds or it does not. */

export interface Claim {
  readonly says: string;
  readonly holds: boolean;
  /** The figures that it rests on. */
  readonly seen: string;
}

export interface DemoPart {
  readonly name: string;
  readonly passed: boolean;
  readonly measured: Readonly<Record<string, unknown>>;
  readonly claims: readonly Claim[];
}

export class Claims {
  readonly list: Claim[] = [];

  add(says: string, holds: boolean, seen: string): void {
    this.list.push({ says, holds, seen });
  }

  get hold(): boolean {
    return this.list.length > 0 && this.list.every((claim) => claim.holds);
  }
}
