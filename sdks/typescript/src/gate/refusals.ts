/**
 * What a gated fetch answers in the provider's place where noburn lets nothing through.
 *
 * An error thrown by `fetch` is a lost connection to every client, and is tried again; an answer with a status is not.
 */

import {
  AuthenticationError,
  BudgetExceededError,
  InvalidRequestError,
  type NoburnError,
  PriceUnknownError,
  REFUSED_HEADER,
  UnavailableError,
  UnboundedError,
} from "../errors.js";

/** In whose words an answer's error is told. */
export type Shape = "openai" | "anthropic";

interface Told {
  readonly status: number;
  readonly reason: string;
  readonly title: string;
  readonly more?: Readonly<Record<string, unknown>>;
}

const KINDS: Readonly<Record<Shape, Readonly<Record<number, string>>>> = {
  openai: { 401: "authentication_error", 402: "insufficient_quota" },
  anthropic: { 401: "authentication_error", 402: "billing_error" },
};

/** The header by which a client finds the error that its answer stands for. */
const ERROR_HEADER = "x-noburn-error";

/** How many errors wait for their client. The first to come goes first: whoever has not taken it by then will not. */
const ERRORS_MAX = 1_000;

const errors = new Map<string, NoburnError>();

/** Returns the error that an answer stands for, once, where the answer was made here. */
export function errorBehind(headers: Headers): NoburnError | undefined {
  const name = headers.get(ERROR_HEADER);
  const found = name === null ? undefined : errors.get(name);
  if (name !== null) errors.delete(name);
  return found;
}

function remember(error: NoburnError): string {
  // Not to be guessed: a provider's answer must not find an error of somebody else's call.
  const name = crypto.randomUUID();
  errors.set(name, error);
  const [first] = errors.keys();
  if (errors.size > ERRORS_MAX && first !== undefined) errors.delete(first);
  return name;
}

/** Returns the answer to a call that was not admitted: problem+json, and what the provider's clients read as an error. */
export function refusalAnswer(error: NoburnError, shape: Shape): Response {
  const told = toldOf(error);
  const usual = told.status >= 500 ? "api_error" : "invalid_request_error";
  const detail = { reason: told.reason, ...told.more };
  const inner = { type: KINDS[shape][told.status] ?? usual, message: error.message };
  const problem = { title: told.title, status: told.status, detail: error.message, ...detail };
  const body =
    shape === "anthropic"
      ? { ...problem, type: "error", error: { ...inner, noburn: detail } }
      : { ...problem, error: { ...inner, param: null, code: told.reason, noburn: detail } };
  const headers = new Headers({
    "content-type": "application/problem+json",
    "x-should-retry": "false",
    "x-noburn-reason": told.reason,
    [ERROR_HEADER]: remember(error),
  });
  if (error instanceof BudgetExceededError) headers.set(REFUSED_HEADER, told.reason);
  return new Response(JSON.stringify(body), { status: told.status, statusText: told.title, headers });
}

function toldOf(error: NoburnError): Told {
  if (error instanceof BudgetExceededError) {
    return { status: 402, reason: error.reason, title: "Refused by noburn", more: refused(error) };
  }
  if (error instanceof UnboundedError)
    return { status: 402, reason: "unbounded", title: "Refused by noburn" };
  if (error instanceof PriceUnknownError) {
    return { status: 402, reason: "price_unknown", title: "Refused by noburn" };
  }
  if (error instanceof InvalidRequestError) {
    const more = { errors: error.errors };
    return { status: 400, reason: "invalid_request", title: "Invalid request", more };
  }
  if (error instanceof UnavailableError) {
    return { status: 503, reason: "noburn_unavailable", title: "noburn does not answer" };
  }
  if (error instanceof AuthenticationError) {
    return { status: 401, reason: "noburn_key", title: "noburn does not take the key" };
  }
  return { status: 502, reason: "noburn_failed", title: "noburn failed" };
}

function refused(error: BudgetExceededError): Record<string, unknown> {
  const more = {
    budget: error.budgetId,
    scope: error.scope,
    limit_usd: error.limitUsd,
    remaining_usd: error.remainingUsd,
    resets_at: error.resetsAt?.toISOString() ?? null,
    estimate_usd: error.estimateUsd,
    fits_max_output_tokens: error.fitsMaxOutputTokens,
    alternatives: error.alternatives.length > 0 ? error.alternatives.map((other) => other.model) : null,
    retry_after_ms: error.retryAfterMs,
  };
  return Object.fromEntries(Object.entries(more).filter(([, value]) => value !== null));
}
