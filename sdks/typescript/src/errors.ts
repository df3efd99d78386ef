/**
 * Everything that the SDK throws: one tree under NoburnError.
 *
 * `instanceof` goes by what an error is called, not by which copy of this package made it: a program may hold this package
 * twice, as ESM and as CommonJS, and an error may be of a framework's class as well.
 */

import type { Alternative, Denied } from "./results.js";
import { explain } from "./results.js";

const KINDS: unique symbol = Symbol.for("noburn.error.kinds") as never;

/** How many causes are followed. */
const CHAIN_MAX = 10;

/** How many errors of one list are looked at. */
const ERRORS_MAX = 100;

export interface ErrorOptions {
  readonly status?: number | undefined;
  readonly requestId?: string | undefined;
  readonly cause?: unknown;
}

/** The base of all. `status` and `requestId` are of the HTTP answer, where there was one. */
export class NoburnError extends Error {
  static readonly kind: string = "NoburnError";
  readonly status: number | undefined;
  readonly requestId: string | undefined;

  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const own = new.target as typeof NoburnError;
    this.name = own.kind;
    this.status = options.status;
    this.requestId = options.requestId;
    Object.defineProperty(this, KINDS, { value: kindsOf(own) });
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // A class of yours that extends one of these is its own kind only if it says so.
    return kinds(value).includes(this.kind);
  }
}

function kindsOf(own: typeof NoburnError): readonly string[] {
  const found: string[] = [];
  for (let one: unknown = own; typeof one === "function"; one = Object.getPrototypeOf(one)) {
    if (Object.hasOwn(one, "kind")) found.push((one as typeof NoburnError).kind);
  }
  return found;
}

function kinds(value: unknown): readonly string[] {
  if (typeof value !== "object" || value === null) return [];
  const found = (value as { [KINDS]?: unknown })[KINDS];
  return Array.isArray(found) ? (found as readonly string[]) : [];
}

/** Whether a value is one of this package's errors, of whichever copy of it. */
export function isNoburnError(value: unknown): value is NoburnError {
  return kinds(value).includes("NoburnError");
}

/**
 * The call was refused, so it must not be made. `reason` is one of the documented reasons.
 *
 * Amounts are USD, as exact texts. Where no single budget refused, `scope`, `limitUsd`, `remainingUsd` and `resetsAt` are
 * null. `fitsMaxOutputTokens` is the largest cap that would fit now, `alternatives` models that would.
 */
export class BudgetExceededError extends NoburnError {
  static override readonly kind: string = "BudgetExceededError";
  readonly reason: string;
  readonly budgetId: string | null;
  readonly scope: string | null;
  readonly limitUsd: string | null;
  readonly remainingUsd: string | null;
  readonly resetsAt: Date | null;
  readonly estimateUsd: string | null;
  readonly fitsMaxOutputTokens: number | null;
  readonly alternatives: readonly Alternative[];
  readonly retryAfterMs: number | null;
  readonly denied: Denied;

  constructor(denied: Denied) {
    super(explain(denied));
    const budget = denied.budget;
    this.reason = denied.reason;
    this.budgetId = budget?.id ?? null;
    this.scope = budget?.scope ?? null;
    this.limitUsd = budget?.limitUsd ?? null;
    this.remainingUsd = budget?.remainingUsd ?? null;
    this.resetsAt = budget?.resetsAt ?? null;
    this.estimateUsd = denied.estimateUsd;
    this.fitsMaxOutputTokens = denied.fitsMaxOutputTokens;
    this.alternatives = denied.alternatives;
    this.retryAfterMs = denied.retryAfterMs;
    this.denied = denied;
  }
}

/** The API key is missing, unknown, expired, revoked, or lacks the scope. */
export class AuthenticationError extends NoburnError {
  static override readonly kind: string = "AuthenticationError";
}

/**
 * noburn could not be reached or could not decide, after the bounded retries. Nothing was decided.
 *
 * `retryAfterMs` is what the server named. `never_left` errors are told by `cause`.
 */
export class UnavailableError extends NoburnError {
  static override readonly kind: string = "UnavailableError";
  readonly retryAfterMs: number | null;

