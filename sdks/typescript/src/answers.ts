/** Answers of noburn read into results and errors. Unknown fields are kept in `raw` and otherwise ignored. */

import {
  AuthenticationError,
  BudgetExceededError,
  ConflictError,
  InvalidRequestError,
  NoburnError,
  PriceUnknownError,
  UnavailableError,
} from "./errors.js";
import { leastUsd } from "./money.js";
import type {
  Allowed,
  BudgetState,
  Denied,
  Extended,
  Json,
  JsonObject,
  Remaining,
  Settled,
} from "./results.js";
import { denial, explain } from "./results.js";

/** An HTTP answer; header names are lower case. */
export interface Reply {
  readonly status: number;
  readonly header: (name: string) => string | null;
  readonly content: string;
}

function parse(content: string): unknown {
  try {
    return JSON.parse(content);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads an answer as it is. Throws NoburnError for a failure, and for what is no JSON object. */
export function answer(reply: Reply): JsonObject {
  if (reply.status < 200 || reply.status >= 300) throw failure(reply);
  const value = parse(reply.content);
  if (!isObject(value)) {
    const type = reply.header("content-type") ?? "unknown type";
    throw new NoburnError(
      `Expected a JSON object from noburn, got ${reply.content.length} characters of ${type} with status ` +
        `${reply.status}; check NOBURN_BASE_URL`,
      { status: reply.status },
    );
  }
  return value;
}

/** An amount as it is written; null for what is none, as a number, which would not be exact. */
export function amountOf(value: unknown): string | null {
  return typeof value === "string" && /^-?[0-9]+(\.[0-9]+)?$/.test(value) ? value : null;
}

export function timeOf(value: unknown): Date | null {
  if (typeof value !== "string") return null;
  const found = new Date(value);
  return Number.isNaN(found.getTime()) ? null : found;
}

export function wholeOf(value: unknown): number | null {
  return typeof value === "number" && Number.isSafeInteger(value) ? value : null;
}

export function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

export function objectOf(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function objectsOf(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function warningsOf(value: JsonObject): readonly Json[] {
  return Array.isArray(value.warnings) ? value.warnings : [];
}

function budgetOf(value: JsonObject): BudgetState {
  return {
    id: textOf(value.id) ?? "",
    scope: textOf(value.scope) ?? "",
    subject: textOf(value.subject),
    window: textOf(value.window),
    limitUsd: amountOf(value.limit_usd),
    remainingUsd: amountOf(value.remaining_usd),
    resetsAt: timeOf(value.resets_at),
    raw: value,
  };
}

/** What changed the model of a call, in words; null where it is the one that was asked for. */
function reroutedOf(value: JsonObject): string | null {
  if (isObject(value.downgrade)) return `budget ${textOf(value.downgrade.budget) ?? ""}`;
  const policy = value.policy;
  if (isObject(policy) && policy.asked_model !== value.model) {
    return `policy ${textOf(policy.id) ?? ""}: ${textOf(policy.rule) ?? ""}`;
  }
  return null;
}

/** Reads the answer of a pre-flight. Throws NoburnError for a failure, never for a refusal. */
export function decision(reply: Reply): Allowed | Denied {
  const value = answer(reply);
  if (value.decision === "allow") {
    const hold = objectOf(value.hold);
    return {
      decision: "allow",
      authorization: textOf(value.authorization),
      holdId: textOf(hold.id),
      amountUsd: amountOf(hold.amount_usd ?? value.estimate_usd),
      expiresAt: timeOf(hold.expires_at),
      model: textOf(value.model) ?? "",
      maxOutputTokens: wholeOf(value.max_output_tokens),
      budgets: objectsOf(value.budgets).map(budgetOf),
      warnings: warningsOf(value),
      rerouted: reroutedOf(value),
      raw: value,
    };
  }
  if (value.decision === "deny") {
    return denial({
      reason: textOf(value.reason) ?? "",
      estimateUsd: amountOf(value.estimate_usd),
      fitsMaxOutputTokens: wholeOf(value.fits_max_output_tokens),
      budget: isObject(value.budget) ? budgetOf(value.budget) : null,
      alternatives: objectsOf(value.alternatives).map((item) => ({
        model: textOf(item.model) ?? "",
        estimateUsd: amountOf(item.estimate_usd),
      })),
      retryAfterMs: wholeOf(value.retry_after_ms),
      detail: textOf(value.detail),
      raw: value,
    });
  }
  // An unknown answer must never let a call through.
  throw new NoburnError(
    `noburn answered an unknown decision ${JSON.stringify(value.decision)}; update @noburn/sdk`,
  );
}

/** Returns the error that a refusal is thrown as. */
export function refusal(denied: Denied, model: string, provider?: string): NoburnError {
  if (denied.reason === "price_unknown") return new PriceUnknownError(explain(denied), { model, provider });
  return new BudgetExceededError(denied);
}

export function settledOf(value: JsonObject): Settled {
  return {
    costUsd: amountOf(value.cost_usd),
    releasedUsd: amountOf(value.released_usd),
    overrunUsd: amountOf(value.overrun_usd) ?? "0",
    replayed: value.replayed === true,
    state: textOf(value.state) ?? "",
    late: value.late === true,
    warnings: warningsOf(value),
    raw: value,
  };
}

/** Reads the answer of a settle or a void. Throws NoburnError. */
export function settled(reply: Reply): Settled {
  return settledOf(answer(reply));
}

/** Returns for an item of a batch the error that it is, or null. */
export function failureOfItem(item: JsonObject, reply: Reply): NoburnError | null {
  const problem = isObject(item.problem) ? item.problem : item;
  const status = wholeOf(problem.status);
  return status !== null && status >= 400 ? failureOf(status, problem, reply) : null;
}

/** Reads the answer of a batch, item by item in order. Throws NoburnError when the whole batch failed. */
export function settledBatch(reply: Reply, count: number): (Settled | NoburnError)[] {
  const items = objectsOf(answer(reply).results);
  if (items.length !== count) {
    throw new NoburnError(`noburn answered ${items.length} items of a batch of ${count}`, {
      status: reply.status,
    });
  }
  return items.map((item) => failureOfItem(item, reply) ?? settledOf(item));
}

/** Reads the answer of an extend. Throws NoburnError, ConflictError for a hold of a closed epoch. */
export function extended(reply: Reply, hold: Allowed | Extended): Extended {
  const value = answer(reply);
  const longer = objectOf(value.hold);
  return {
    holdId: textOf(longer.id) ?? String(hold.holdId),
    expiresAt: timeOf(longer.expires_at),
    authorization: textOf(value.authorization) ?? String(hold.authorization),
    raw: value,
  };
}

/** Reads the answer of `remaining`. Throws NoburnError. */
export function remaining(reply: Reply): Remaining {
  const value = answer(reply);
  const budgets = objectsOf(value.budgets).map(budgetOf);
  const left = budgets.map((one) => one.remainingUsd).filter((usd): usd is string => usd !== null);
  return { budgets, remainingUsd: leastUsd(left), raw: value };
}

/** Returns the milliseconds that a Retry-After header names; a date there is not read. */
export function retryAfterMs(reply: Reply): number | null {
  const text = reply.header("retry-after");
  const seconds = text === null || text.trim() === "" ? Number.NaN : Number(text);
  return seconds >= 0 && seconds < 86_400 ? seconds * 1000 : null;
}

/** Returns the error for an answer that is no success, read as problem+json where it is that. */
export function failure(reply: Reply): NoburnError {
  return failureOf(reply.status, objectOf(parse(reply.content)), reply, retryAfterMs(reply));
}

function failureOf(
  status: number,
  problem: JsonObject,
  reply: Reply,
  after: number | null = null,
): NoburnError {
  const title = textOf(problem.title) ?? `noburn answered ${status}`;
  const detail = textOf(problem.detail);
  const type = (textOf(problem.type) ?? "").replace(/\/+$/, "");
  const kind = textOf(problem.code) ?? type.slice(type.lastIndexOf("/") + 1);
  const code = kind === "about:blank" ? "" : kind.replace(/\.md$/, "").replaceAll("-", "_");
  let message = detail !== null && detail !== title ? `${title}: ${detail}` : title;
  if (code) message += ` (${code})`;
  const named = textOf(problem.instance) ?? reply.header("x-request-id") ?? "";
  const requestId = named.replace(/^urn:request:/, "") || undefined;
  const options = { status, requestId };
  if (status === 401 || status === 403) return new AuthenticationError(message, options);
  if (status === 409) return new ConflictError(message, { code, ...options });
  if (status === 429 || status >= 500)
    return new UnavailableError(message, { retryAfterMs: after, ...options });
  if (status >= 400) {
    return new InvalidRequestError(message, { errors: fieldErrors(problem.errors), ...options });
  }
  return new NoburnError(message, options);
}

/** Returns a problem's `errors` by field: a mapping, or a list of objects with a field or JSON pointer. */
function fieldErrors(value: unknown): Record<string, string> {
  const found: Record<string, string> = {};
  if (isObject(value)) {
    for (const [name, text] of Object.entries(value)) {
      found[name] = Array.isArray(text) ? text.map(String).join("; ") : String(text);
    }
  }
  for (const item of objectsOf(value)) {
    const pointer = (textOf(item.pointer) ?? "").replace(/^[#/]+/, "").replaceAll("/", ".");
    const name = textOf(item.field) || pointer || "body";
    found[name] = textOf(item.detail) || textOf(item.message) || "is invalid";
  }
  return found;
}
