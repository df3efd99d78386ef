/** Which request a call becomes, as the estimator knows requests: what bounds it. */

import type { Api } from "../../estimate/types.js";
import type { Endpoint } from "../../gate/endpoints.js";
import { chatBody } from "./chat.js";
import { contentsBody } from "./contents.js";
import { messagesBody } from "./messages.js";
import { capOf, noted, thinkingOf, thinks } from "./options.js";
import { isProviders, responsesBody } from "./responses.js";
import { type AnyModel, type Fields, fieldsOf, type LanguageOptions, listOf } from "./spec.js";

/** The AI SDK's names of providers that the price book calls otherwise; what is in neither list is asked about by model. */
const PROVIDERS: Readonly<Record<string, string>> = {
  "amazon-bedrock": "aws",
  anthropic: "anthropic",
  azure: "azure",
  "azure-openai": "azure",
  bedrock: "aws",
  cerebras: "cerebras",
  cohere: "cohere",
  deepseek: "deepseek",
  fireworks: "fireworks",
  google: "google",
  groq: "groq",
  mistral: "mistral",
  moonshotai: "moonshotai",
  openai: "openai",
  openrouter: "openrouter",
  perplexity: "perplexity",
  togetherai: "together",
  vertex: "google",
  voyage: "voyageai",
  xai: "x-ai",
};

/** Providers that pass a call on to the one named before the model's slash, at its prices. */
const PASSING = new Set(["gateway", "vercel"]);

/** A call as it is asked about. `thinking`: what the provider adds to the cap that it is given. */
export interface Bounded {
  readonly api: Api;
  readonly model: string;
  readonly provider: string | undefined;
  readonly body: Fields;
  readonly thinking: number;
  /** The cap to assume where the call names none and thinking is added to it. */
  readonly capAssumed: number | undefined;
}

/** The output beside thinking of a call that names no cap. */
const CAP_BESIDE_THINKING = 4_096;

/** Returns the model and the provider by which a model's price is found. */
export function pricedAs(model: AnyModel): { model: string; provider: string | undefined } {
  const [maker = "", ...rest] = model.provider.split(".");
  const slash = model.modelId.indexOf("/");
  if (PASSING.has(maker) && slash > 0) {
    return { model: model.modelId.slice(slash + 1), provider: PROVIDERS[model.modelId.slice(0, slash)] };
  }
  const claude = rest.includes("anthropic") && maker !== "google" ? "anthropic" : undefined;
  return { model: model.modelId, provider: PROVIDERS[maker] ?? claude };
}

/** Returns what bounds a call of a language model. */
export function boundOf(model: AnyModel, options: LanguageOptions): Bounded {
  const priced = pricedAs(model);
  const api = apiOf(model, options);
  const cap = capOf(options);
  const thinking = api === "anthropic.messages" ? thinkingOf(options) : 0;
  const whole = cap === undefined ? undefined : cap + thinking;
  const extra = noted(options);
  const body: Fields = { ...bodyOf(api, options), ...extra.fields, model: priced.model };
  if (api === "anthropic.messages" && thinks(options)) body.thinking = { type: "enabled" };
  if (extra.text) addText(api, body, extra.text);
  if (whole !== undefined) putCap(api, body, whole);
  const capAssumed = cap === undefined && thinking > 0 ? thinking + CAP_BESIDE_THINKING : undefined;
  return { api, model: priced.model, provider: priced.provider, body, thinking, capAssumed };
}

/** Returns the endpoint of an API, as the gate takes it. The usage is read by whoever has the whole answer. */
export function endpointOf(api: Api): Endpoint {
  return { name: `ai.${api}`, operation: "chat", api };
}

/** Returns the cap in a body that was allowed, of one answer. */
export function capIn(api: Api, body: Fields): number | undefined {
  const found =
    api === "gemini.generate_content"
      ? (fieldsOf(body.generationConfig).maxOutputTokens ?? fieldsOf(body.generationConfig).max_output_tokens)
      : (body.max_output_tokens ?? body.max_completion_tokens ?? body.max_tokens);
  return typeof found === "number" ? found : undefined;
}

function apiOf(model: AnyModel, options: LanguageOptions): Api {
  const [maker = ""] = model.provider.split(".");
  const through = PASSING.has(maker) ? model.modelId : model.provider;
  const isClaude = model.modelId.toLowerCase().includes("claude");
  if (/anthropic/i.test(through) || (/bedrock/i.test(through) && isClaude)) return "anthropic.messages";
  if (/^(?:google|vertex)/i.test(through)) return "gemini.generate_content";
  const hosted = listOf(options.tools).some(isProviders);
  // What providers run by themselves is named among the tools of Responses alone.
  return hosted || /responses/i.test(model.provider) ? "openai.responses" : "openai.chat";
}

function bodyOf(api: Api, options: LanguageOptions): Fields {
  if (api === "anthropic.messages") return messagesBody(options);
  if (api === "gemini.generate_content") return contentsBody(options);
  return api === "openai.responses" ? responsesBody(options) : chatBody(options);
}

function addText(api: Api, body: Fields, text: string): void {
  const message = { role: "user", content: text };
  if (api === "openai.responses") body.input = [...listOf(body.input), message];
  else if (api === "gemini.generate_content") {
    body.contents = [...listOf(body.contents), { role: "user", parts: [{ text }] }];
  } else body.messages = [...listOf(body.messages), message];
}

function putCap(api: Api, body: Fields, cap: number): void {
  if (api === "openai.responses") body.max_output_tokens = cap;
  else if (api === "gemini.generate_content") {
    body.generationConfig = { ...fieldsOf(body.generationConfig), maxOutputTokens: cap };
  } else body.max_tokens = cap;
}
