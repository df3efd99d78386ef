/** One attempt of each kind of model: asked about, made as it was allowed, and settled. */

import { type Attribution, canCarry, ungated } from "../../attribution.js";
import { defaultGate } from "../../default.js";
import { InvalidRequestError } from "../../errors.js";
import type { Asked, Endpoint } from "../../gate/endpoints.js";
import type { Gate } from "../../gate/gate.js";
import type { HeldCall } from "../../gate/held.js";
import type { JsonObject } from "../../results.js";
import { type Bounded, boundOf, capIn, endpointOf, pricedAs } from "./bodies.js";
import { PartMeter } from "./meter.js";
import { type NoburnOptions, noburnOptions, noted, stripped, unbounded, withCap } from "./options.js";
import { idsIn, remember } from "./reasoned.js";
import {
  type AnyModel,
  type Fields,
  fieldsOf,
  type LanguageOptions,
  listOf,
  type StreamPart,
} from "./spec.js";
import { metered } from "./streams.js";
import { embeddingUsage, imageUsage, ToolCount, usageOf } from "./usage.js";

/** How models are gated: by which gate, and whom their calls are for where nothing more specific says so. */
export interface NoburnModelOptions extends Attribution {
  /** The process's own, unless given. */
  readonly gate?: Gate | undefined;
}

/** A model, and how another one of its provider is made, where that is known. */
export interface Site {
  readonly model: AnyModel;
  readonly options: NoburnModelOptions;
  readonly other?: ((modelId: string) => AnyModel) | undefined;
}

type Call = (options: Fields) => PromiseLike<Fields>;

/** Generates an answer. */
export async function generate(site: Site, options: LanguageOptions): Promise<Fields> {
  const { held, params, model } = await admitted(site, options, false);
  const answer = await attempt(held, () => methodOf(model, "doGenerate")(params));
  const tools = new ToolCount(options.tools);
  const parts = listOf(answer.content);
  for (const part of parts) tools.take(part);
  const usage = usageOf(answer, tools.counts);
  if (usage !== null) remember(parts.flatMap(idsIn), usage.outputTokens ?? 0);
  held.finish(usage, { model: nameIn(answer) });
  return answer;
}

/** Streams an answer. */
export async function stream(site: Site, options: LanguageOptions): Promise<Fields> {
  const { held, params, model } = await admitted(site, options, true);
  const answer = await attempt(held, () => methodOf(model, "doStream")(params));
  const meter = new PartMeter(held.model, options.tools, held.tokensMax !== undefined);
  const source = answer.stream as ReadableStream<StreamPart>;
  return { ...answer, stream: metered(source, held, meter, options.abortSignal as AbortSignal | undefined) };
}

/** Embeds texts. */
export async function embed(site: Site, options: Fields): Promise<Fields> {
  const own = noburnOptions(options.providerOptions);
  const priced = pricedAs(site.model);
  const input = [...(Array.isArray(options.values) ? options.values : [])];
  const extra = noted(options);
  if (extra.text) input.push(extra.text);
  const endpoint: Endpoint = { name: "ai.embeddings", operation: "embeddings", api: "openai.embeddings" };
  const held = await ask(site, own, options, { ...priced, endpoint, body: { model: priced.model, input } });
  const model = chosen(site, held, priced.model);
  const answer = await attempt(held, () => methodOf(model, "doEmbed")(stripped(options)));
  held.finish(embeddingUsage(answer));
  return answer;
}

/** Makes images: what they cost depends on so much that the caller says it, by `costUsd`. */
export async function image(site: Site, options: Fields): Promise<Fields> {
  const endpoint: Endpoint = {
    name: "ai.image",
    operation: "generate_content",
    api: null,
    why: "what an image costs depends on its size and quality, and on the model",
  };
  const held = await ask(site, noburnOptions(options.providerOptions), options, {
    ...pricedAs(site.model),
    endpoint,
    body: { model: site.model.modelId, n: Number(options.n ?? 1) },
  });
  const answer = await attempt(held, () => methodOf(site.model, "doGenerate")(stripped(options)));
  const withFiles = listOf(options.files).length > 0 || options.mask !== undefined;
  held.finish(imageUsage(answer, withFiles), { model: nameIn(answer) });
  return answer;
}

