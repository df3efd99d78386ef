/**
 * What a call used, in noburn's names, and how each provider's names become them.
 *
 * Here `inputTokens` is the whole input: cache reads, cache writes and audio are parts of it, as hour-long writes are part of
 * all writes. `outputTokens` includes reasoning and audio. Anthropic's own `input_tokens` leave the cache out, so they are
 * added up; OpenAI's already include it.
 */

import { InvalidRequestError } from "./errors.js";
import type { JsonObject } from "./results.js";

/** Counts of one call, whole numbers from 0. What is not named is 0. */
export interface Usage {
  readonly inputTokens?: number;
  readonly outputTokens?: number;
  readonly cacheReadTokens?: number;
  readonly cacheWriteTokens?: number;
  readonly cacheWrite1hTokens?: number;
  readonly reasoningTokens?: number;
  readonly audioInputTokens?: number;
  readonly audioOutputTokens?: number;
  readonly images?: number;
  readonly toolCalls?: Readonly<Record<string, number>>;
  readonly serviceTier?: string | null;
  /** What few models charge for, by the price book's names: `input_image_tokens`, `input_characters`. */
  readonly units?: Readonly<Record<string, number>>;
}

const COUNTS = {
  inputTokens: "input_tokens",
  outputTokens: "output_tokens",
  cacheReadTokens: "cache_read_tokens",
  cacheWriteTokens: "cache_write_tokens",
  cacheWrite1hTokens: "cache_write_1h_tokens",
  reasoningTokens: "reasoning_tokens",
  audioInputTokens: "audio_input_tokens",
  audioOutputTokens: "audio_output_tokens",
  images: "images",
} as const;
type CountName = keyof typeof COUNTS;
const COUNT_NAMES = Object.keys(COUNTS) as CountName[];
const NAMES: ReadonlySet<string> = new Set([...COUNT_NAMES, "toolCalls", "serviceTier", "units"]);
const WIRE_NAMES: ReadonlyMap<string, keyof Usage> = new Map<string, keyof Usage>([
  ...COUNT_NAMES.map((name) => [COUNTS[name], name] as const),
  ["tool_calls", "toolCalls"],
  ["service_tier", "serviceTier"],
  ["units", "units"],
]);

const RESPONSES_TOOLS: Readonly<Record<string, string>> = {
  web_search_call: "web_search",
  file_search_call: "file_search",
  code_interpreter_call: "code_execution",
};

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Checks a usage whole and returns it. Throws InvalidRequestError naming every bad count. */
export function checkUsage(usage: Usage): Usage {
  const errors: Record<string, string> = {};
  const bad = "must be a whole number of at least 0";
  for (const name of COUNT_NAMES) {
    if (usage[name] !== undefined && !isCount(usage[name])) errors[name] = bad;
  }
  for (const group of ["toolCalls", "units"] as const) {
    for (const [name, count] of Object.entries(usage[group] ?? {})) {
      if (!isCount(count)) errors[`${group}.${name}`] = bad;
    }
  }
  if (Object.keys(errors).length === 0) {
    const { inputTokens = 0, outputTokens = 0, cacheReadTokens = 0, cacheWriteTokens = 0 } = usage;
    if (cacheReadTokens + cacheWriteTokens > inputTokens) {
      errors.inputTokens = "must contain the cache reads and writes";
    }
    if ((usage.cacheWrite1hTokens ?? 0) > cacheWriteTokens) {
      errors.cacheWrite1hTokens = "must be part of cacheWriteTokens";
    }
    if ((usage.reasoningTokens ?? 0) > outputTokens) errors.reasoningTokens = "must be part of outputTokens";
  }
  if (Object.keys(errors).length > 0) throw new InvalidRequestError("The usage is invalid", { errors });
  return usage;
}

/** Returns the JSON object that a settle carries; parts that are 0 are left out. Throws InvalidRequestError. */
export function usageToWire(usage: Usage): JsonObject {
  checkUsage(usage);
  const wire: Record<string, number | string | Record<string, number>> = {
    input_tokens: usage.inputTokens ?? 0,
    output_tokens: usage.outputTokens ?? 0,
  };
  for (const name of COUNT_NAMES) {
    const count = usage[name];
    if (count) wire[COUNTS[name]] = count;
  }
  if (usage.toolCalls && Object.keys(usage.toolCalls).length > 0) wire.tool_calls = { ...usage.toolCalls };
  if (usage.units && Object.keys(usage.units).length > 0) wire.units = { ...usage.units };
  if (usage.serviceTier != null) wire.service_tier = usage.serviceTier;
  return wire;
}

/** Reads a field of an object; undefined where there is none. */
export function read(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Record<string, unknown>)[name];
}

function count(value: unknown, ...names: string[]): number {
  const found = names.reduce(read, value);
  return typeof found === "number" ? found : 0;
}

/**
 * Returns [usage, whole answer or undefined] of an answer or of its bare usage.
 *
 * Throws InvalidRequestError for an answer without usage, such as a stream that never asked for it: guessing zero would let
 * the call go unpaid.
 */
function split(value: unknown): [unknown, unknown] {
  const inner = read(value, "usage");
  if (inner != null) return [inner, value];
  if (value == null || read(value, "object") != null || read(value, "id") != null) {
    throw new InvalidRequestError("The answer carries no usage", { errors: { usage: "is missing" } });
  }
  return [value, undefined];
}

