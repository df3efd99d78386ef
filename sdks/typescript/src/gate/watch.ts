/** Watching what the gate says inside a piece of code, for frameworks that turn errors into answers. */

import { surrounding, within } from "../attribution.js";
import type { NoburnError } from "../errors.js";

/** The last refusal, until a later call was allowed. */
export interface Watch {
  refusal: NoburnError | undefined;
}

/** Runs a function and notes the last refusal inside. */
export function watching<T>(fn: (watch: Watch) => T): T {
  const watch: Watch = { refusal: undefined };
  return within({ watch }, () => fn(watch));
}

/** Tells whoever watches what became of a call: its refusal, or undefined where it was allowed. */
export function note(refusal: NoburnError | undefined): void {
  const found = surrounding().watch;
  if (found !== undefined) found.refusal = refusal;
}