/** Whatever else costs something, by the caller's `costUsd`; its answer never says what it used. */
export async function other(
  site: Site,
  name: string,
  call: () => PromiseLike<unknown>,
  options: Fields,
): Promise<unknown> {
  const endpoint: Endpoint = {
    name: `ai.${name}`,
    operation: "generate_content",
    api: null,
    why: "what it costs is in neither its request nor its answer",
  };
  const held = await ask(site, noburnOptions(options.providerOptions), options, {
    ...pricedAs(site.model),
    endpoint,
    body: { model: site.model.modelId },
  });
  const answer = await attempt(held, call);
  held.finish(null);
  return answer;
}

interface Question {
  readonly endpoint: Endpoint;
  readonly model: string;
  readonly provider: string | undefined;
  readonly body: Fields;
  readonly stream?: boolean;
  readonly framework?: Attribution;
}

async function ask(site: Site, own: NoburnOptions, options: Fields, question: Question): Promise<HeldCall> {
  const { fit, waitMs, ...said } = own;
  const { gate, ...defaults } = site.options;
  const asked: Asked = {
    endpoint: question.endpoint,
    model: question.model,
    provider: question.provider,
    body: question.body as JsonObject,
    stream: question.stream ?? false,
    said,
    framework: { ...question.framework, ...defaults },
    modelFixed: site.other === undefined,
    fit,
    waitMs,
    signal: options.abortSignal instanceof AbortSignal ? options.abortSignal : undefined,
  };
  return (gate ?? defaultGate()).admit(asked);
}

async function admitted(
  site: Site,
  options: LanguageOptions,
  streams: boolean,
): Promise<{ held: HeldCall; params: LanguageOptions; model: AnyModel }> {
  const own = noburnOptions(options.providerOptions);
  const bound = boundOf(site.model, options);
  const why = unbounded(options);
  const held = await ask(site, own, options, {
    endpoint:
      why === undefined ? endpointOf(bound.api) : { name: "ai.fallbacks", operation: "chat", api: null, why },
    model: bound.model,
    provider: bound.provider,
    body: bound.body,
    stream: streams,
    ...(bound.capAssumed === undefined ? {} : { framework: { maxOutputTokens: bound.capAssumed } }),
  });
  try {
    const model = chosen(site, held, bound.model);
    return { held, params: allowedParams(site.model, bound, held, options), model };
  } catch (error) {
    held.void();
    throw error;
  }
}

/** The call's options with what was allowed: the cap that the hold was placed for. */
function allowedParams(
  model: AnyModel,
  bound: Bounded,
  held: HeldCall,
  options: LanguageOptions,
): LanguageOptions {
  const params = stripped(options);
  const cap = held.body === bound.body ? undefined : capIn(bound.api, held.body as Fields);
  if (cap === undefined) return params;
  if (cap <= bound.thinking) {
    throw new InvalidRequestError("The call cannot be made as it was allowed", {
      errors: { maxOutputTokens: `${cap} leaves no room beside ${bound.thinking} tokens of thinking` },
    });
  }
  return withCap(params, cap - bound.thinking, model.provider);
}

function chosen(site: Site, held: HeldCall, asked: string): AnyModel {
  if (held.model === asked || site.other === undefined) return site.model;
  // Its name in the provider may have a prefix that the price book leaves out.
  const { modelId } = site.model;
  const name = modelId.endsWith(asked)
    ? modelId.slice(0, modelId.length - asked.length) + held.model
    : held.model;
  return site.other(name);
}

/** Errors by which the AI SDK's packages say that they could not make a request of the call. */
const UNMADE: ReadonlySet<string> = new Set([
  "AI_InvalidArgumentError",
  "AI_InvalidPromptError",
  "AI_LoadAPIKeyError",
  "AI_LoadSettingError",
  "AI_NoSuchModelError",
  "AI_NoSuchProviderReferenceError",
  "AI_TooManyEmbeddingValuesForCallError",
  "AI_UnsupportedFunctionalityError",
]);

async function attempt<T>(held: HeldCall, call: () => PromiseLike<T>): Promise<T> {
  try {
    // The provider's own fetch may be gated too: this call is held already.
    return await (canCarry() ? ungated(call) : call());
  } catch (error) {
    if (error instanceof Error && UNMADE.has(error.name)) held.void();
    else held.failed(error);
    throw error;
  }
}

function methodOf(model: AnyModel, name: string): Call {
  const method = (model as unknown as Record<string, Call>)[name];
  if (typeof method !== "function") throw new TypeError(`${model.provider} ${model.modelId} has no ${name}`);
  return (options) => method.call(model, options);
}

function nameIn(answer: Fields): string | undefined {
  const name = fieldsOf(answer.response).modelId;
  return typeof name === "string" && name ? name : undefined;
}
