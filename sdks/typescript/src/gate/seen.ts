/** The output of a stream, remembered until its usage is known, so that it can be counted where the stream is cut. */

import { countText } from "../estimate/index.js";
import type { Estimate } from "../estimate/types.js";
import type { Usage } from "../usage.js";
import type { Meter } from "./meters.js";

/** How many characters are kept; of what is longer, the rest counts by its bytes. */
export const SEEN_CHARACTERS_MAX = 4 * 1024 * 1024;

/** A meter that counts what it saw. `live` counts at once, for streams that are cut at their hold. */
export abstract class SeenMeter implements Meter {
  model: string | undefined;
  failed = false;
  /** Whether output was made that no event shows. */
  protected hides = false;
  protected readonly asked: string;
  readonly #live: boolean;
  #counted = 0;
  #texts: string[] = [];
  #characters = 0;

  constructor(model: string, live = false) {
    this.asked = model;
    this.#live = live;
  }

  abstract feed(event: unknown): void;
  abstract usage(): Usage | null;
  abstract seen(estimate: Estimate | undefined): Usage | null;
  abstract get finished(): boolean;

  /** Notes output. */
  protected add(text: unknown): void {
    if (typeof text !== "string" || text === "") return;
    if (this.#live) {
      this.#counted += countText(text, this.asked);
    } else if (this.#characters + text.length > SEEN_CHARACTERS_MAX) {
      this.#counted += new TextEncoder().encode(text).length;
    } else {
      this.#texts.push(text);
      this.#characters += text.length;
    }
  }

  /** Drops what was kept, once the usage is known. */
  protected forget(): void {
    this.#texts = [];
    this.#characters = 0;
  }

  get outputTokens(): number {
    const kept = this.#texts.length > 0 ? countText(this.#texts.join(""), this.asked) : 0;
    return this.#counted + kept;
  }
}
