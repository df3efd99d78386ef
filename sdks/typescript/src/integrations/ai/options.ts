/** Provider options: noburn's own, which never reach a provider, and what the others' change in a call's bound. */

import type { Attribution } from "../../attribution.js";
import { InvalidRequestError } from "../../errors.js";
import { countOf, type Fields, fieldsOf, jsonOf } from "./spec.js";

const TEXTS = ["customer", "user", "run", "project", "plan", "provider", "task"] as const;
const WHOLE = ["maxInputTokens", "maxOutputTokens"] as const;

/** What a call says in `providerOptions.noburn`: whom it is for, and how it is asked about. */
export interface NoburnOptions extends Attribution {
  /** Lower the output cap to what fits instead of refusing. */
  readonly fit?: boolean | undefined;
  /** How long to wait for holds in flight. */
  readonly waitMs?: number | undefined;
}

/** Returns what a call's `providerOptions.noburn` say. Throws InvalidRequestError naming every bad field. */
export function noburnOptions(providerOptions: unknown): NoburnOptions {
  const given = fieldsOf(providerOptions).noburn;
  if (given === undefined || given === null) return {};
  const said: Fields = {};
  const errors: Record<string, string> = {};
  for (const [name, value] of Object.entries(fieldsOf(given))) {
    if (value === undefined || value === null) continue;
    const bad = problemOf(name, value);
    if (bad === undefined) said[name] = value;
    else errors[`providerOptions.noburn.${name}`] = bad;
  }
  if (Object.keys(errors).length > 0)
    throw new InvalidRequestError("The call's noburn options are invalid", { errors });
  return said as NoburnOptions;
}

function problemOf(name: string, value: unknown): string | undefined {
  if ((TEXTS as readonly string[]).includes(name)) {
    return typeof value === "string" && value ? undefined : "must be a text";
  }
  if ((WHOLE as readonly string[]).includes(name))
    return countOf(value) ? undefined : "must be a whole number of at least 1";
  if (name === "waitMs")
    return countOf(value) === undefined ? "must be a whole number of at least 0" : undefined;
  if (name === "fit") return typeof value === "boolean" ? undefined : "must be true or false";
  if (name === "costUsd")
    return typeof value === "string" || typeof value === "bigint" ? undefined : "must be USD as a text";
  if (name === "tags") {
    const tags = Object.values(fieldsOf(value));
    return tags.every((tag) => typeof tag === "string") && typeof value === "object"
      ? undefined
      : "must be texts by name";
  }
  return `unknown; known are ${[...TEXTS, "costUsd", "tags", ...WHOLE, "fit", "waitMs"].join(", ")}`;
}

/** Returns a call's options without noburn's own. */
export function stripped<T extends Fields>(options: T): T {
  const given = options.providerOptions;
  if (typeof given !== "object" || given === null || !("noburn" in given)) return options;
  const { noburn: _, ...rest } = given as Fields;
  return { ...options, providerOptions: Object.keys(rest).length > 0 ? rest : undefined };
}

/** Every provider's options but noburn's. */
export function foreign(options: Fields): Fields[] {
  return Object.entries(fieldsOf(options.providerOptions))
    .filter(([name]) => name !== "noburn")
    .map(([, own]) => fieldsOf(own));
}

/** Where a provider's options may carry an output cap of their own. */
const CAPS = [
  "maxCompletionTokens",
  "max_completion_tokens",
  "maxTokens",
  "max_tokens",
  "maxOutputTokens",
  "max_output_tokens",
];

/** Returns the largest of the output caps that a call names; undefined where it names none. */
export function capOf(options: Fields): number | undefined {
  const caps = [countOf(options.maxOutputTokens)];
  for (const own of foreign(options)) for (const name of CAPS) caps.push(countOf(own[name]));
  return caps.reduce((most, cap) => (cap === undefined ? most : Math.max(most ?? 0, cap)), undefined);
}

/** Where OpenAI's chats may have a cap beside the AI SDK's; both in one request are refused. */
const OWN_CAPS = ["maxCompletionTokens", "max_completion_tokens"];

/** Returns a call's options with this output cap: where every provider looks for it, and wherever the call named one. */
export function withCap<T extends Fields>(options: T, cap: number, provider: string): T {
  const made: Fields = { ...options };
  const [maker = ""] = provider.split(".");
  let instead = false;
  const changed: Fields = {};
  for (const [name, value] of Object.entries(fieldsOf(options.providerOptions))) {
    const own = fieldsOf(value);
    const found = CAPS.filter((one) => name !== "noburn" && countOf(own[one]) !== undefined);
    const reads = name === maker || (name === "openai" && maker.startsWith("azure"));
    instead ||= reads && /^(?:openai|azure)/.test(maker) && found.some((one) => OWN_CAPS.includes(one));
    changed[name] =
      found.length > 0 ? { ...own, ...Object.fromEntries(found.map((one) => [one, cap])) } : value;
  }
  if (options.providerOptions !== undefined) made.providerOptions = changed;
  if (!instead || countOf(options.maxOutputTokens) !== undefined) made.maxOutputTokens = cap;
  return made as T;
}

