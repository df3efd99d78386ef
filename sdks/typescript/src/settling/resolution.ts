/** What becomes of a hold, as it is sent. */

import type { JsonObject } from "../results.js";

export const OPS = ["settle", "void", "reclaim", "unlease", "draw"] as const;
export type Op = (typeof OPS)[number];

/**
 * What becomes of a hold.
 *
 * `draw` tells of one call of a lease, which its body names. `reclaim` frees a hold whose pre-flight got no answer: its body
 * is the pre-flight's, asked again with the same key, and what that returns is voided. `unlease` does the same for a lease
 * that nobody drew from: it is asked for again, unless its body names it, and closed. `key` is the hold's id, or the key of
 * the pre-flight or of the lease: one resolution each.
 */
export interface Resolution {
  readonly op: Op;
  readonly key: string;
  readonly body: JsonObject;
}

/** Whether an operation may have to wait at the gateway, and so stands behind all else. */
export function isAside(item: Resolution): boolean {
  return item.op === "reclaim" || item.op === "unlease";
}
