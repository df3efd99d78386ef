import type { Allowed } from "../results.js";
import type { Resolution } from "../settling/resolution.js";

/** A call that was allowed by a lease: it is ended through its draw, not by an authorization of its own. */
export interface Drawn extends Allowed {
  readonly draw: { put(item: Resolution): void };
}

/** Says whether a call was allowed by a lease. */
export function isDrawn(allowed: Allowed): allowed is Drawn {
  return "draw" in allowed;
}
