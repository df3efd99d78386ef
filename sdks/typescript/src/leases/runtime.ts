/** Whether this process lives long enough for a lease to be worth it. */

import { environment } from "../log.js";

/** Variables by which platforms tell that an instance may be frozen or ended after any answer. */
const SERVERLESS = [
  "AWS_LAMBDA_FUNCTION_NAME",
  "VERCEL",
  "NETLIFY",
  "K_SERVICE",
  "FUNCTION_TARGET",
  "FUNCTIONS_WORKER_RUNTIME",
  "CF_PAGES",
] as const;

/** Says whether this is a process of Node, or of what is like it, that nobody freezes between two requests. */
export function livesLong(): boolean {
  const around = globalThis as { EdgeRuntime?: unknown; process?: { versions?: { node?: unknown } } };
  if (around.EdgeRuntime !== undefined) return false;
  if (globalThis.navigator?.userAgent === "Cloudflare-Workers") return false;
  if (typeof around.process?.versions?.node !== "string") return false;
  return SERVERLESS.every((name) => environment(name) === undefined);
}
