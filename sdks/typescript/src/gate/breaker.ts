/** A circuit breaker: while noburn does not answer, calls are not made to wait for it one after another. */

const FAILURES_MAX = 5;
const OPEN_MS = 1_000;
const OPEN_MS_MAX = 30_000;

/**
 * Opens after several failures in a row, and then lets one call through at a time to try.
 *
 * Each failed trial doubles how long it stays open, up to half a minute. Any answer closes it.
 */
export class Breaker {
  readonly #clock: () => number;
  #failures = 0;
  #openMs = OPEN_MS;
  #until: number | undefined;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** Whether calls are refused an answer at present. */
  get isOpen(): boolean {
    return this.#until !== undefined;
  }

  /** Says whether to ask noburn now. Each true is to be followed by `answered` or `failed`. */
  admits(): boolean {
    if (this.#until === undefined) return true;
    const now = this.#clock();
    if (now < this.#until) return false;
    // The next trial comes later, also if this one never reports.
    this.#until = now + this.#openMs;
    return true;
  }

  /** Notes that noburn answered, whatever it said. */
  answered(): void {
    this.#failures = 0;
    this.#openMs = OPEN_MS;
    this.#until = undefined;
  }

  /** Notes that noburn did not answer within its time. */
  failed(): void {
    this.#failures += 1;
    if (this.#until !== undefined) this.#openMs = Math.min(this.#openMs * 2, OPEN_MS_MAX);
    else if (this.#failures < FAILURES_MAX) return;
    this.#until = this.#clock() + this.#openMs;
  }
}
