/** What an error of a provider call says of its bill: the rules, without sending anything. */

const CHAIN_MAX = 10;

/** Classes whose errors are known to be about the provider call, not about anything else beside it. */
const PROVIDERS: ReadonlySet<string> = new Set([
  "OpenAIError",
  "AnthropicError",
  "APIError",
  "GoogleGenerativeAIError",
  "ApiError",
  "MistralError",
  "SDKError",
  "CohereError",
]);

const AI_SDK = Symbol.for("vercel.ai.error");

/** Codes of failures from before a request was on its way. */
const NEVER_SENT: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "ERR_INVALID_URL",
  "CERT_HAS_EXPIRED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  // Bun's names.
  "ConnectionRefused",
  "FailedToOpenSocket",
]);

interface Failed {
  readonly status?: unknown;
  readonly statusCode?: unknown;
  readonly code?: unknown;
  readonly errors?: unknown;
  readonly cause?: unknown;
}

/**
 * Says whether an attempt failed for sure before its request left, or was refused with a status.
 *
 * For errors of one attempt's transport, of which the caller knows that they are that. What is unknown counts as sent: after
 * an error of the transport the provider may go on and bill.
 */
export function neverLeft(error: unknown): boolean {
  for (const cause of causes(error)) {
    const status = statusOf(cause);
    // An error event inside a stream carries the stream's own 200.
    if (status !== undefined) return status >= 400;
    if (typeof cause.code === "string") return NEVER_SENT.has(cause.code);
    // Of several addresses that were tried, none may have been reached.
    if (Array.isArray(cause.errors) && cause.errors.length > 0 && cause.cause === undefined) {
      return cause.errors.every(neverLeft);
    }
  }
  return false;
}

/**
 * Says whether this failure of a provider call is one that the provider does not bill.
 *
 * True for a provider client's error with an HTTP status of 400 or above or with a connection that was never made; false for
 * time-outs, cut answers, errors inside a stream, and everything that is not a provider client's error: a database may fail
 * after the provider has answered. Clients that retry by themselves hide their earlier attempts: give them `maxRetries: 0`.
 */
export function neverBilled(error: unknown): boolean {
  return isProviders(error) && neverLeft(error);
}

function isProviders(error: unknown): boolean {
  if (typeof error !== "object" || error === null) return false;
  if ((error as { [AI_SDK]?: unknown })[AI_SDK] === true) return true;
  for (let one: unknown = Object.getPrototypeOf(error); one != null; one = Object.getPrototypeOf(one)) {
    const made = (one as { constructor?: { name?: unknown } }).constructor;
    if (typeof made?.name === "string" && PROVIDERS.has(made.name)) return true;
  }
  return false;
}

function statusOf(cause: Failed): number | undefined {
  for (const found of [cause.status, cause.statusCode, cause.code]) {
    if (typeof found === "number" && Number.isInteger(found)) return found;
  }
  return undefined;
}

function* causes(error: unknown): Generator<Failed> {
  const seen = new Set<unknown>();
  let found = error;
  while (typeof found === "object" && found !== null && !seen.has(found) && seen.size < CHAIN_MAX) {
    seen.add(found);
    yield found as Failed;
    found = (found as Failed).cause;
  }
}
