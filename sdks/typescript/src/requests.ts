/** Requests to noburn, validated whole and built without sending anything. */

import { InvalidRequestError } from "./errors.js";
import { type Amount, readAmount, toUsd } from "./money.js";
import type { Allowed, Extended, Json, JsonObject } from "./results.js";
import { normalise, read, type Usage, usageToWire } from "./usage.js";

export const WAIT_MS_MAX = 10_000;
export const BATCH_MAX = 1_000;
export const TAGS_MAX = 10;
export const TTL_SECONDS_MAX = 900;
const LATENCY_MS_MAX = 2 ** 31 - 1;

export type Outcome = "ok" | "error" | "cut";

/** What resolves a hold: the answer of its pre-flight or of its last extend, or their `authorization`. */
export type Authorization = Allowed | Extended | string;

/** One HTTP request. Its text and key stay the same over every retry, so that a replay is a replay. */
export interface Request {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: string;
  readonly idempotencyKey?: string;
  /** How long the server may take beyond the usual, since it was asked to wait. */
  readonly waitMs: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a pre-flight may say beside model and input; everything is optional. */
export interface CallOptions {
  /** Cap of the call's output. Without one the tenant's default applies: use the cap of the answer. */
  readonly maxOutputTokens?: number | undefined;
  /** Needed only where several providers offer the model. */
  readonly provider?: string | undefined;
  readonly customer?: string | undefined;
  readonly user?: string | undefined;
  readonly project?: string | undefined;
  readonly run?: string | undefined;
  readonly plan?: string | undefined;
  /** At most ten. */
  readonly tags?: Readonly<Record<string, string>> | undefined;
  /** How many completions the call asks for. */
  readonly n?: number | undefined;
  /** How long the hold lives, 1 to 900; what is never settled is presumed spent after it. */
  readonly ttlSeconds?: number | undefined;
  /** How long the server may wait for holds in flight, 0 to 10,000; 0 also ends waiting on this side. */
  readonly waitMs?: number | undefined;
  /** Lower `maxOutputTokens` to what fits instead of refusing. */
  readonly fit?: boolean | undefined;
  /** Decide without placing a hold. */
  readonly dryRun?: boolean | undefined;
  /** Your own estimate, for tools and models without a price; settle such a call with its `costUsd`. */
  readonly costUsd?: Amount | undefined;
  readonly cachedInputTokens?: number | undefined;
  readonly images?: number | undefined;
  /** Whether audio goes in or out, which many models charge more for. */
  readonly audio?: boolean | undefined;
  /** Uses of the provider's own tools, by name. */
  readonly tools?: Readonly<Record<string, number>> | undefined;
  /** Equal for equal requests, so that a retry loop can be noticed. */
  readonly fingerprint?: string | undefined;
  readonly serviceTier?: string | undefined;
  /** What the call is for, such as `extract`: rules of policies may choose its model by that. */
  readonly task?: string | undefined;
  /** What it is to write, for such rules: text, json, or schema for JSON by a strict schema. */
  readonly output?: string | undefined;
  /** How many messages or steps it goes through, for such rules. */
  readonly steps?: number | undefined;
  /** Models to try after `model`, in order: the first that policies and budgets allow is in the answer. */
  readonly models?: readonly string[] | undefined;
  readonly idempotencyKey?: string | undefined;
}

/** A question whether a call may be made. */
export interface PreflightOptions extends CallOptions {
  readonly model: string;
  readonly inputTokens: number;
}

/** One settle of a batch. `usage` null means unknown: the hold is presumed spent, correctably. */
export interface Settlement {
  readonly authorization: Authorization;
  /** A Usage, noburn's form on the wire, or a provider's answer or usage. */
  readonly usage: Usage | unknown | null;
  readonly model?: string | undefined;
  readonly outcome?: Outcome | undefined;
  readonly latencyMs?: number | undefined;
  /** What the call cost where the price book cannot tell. */
  readonly costUsd?: Amount | undefined;
}

type Errors = Record<string, string>;

const SUBJECT = ["project", "customer", "user", "run", "plan"] as const;
const PLAIN = {
  provider: "provider",
  maxOutputTokens: "max_output_tokens",
  tags: "tags",
  ttlSeconds: "ttl_seconds",
  cachedInputTokens: "cached_input_tokens",
  images: "images",
  tools: "tools",
  fingerprint: "fingerprint",
  serviceTier: "service_tier",
  task: "task",
  output: "output",
  steps: "steps",
} as const;
const TEXTS = [...SUBJECT, "provider", "fingerprint", "serviceTier", "task", "idempotencyKey"] as const;
const COUNTS: readonly (readonly [keyof PreflightOptions, number, number | undefined])[] = [
  ["maxOutputTokens", 1, undefined],
  ["cachedInputTokens", 0, undefined],
  ["images", 0, undefined],
  ["steps", 0, undefined],
  ["n", 1, undefined],
  ["ttlSeconds", 1, TTL_SECONDS_MAX],
  ["waitMs", 0, WAIT_MS_MAX],
];

/** Checks a question whole and returns it. Throws InvalidRequestError naming every bad field. */
export function checkPreflight(asked: PreflightOptions): PreflightOptions {
  const errors: Errors = {};
  if (typeof asked.model !== "string" || !asked.model) errors.model = "must be the name of a model";
  checkCount(errors, "inputTokens", asked.inputTokens, 0);
  for (const [name, least, most] of COUNTS) {
    if (asked[name] !== undefined) checkCount(errors, name, asked[name], least, most);
  }
  for (const name of TEXTS) checkText(errors, name, asked[name]);
  checkTags(errors, asked.tags);
  for (const [name, count] of Object.entries(asked.tools ?? {}))
    checkCount(errors, `tools.${name}`, count, 0);
  checkAmount(errors, "costUsd", asked.costUsd);
  if (asked.output !== undefined && !["text", "json", "schema"].includes(asked.output)) {
    errors.output = "must be text, json or schema";
  }
  if (!(asked.models ?? []).every((name) => typeof name === "string" && name)) {
    errors.models = "must be names of models";
  }
  throwAny("The pre-flight is invalid", errors);
  return asked;
}

/** Returns a pre-flight's JSON object; `waitMs` is what the client decided on. */
export function preflightToWire(asked: PreflightOptions, waitMs: number): JsonObject {
  const body: Record<string, Json> = { model: asked.model, input_tokens: asked.inputTokens };
  for (const [name, wire] of Object.entries(PLAIN)) {
    const value = asked[name as keyof typeof PLAIN];
    if (value !== undefined) body[wire] = typeof value === "object" ? { ...value } : value;
  }
  if (asked.n !== undefined && asked.n !== 1) body.n = asked.n;
  if (asked.audio) body.audio = true;
  if (asked.fit) body.fit = true;
  if (asked.dryRun) body.dry_run = true;
  if (asked.models !== undefined && asked.models.length > 0) body.models = [...asked.models];
  if (asked.costUsd !== undefined) body.cost_usd = amountText(asked.costUsd);
  const subject: Record<string, string> = {};
  for (const name of SUBJECT) if (asked[name] !== undefined) subject[name] = asked[name];
  if (Object.keys(subject).length > 0) body.subject = subject;
  if (waitMs) body.wait_ms = waitMs;
  return body;
}

/** Returns the request of a question. */
export function preflight(asked: PreflightOptions, waitMs: number): Request {
  return post("/v1/preflight", preflightToWire(asked, waitMs), asked.idempotencyKey, waitMs);
}

/** Returns an amount as the wire has it. */
export function amountText(usd: Amount): string {
  return toUsd(readAmount(usd) ?? 0n);
}

/** Throws InvalidRequestError where something is wrong. */
export function throwAny(message: string, errors: Errors): void {
  if (Object.keys(errors).length > 0) throw new InvalidRequestError(message, { errors });
}

/** Notes a count that is none. */
export function checkCount(errors: Errors, name: string, value: unknown, least: number, most?: number): void {
  const whole = typeof value === "number" && Number.isSafeInteger(value);
  if (!whole || value < least || (most !== undefined && value > most)) {
    errors[name] = `must be a whole number from ${least}${most === undefined ? " upward" : ` to ${most}`}`;
  }
}

/** Notes a text that is none, or empty. */
export function checkText(errors: Errors, name: string, value: unknown): void {
  if (value !== undefined && (typeof value !== "string" || !value)) {
    errors[name] = "must be a text that is not empty";
  }
}

function checkTags(errors: Errors, tags: unknown): void {
  if (tags === undefined) return;
  const values = typeof tags === "object" && tags !== null ? Object.values(tags) : [undefined];
  if (values.length > TAGS_MAX) errors.tags = `must be at most ${TAGS_MAX}`;
  if (!values.every((value) => typeof value === "string")) errors.tags = "must be texts";
}

/** Notes an amount that is none. */
export function checkAmount(errors: Errors, name: string, value: unknown): void {
  if (value === undefined) return;
  const nano = readAmount(value);
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    errors[name] = "must be a text or a whole number of USD; a fraction as a number is not exact";
  } else if (nano === null || nano < 0n) {
    errors[name] = "must be an amount in USD of at least 0 with at most nine places";
  }
}

