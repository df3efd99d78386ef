/**
 * Upper bounds of what a request to a provider can use, found in this process: prompts never leave it.
 *
 *     const found = estimate(body, { api: "openai.chat" });
 *     const call = await nb.preflight({ ...found.options(), customer: "acme" });
 *     const request = prepare(found, body, call);
 *
 * OpenAI's models are counted exactly by their public ranks, Claude by bounds that were measured, everything else by UTF-8
 * bytes, which no byte-level tokenizer exceeds; so are OpenAI's and Claude's where no entry `@noburn/sdk/tokens` was
 * imported. What is unknown makes a bound larger, never smaller, and `parts` says so.
 */

import { InvalidRequestError } from "../errors.js";
import * as anthropic from "./anthropic.js";
import { outputOf } from "./caps.js";
import { boundNano } from "./cost.js";
import { type Family, familyOf } from "./families.js";
import * as gemini from "./gemini.js";
import * as openai from "./openai.js";
import { responses } from "./responses.js";
import { Tally, type Total } from "./tally.js";
import { type Api, type Counts, Estimate, type EstimateFields, type Rates } from "./types.js";
import { full, isMapping, type Mapping, MisshapenError, plain, read } from "./values.js";

export { type Allowance, prepare } from "./caps.js";
export { boundNano, ratesFrom, UnpricedError } from "./cost.js";
export { type Encoding, type Tokenizer, useTokenizer } from "./ranks.js";
export { explain } from "./report.js";
export { shapeOf } from "./shape.js";
export { boundAnthropic, countChat, countText } from "./text.js";
export type { Units } from "./types.js";
export {
  type Api,
  type Counts,
  Estimate,
  type EstimatedOptions,
  type How,
  type Part,
  type Rates,
} from "./types.js";

const ADDERS: Readonly<Record<Api, (tally: Tally, body: Mapping) => void>> = {
  "openai.chat": openai.chat,
  "openai.responses": responses,
  "openai.embeddings": openai.embeddings,
  "openai.completions": openai.completions,
  "anthropic.messages": anthropic.messages,
  "gemini.generate_content": gemini.generateContent,
};

export const APIS: readonly Api[] = Object.keys(ADDERS) as Api[];

/** Bounds a call's cost in nano-USD by its counts. */
export type CostOf = (counts: Required<Counts>) => bigint;

/**
 * What a caller knows beside the request.
 *
 * `model`: where the body names none, as Gemini's. `limit`: input tokens above which the call would be refused anyway: then
 * bytes are enough where they fit, and counting stops where tokens do not. `maxOutputTokens`: the cap to assume, and to
 * inject, where the request has none. `maxInputTokens`: what you know of the whole input, as from a provider's counting
 * endpoint; needed for files, conversations and searches, which only the provider knows. `contextWindow`: the model's.
 * `batch`: the line of a batch. `rates` gives `costNano`: `Rates`, or a function of what `Estimate.counts` returns.
 */
export interface EstimateOptions {
  readonly api: Api;
  readonly model?: string | null | undefined;
  readonly limit?: number | null | undefined;
  readonly maxOutputTokens?: number | null | undefined;
  readonly maxInputTokens?: number | null | undefined;
  readonly contextWindow?: number | null | undefined;
  readonly batch?: boolean | undefined;
  readonly rates?: Rates | CostOf | null | undefined;
}

/**
 * Returns upper bounds of what this request can use. `body` is what the provider would be sent.
 *
 * Throws InvalidRequestError for a body that is not one of this API, UnpricedError.
 */
export function estimate(body: unknown, options: EstimateOptions): Estimate {
  const { api, model = null, maxOutputTokens = null, batch = false, rates = null } = options;
  if (!Object.hasOwn(ADDERS, api)) throw invalid("api", `must be one of ${APIS.join(", ")}`);
  const given = plain(body);
  const name = model || (isMapping(given) ? read(given, "model") : null);
  if (!isMapping(given) || typeof name !== "string" || !name) {
    throw invalid("model", "must be named, in the body or beside it");
  }
  const family = familyOf(name);
  const tally = new Tally(family);
  const [output, predicted] = shaped(api, () => {
    ADDERS[api](tally, given);
    return [outputOf(api, given, family), predictedTokens(family, given)] as const;
  });
  const total = tally.finish({
    limit: options.limit,
    context: options.contextWindow,
    listed: typeof rates === "object" ? rates?.contextWindow : null,
    maxInputTokens: options.maxInputTokens,
  });
  const cap = output.cap ?? maxOutputTokens;
  const extra = cap === null ? 0 : predicted;
  const fields: EstimateFields = {
    api,
    model: name,
    inputTokens: total.tokens,
    parts: total.parts,
    maxOutputTokens: cap === null ? null : cap + extra,
    n: output.n,
    cachedInputTokens: cachedOf(api, tally, total),
    images: tally.images,
    audio: tally.audio,
    tools: Object.fromEntries(tally.tools),
    serviceTier: tierOf(api, given, batch),
    outputExtra: extra,
    hasOutput: api !== "openai.embeddings",
    injectCap: output.cap === null,
    exceedsLimit: total.exceeds,
    costNano: null,
    warnings: tally.warnings,
  };
  const found = new Estimate(fields);
  if (rates === null || (found.maxOutputTokens === null && found.hasOutput)) return found;
  const counts = found.counts();
  return new Estimate({
    ...fields,
    costNano: typeof rates === "function" ? rates(counts) : boundNano(rates, counts),
  });
}

function invalid(field: string, message: string, cause?: unknown): InvalidRequestError {
  return new InvalidRequestError("Cannot estimate", { errors: { [field]: message }, cause });
}

/** Runs what reads a body. Throws InvalidRequestError where it has not the form of its API, or is nested endlessly. */
function shaped<T>(api: Api, reading: () => T): T {
  try {
    return reading();
  } catch (error) {
    if (error instanceof MisshapenError || error instanceof TypeError || error instanceof RangeError) {
      throw invalid("body", `is not one of ${api}: ${error.message}`, error);
    }
    throw error;
  }
}

/** Only Anthropic's cache is written where the request says so; others write it as they like. */
function cachedOf(api: Api, tally: Tally, total: Total): number | null {
  if (api !== "anthropic.messages") return null;
  if (!tally.hasMark) return 0;
  // Where only the provider knows a part, it may lie before the mark.
  return total.parts.some((part) => part.how === "unknown") ? null : total.cached;
}

function tierOf(api: Api, body: Mapping, batch: boolean): string | null {
  if (batch) return "batch";
  const dearer = api === "anthropic.messages" ? anthropic.dearerTier(body) : null;
  if (dearer !== null) return dearer;
  const tier = read(body, "service_tier");
  if (typeof tier !== "string" || !tier) return null;
  return tier === "standard_only" ? "standard" : tier;
}

/** Predicted output that is rejected is billed as output, beside what was made. */
function predictedTokens(family: Family, body: Mapping): number {
  const prediction = plain(read(body, "prediction"));
  if (!isMapping(prediction)) return 0;
  const content = read(prediction, "content");
  const tally = new Tally(family);
  if (full(content)) openai.content(tally, content);
  return tally.finish().tokens;
}