  constructor(message: string, options: ErrorOptions & { readonly retryAfterMs?: number | null } = {}) {
    super(message, options);
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/** The model has no price, and the tenant refuses models without one; or a call has no bound. */
export class PriceUnknownError extends NoburnError {
  static override readonly kind: string = "PriceUnknownError";
  readonly model: string | undefined;
  readonly provider: string | undefined;

  constructor(
    message: string,
    options: { readonly model?: string | undefined; readonly provider?: string | undefined } = {},
  ) {
    super(message);
    this.model = options.model;
    this.provider = options.provider;
  }
}

/** What the call can cost is not known before it is made, so it needs a bound from you: see the message. */
export class UnboundedError extends PriceUnknownError {
  static override readonly kind: string = "UnboundedError";
}

/** The stream was ended where it would have cost more than its hold (`cutStreams: true`). */
export class StreamCutError extends BudgetExceededError {
  static override readonly kind: string = "StreamCutError";
}

/** The request is malformed; `errors` names every bad field and what is wrong with it. */
export class InvalidRequestError extends NoburnError {
  static override readonly kind: string = "InvalidRequestError";
  readonly errors: Readonly<Record<string, string>>;

  constructor(
    message: string,
    options: ErrorOptions & { readonly errors?: Readonly<Record<string, string>> } = {},
  ) {
    const errors = { ...options.errors };
    const listed = Object.entries(errors)
      .map(([field, text]) => `${field}: ${text}`)
      .join("; ");
    super(listed ? `${message}: ${listed}` : message, options);
    this.errors = errors;
  }
}

/**
 * The request contradicts what happened before. `code` is the last part of the problem's type.
 *
 * Examples: `idempotency_conflict`, `settle_conflict`, `epoch_closed`.
 */
export class ConflictError extends NoburnError {
  static override readonly kind: string = "ConflictError";
  readonly code: string;

  constructor(message: string, options: ErrorOptions & { readonly code?: string } = {}) {
    super(message, options);
    this.code = options.code ?? "";
  }
}

// biome-ignore lint/suspicious/noExplicitAny: any class of errors, whatever its constructor takes.
type ErrorClass = abstract new (...args: any[]) => Error;

const mixes = new WeakMap<ErrorClass, object>();

/**
 * Returns the error as one that is a `Base` too, so that a framework treats it as an error of its own.
 *
 * Provider clients turn a foreign error into a lost connection and try again; their own they let through. The base's
 * constructor is not called: set what it would set.
 */
export function mixed<E extends Error>(error: E, Base: ErrorClass): E {
  if ((error as unknown) instanceof Base) return error;
  let prototype = mixes.get(Base);
  if (prototype === undefined) {
    prototype = Object.create(Base.prototype as object) as object;
    mixes.set(Base, prototype);
  }
  const made = new Error(error.message);
  Object.setPrototypeOf(made, prototype);
  Object.defineProperties(made, Object.getOwnPropertyDescriptors(error));
  return made as E;
}

/** What a refusal looks like that came over HTTP: the gated fetch answers 402 with it. */
interface Refused {
  readonly status?: unknown;
  readonly statusCode?: unknown;
  readonly headers?: unknown;
  readonly responseHeaders?: unknown;
}

/** The header of a synthetic answer by which the gated fetch says that noburn refused. Its value is the reason. */
export const REFUSED_HEADER = "x-noburn-refused";

/** Returns noburn's own error inside of another one: it, its `cause`, AI SDK's `lastError`, and lists of `errors`. */
export function noburnErrorOf(error: unknown): NoburnError | undefined {
  for (const one of inside(error)) if (isNoburnError(one)) return one;
  return undefined;
}

/**
 * Says whether an error is a refusal of noburn, however deep a framework has wrapped it.
 *
 * It follows `cause`, `lastError` and `errors`, and knows the 402 with which the patched fetch answers a refused call.
 */
export function isBudgetExceeded(error: unknown): error is Error {
  for (const one of inside(error)) {
    if (kinds(one).includes("BudgetExceededError") || isRefusedAnswer(one)) return true;
  }
  return false;
}

function isRefusedAnswer(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { status, statusCode, headers, responseHeaders } = value as Refused;
  if (status !== 402 && statusCode !== 402) return false;
  return hasHeader(headers) || hasHeader(responseHeaders);
}

function hasHeader(headers: unknown): boolean {
  if (typeof headers !== "object" || headers === null) return false;
  if (typeof (headers as Headers).get === "function")
    return (headers as Headers).get(REFUSED_HEADER) !== null;
  return Object.keys(headers).some((name) => name.toLowerCase() === REFUSED_HEADER);
}

function* inside(error: unknown): Generator<unknown> {
  const seen = new Set<unknown>();
  const waiting: unknown[] = [error];
  while (waiting.length > 0 && seen.size < CHAIN_MAX * ERRORS_MAX) {
    const found = waiting.shift();
    if (typeof found !== "object" || found === null || seen.has(found)) continue;
    seen.add(found);
    yield found;
    const { cause, lastError, errors } = found as { cause?: unknown; lastError?: unknown; errors?: unknown };
    waiting.push(cause, lastError);
    if (Array.isArray(errors)) waiting.push(...errors.slice(0, ERRORS_MAX));
  }
}
