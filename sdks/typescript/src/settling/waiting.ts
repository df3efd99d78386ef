/** Keeping a serverless instance alive until settlements are out. */

import type { WaitUntil } from "../gate/settings.js";

const VERCEL = Symbol.for("@vercel/request-context");

interface RequestContext {
  readonly get?: () => { readonly waitUntil?: WaitUntil } | undefined;
}

/** Returns what this request's platform offers for that, where it is to be found: on Vercel. */
export function findWaitUntil(): WaitUntil | undefined {
  const around = globalThis as { [VERCEL]?: RequestContext };
  return around[VERCEL]?.get?.()?.waitUntil;
}