/** Returns a key that no other request has: 32 hexadecimal digits. */
export function newKey(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** Returns a POST with an Idempotency-Key, a new one unless given. */
export function post(path: string, body: JsonObject, key?: string, waitMs = 0): Request {
  return { method: "POST", path, body: JSON.stringify(body), idempotencyKey: key ?? newKey(), waitMs };
}

function tokenOf(authorization: Authorization): string {
  const token = typeof authorization === "string" ? authorization : authorization?.authorization;
  if (typeof token !== "string" || !token) {
    throw new InvalidRequestError("Nothing to resolve", {
      errors: { authorization: "must be an authorization; a dry run has none to settle" },
    });
  }
  return token;
}

/** Returns the JSON object of a settlement. Throws InvalidRequestError. */
export function settlementToWire(item: Settlement): JsonObject {
  const usage = item.usage == null ? null : usageToWire(normalise(item.usage));
  const errors: Errors = {};
  if (!["ok", "error", "cut"].includes(item.outcome ?? "ok")) errors.outcome = "must be ok, error or cut";
  checkAmount(errors, "costUsd", item.costUsd);
  throwAny("The settle is invalid", errors);
  // A provider's whole answer names the exact model that it ran.
  const model = item.model ?? read(item.usage, "model");
  const wire: Record<string, Json> = {
    authorization: tokenOf(item.authorization),
    usage,
    outcome: item.outcome ?? "ok",
  };
  if (typeof model === "string") wire.model = model;
  if (item.latencyMs !== undefined) {
    wire.latency_ms = Math.min(Math.max(Math.trunc(item.latencyMs), 0), LATENCY_MS_MAX);
  }
  if (item.costUsd !== undefined) wire.cost_usd = amountText(item.costUsd);
  return wire;
}

/** Returns the request that settles one hold. */
export function settle(item: Settlement, key?: string): Request {
  return post("/v1/settle", settlementToWire(item), key);
}

/** Returns the request that settles up to 1,000 holds. Throws InvalidRequestError for none or more. */
export function settleBatch(items: readonly Settlement[], key?: string): Request {
  if (items.length < 1 || items.length > BATCH_MAX) {
    throw new InvalidRequestError("The batch is invalid", {
      errors: { settlements: `must be 1 to ${BATCH_MAX}, are ${items.length}` },
    });
  }
  return post("/v1/settle/batch", { settlements: items.map(settlementToWire) }, key);
}

/** Returns the request that frees a hold whose call never reached the provider. */
export function voiding(authorization: Authorization, key?: string): Request {
  return post("/v1/void", { authorization: tokenOf(authorization) }, key);
}

/** Returns the request that lengthens a hold's life. Throws InvalidRequestError, for a dry run's too. */
export function extend(hold: Allowed | Extended, ttlSeconds: number, key?: string): Request {
  const errors: Errors = {};
  checkCount(errors, "ttlSeconds", ttlSeconds, 1, TTL_SECONDS_MAX);
  if (!hold?.holdId || !hold.authorization) {
    errors.hold = "must be what preflight or extend returned; a dry run holds nothing";
  }
  throwAny("The extension is invalid", errors);
  const body = { authorization: hold.authorization, ttl_seconds: ttlSeconds };
  return post(`/v1/holds/${encodeURIComponent(String(hold.holdId))}/extend`, body, key);
}

/** Whom `remaining` asks about. */
export interface Subjects {
  readonly customer?: string | undefined;
  readonly user?: string | undefined;
  readonly project?: string | undefined;
  readonly run?: string | undefined;
  readonly plan?: string | undefined;
  readonly provider?: string | undefined;
  readonly model?: string | undefined;
}

/** Returns the request for what these subjects have left. */
export function remaining(subjects: Subjects): Request {
  const named = Object.entries(subjects).filter(
    (pair): pair is [string, string] => typeof pair[1] === "string",
  );
  const query = new URLSearchParams(named).toString();
  return { method: "GET", path: `/v1/remaining${query ? `?${query}` : ""}`, waitMs: 0 };
}

/** Returns the request for prices, conditional where an older copy is held. */
export function prices(provider: string | undefined, etag: string | undefined): Request {
  const query = provider === undefined ? "" : `?${new URLSearchParams({ provider })}`;
  return {
    method: "GET",
    path: `/v1/prices${query}`,
    waitMs: 0,
    ...(etag === undefined ? {} : { headers: { "If-None-Match": etag } }),
  };
}