/** What is added to the request's cap for thinking: Anthropic's package and Bedrock's do that. */
const LEVELS: Readonly<Record<string, number>> = {
  minimal: 0.02,
  low: 0.1,
  medium: 0.3,
  high: 0.6,
  xhigh: 0.9,
  max: 0.9,
};
const THINKING_LEAST = 1_024;
/** The longest answer of any Claude, of which ai 7's `reasoning` takes a part. */
const OUTPUT_MOST = 128_000;

/** Returns the tokens that a Claude's provider adds to the output cap for thinking. */
export function thinkingOf(options: Fields): number {
  let most = 0;
  let said = false;
  for (const own of foreign(options)) {
    for (const name of ["thinking", "reasoningConfig"]) {
      const found = fieldsOf(own[name]);
      if (found.type === undefined) continue;
      said = true;
      if (found.type === "enabled") most = Math.max(most, countOf(found.budgetTokens) ?? THINKING_LEAST);
    }
    said ||= own.effort !== undefined;
  }
  const level = LEVELS[String(options.reasoning)];
  if (said || level === undefined) return most;
  return Math.max(THINKING_LEAST, Math.round(OUTPUT_MOST * level));
}

/** Whether a Claude may be told to think, which takes some input. */
export function thinks(options: Fields): boolean {
  const level = options.reasoning;
  if (level !== undefined && level !== "none" && level !== "provider-default") return true;
  return foreign(options).some((own) =>
    ["thinking", "reasoningConfig", "effort"].some((name) => own[name] !== undefined),
  );
}

/** What no provider reads into the prompt, by the names in the AI SDK's packages. */
const SILENT = new Set([
  ...CAPS,
  "allowedTools",
  "anthropicBeta",
  "betas",
  "cacheControl",
  "cachePoint",
  "citations",
  "contextManagement",
  "disableParallelToolUse",
  "effort",
  "fit",
  "forceReasoning",
  "imageDetail",
  "include",
  "inferenceGeo",
  "labels",
  "logitBias",
  "logprobs",
  "maxToolCalls",
  "metadata",
  "n",
  "parallelToolCalls",
  "passThroughUnsupportedFiles",
  "prediction",
  "previousResponseId",
  "promptCacheKey",
  "promptCacheOptions",
  "promptCacheRetention",
  "reasoning",
  "reasoningConfig",
  "reasoningEffort",
  "reasoningFormat",
  "reasoningSummary",
  "safetyIdentifier",
  "safetySettings",
  "sendReasoning",
  "serviceTier",
  "speed",
  "store",
  "strictJsonSchema",
  "structuredOutputMode",
  "structuredOutputs",
  "systemMessageMode",
  "taskBudget",
  "textVerbosity",
  "thinking",
  "thinkingConfig",
  "toolStreaming",
  "truncation",
  "user",
]);

/** Fields by which a body of the estimator's says what a call can use beside its prompt. */
const NOTED = [
  "audio",
  "cached_content",
  "container",
  "conversation",
  "inference_geo",
  "instructions",
  "max_tool_calls",
  "mcp_servers",
  "modalities",
  "n",
  "parallel_tool_calls",
  "plugins",
  "prediction",
  "previous_response_id",
  "prompt",
  "search_parameters",
  "service_tier",
  "speed",
  "web_search_options",
] as const;

/** Returns what provider options add to a body: what the estimator knows by name, and all else as text. */
export function noted(options: Fields): { fields: Fields; text: string } {
  const fields: Fields = {};
  const texts: string[] = [];
  for (const own of foreign(options)) {
    for (const [name, value] of Object.entries(own)) {
      if (value === undefined || value === null) continue;
      const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      if ((NOTED as readonly string[]).includes(snake)) fields[snake] = value;
      else if (!SILENT.has(name)) texts.push(jsonOf(value));
    }
  }
  return { fields, text: texts.join("\n") };
}

/** Says why other provider options leave a call without a bound; undefined where they do not. */
export function unbounded(options: Fields): string | undefined {
  for (const own of foreign(options)) {
    const others = own.fallbacks ?? own.models;
    if (Array.isArray(others) ? others.length > 0 : others === "default") {
      return "it may fall back to other models, whose prices are not asked about; let your own code fall back instead";
    }
  }
  return undefined;
}
