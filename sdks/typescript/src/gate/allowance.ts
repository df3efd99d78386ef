/** What may be let through while noburn does not answer: an amount, not a time. */

/**
 * USD that this process may let through unasked in one UTC day. A bound is taken, then what it really cost.
 *
 * It is soft: every process has its own, and what passes is in no budget.
 */
export class Allowance {
  readonly #nanoMax: bigint;
  readonly #today: () => string;
  #day: string;
  #nano = 0n;

  constructor(nanoMax: bigint, today: () => string = utcDay) {
    this.#nanoMax = nanoMax;
    this.#today = today;
    this.#day = today();
  }

  /** The day that amounts are taken of now. */
  get day(): string {
    this.#turn();
    return this.#day;
  }

  /** What was let through today. */
  get usedNano(): bigint {
    this.#turn();
    return this.#nano;
  }

  /** Takes an amount, if it is left. */
  take(nano: bigint): boolean {
    this.#turn();
    if (this.#nano + nano > this.#nanoMax) return false;
    this.#nano += nano;
    return true;
  }

  /** Returns what a call did not use of what it took that day. */
  giveBack(nano: bigint, day: string): void {
    this.#turn();
    if (day === this.#day) this.#nano = this.#nano > nano ? this.#nano - nano : 0n;
  }

  #turn(): void {
    const today = this.#today();
    if (today !== this.#day) {
      this.#day = today;
      this.#nano = 0n;
    }
  }
}

function utcDay(): string {
  return new Date().toISOString().slice(0, 10);
}