function tierOf(used: unknown, whole: unknown): { serviceTier?: string } {
  const tier = read(whole, "service_tier") || read(used, "service_tier");
  // Anthropic's "standard" is everybody else's "default".
  if (tier === "standard") return { serviceTier: "default" };
  return typeof tier === "string" ? { serviceTier: tier } : {};
}

function needs(used: unknown, name: string, what: string): void {
  if (typeof read(used, name) !== "number") {
    throw new InvalidRequestError(`Not ${what}`, { errors: { [name]: "is missing" } });
  }
}

/** Reads a chat completion, a usage chunk, or its `usage`. Throws InvalidRequestError. */
export function fromOpenaiChat(value: unknown): Usage {
  const [used, whole] = split(value);
  needs(used, "prompt_tokens", "a chat usage");
  return checkUsage({
    inputTokens: count(used, "prompt_tokens"),
    outputTokens: count(used, "completion_tokens"),
    cacheReadTokens: count(used, "prompt_tokens_details", "cached_tokens"),
    cacheWriteTokens: count(used, "prompt_tokens_details", "cache_write_tokens"),
    reasoningTokens: count(used, "completion_tokens_details", "reasoning_tokens"),
    audioInputTokens: count(used, "prompt_tokens_details", "audio_tokens"),
    audioOutputTokens: count(used, "completion_tokens_details", "audio_tokens"),
    ...tierOf(used, whole),
  });
}

/** Reads an embeddings answer or its `usage`, which counts input alone. Throws InvalidRequestError. */
export function fromEmbeddings(value: unknown): Usage {
  const [used] = split(value);
  needs(used, "prompt_tokens", "an embeddings usage");
  return checkUsage({ inputTokens: count(used, "prompt_tokens") });
}

/** Reads a response or its `usage`. Tools are counted from the response's output items, if it is whole. */
export function fromOpenaiResponses(value: unknown): Usage {
  const [used, whole] = split(value);
  needs(used, "input_tokens", "a Responses usage");
  const tools: Record<string, number> = {};
  const output = read(whole, "output");
  for (const item of Array.isArray(output) ? output : []) {
    const name = RESPONSES_TOOLS[String(read(item, "type"))];
    if (name !== undefined) tools[name] = (tools[name] ?? 0) + 1;
  }
  return checkUsage({
    inputTokens: count(used, "input_tokens"),
    outputTokens: count(used, "output_tokens"),
    cacheReadTokens: count(used, "input_tokens_details", "cached_tokens"),
    cacheWriteTokens: count(used, "input_tokens_details", "cache_write_tokens"),
    reasoningTokens: count(used, "output_tokens_details", "reasoning_tokens"),
    toolCalls: tools,
    ...tierOf(used, whole),
  });
}

/**
 * Reads a message or its `usage`; for a stream, that of `message_start` and `delta` of `message_delta`.
 *
 * The delta's counts are cumulative and win, but it omits the split of cache writes by life, which the start keeps.
 */
export function fromAnthropic(value: unknown, delta?: unknown): Usage {
  const [used, whole] = split(value);
  const late = delta == null ? undefined : split(delta)[0];
  needs(used, "input_tokens", "a Messages usage");
  const latest = (...names: string[]): number => {
    for (const source of [late, used]) {
      const found = names.reduce(read, source);
      if (typeof found === "number") return found;
    }
    return 0;
  };
  const reads = latest("cache_read_input_tokens");
  const written = latest("cache_creation_input_tokens");
  const searches = latest("server_tool_use", "web_search_requests");
  return checkUsage({
    inputTokens: latest("input_tokens") + reads + written,
    outputTokens: latest("output_tokens"),
    cacheReadTokens: reads,
    cacheWriteTokens: written,
    cacheWrite1hTokens: Math.min(latest("cache_creation", "ephemeral_1h_input_tokens"), written),
    reasoningTokens: latest("output_tokens_details", "thinking_tokens"),
    toolCalls: searches ? { web_search: searches } : {},
    ...tierOf(used, whole),
  });
}

/** Reads any of the above by its shape, and noburn's own form, in this package's names or the wire's. */
export function normalise(value: unknown): Usage {
  if (typeof value === "object" && value !== null) {
    const names = Object.keys(value);
    if (names.length > 0 && names.every((name) => NAMES.has(name))) return checkUsage(value as Usage);
    if (names.length > 0 && names.every((name) => WIRE_NAMES.has(name)) && !isForeign(value)) {
      const own = Object.fromEntries(
        Object.entries(value).map(([name, found]) => [WIRE_NAMES.get(name) ?? name, found]),
      );
      return checkUsage(own as Usage);
    }
  }
  const [used] = split(value);
  if (typeof read(used, "prompt_tokens") === "number") return fromOpenaiChat(value);
  if (typeof read(used, "input_tokens") === "number") {
    return read(used, "input_tokens_details") == null ? fromAnthropic(value) : fromOpenaiResponses(value);
  }
  throw new InvalidRequestError("Unknown kind of usage", {
    errors: { usage: `cannot read ${value === null ? "null" : typeof value}` },
  });
}

/** A bare usage of Anthropic's or OpenAI's that has no field but those which are named alike. */
function isForeign(value: object): boolean {
  // Bare input and output tokens mean the same in all three forms; a tier of Anthropic's does not.
  return read(value, "service_tier") === "standard";
}
