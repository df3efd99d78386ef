/** Reading a stream on its way to the caller: what the call used, or what was seen of it when it was cut. */

import type { Estimate } from "../estimate/types.js";
import type { Usage } from "../usage.js";

/** Reads the events of one stream. `finished`: the usage is complete; `failed`: the provider reported a failure inside. */
export interface Meter {
  /** Takes one event, as the object that its JSON says. */
  feed(event: unknown): void;
  /** What the provider said that the call used; null while it did not. */
  usage(): Usage | null;
  /** What a cut call used, as far as it can be told; null where it cannot, so that its hold is presumed. */
  seen(estimate: Estimate | undefined): Usage | null;
  readonly finished: boolean;
  readonly failed: boolean;
  readonly model?: string | undefined;
  /** Output seen so far, for streams that are cut at their hold. */
  readonly outputTokens: number;
}
