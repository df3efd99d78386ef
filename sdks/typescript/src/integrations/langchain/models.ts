/** Models and embeddings of LangChain whose HTTP attempts pass the gate, and whose metadata say whom they are for. */

import { type Attribution, canCarry, over, tellFramework } from "../../attribution.js";
import { defaultGate } from "../../default.js";
import { BudgetExceededError, InvalidRequestError, noburnErrorOf } from "../../errors.js";
import type { Gate } from "../../gate/gate.js";
import { gatedFetch, type Site } from "../../gate/http.js";
import { errorBehind } from "../../gate/refusals.js";
import { AnthropicSite } from "../anthropic/site.js";
import { OpenAISite } from "../openai/site.js";
import { saidBy } from "./said.js";
import { stepsInside } from "./steps.js";

/** Whom a model's calls are for, where nothing more specific says so; and another gate than the process's. */
export type WrapOptions = Attribution & { readonly gate?: Gate | undefined };

type Fields = Record<string, unknown>;
type Method = (...given: unknown[]) => unknown;

const WRAPPED = Symbol.for("noburn.langchain.wrapped");
/** By this LangChain knows that trying again is of no use. */
const RETRYABLE = Symbol.for("langchain.errors.retryable");

/** Where a model keeps what its provider's client is made of, and the clients that it has made. */
const CLIENTS = [
  { options: "clientConfig", made: ["client"], site: new OpenAISite() as Site },
  { options: "clientOptions", made: ["batchClient", "streamingClient"], site: new AnthropicSite() as Site },
] as const;

/** Models to which another one passes its calls. */
const INNER = ["completions", "responses"];

/** What calls the provider: with messages, options and the run's manager. */
const ONCE = ["_generate", "embedDocuments", "embedQuery"];
const STREAMED = ["_streamResponseChunks", "_streamChatModelEvents"];

/**
 * Gates a model or embeddings in place, and returns it: ChatOpenAI, AzureChatOpenAI, ChatAnthropic, OpenAIEmbeddings and
 * whatever else calls through OpenAI's or Anthropic's package. What it makes of itself, such as `bindTools`, is gated too.
 *
 * Throws InvalidRequestError for a model that calls in another way: `instrument()` may gate that one.
 */
export function wrap<M extends object>(model: M, options: WrapOptions = {}): M {
  const own = model as Fields;
  if (own[WRAPPED as never]) return model;
  const { gate, ...said } = options;
  const gated = [own, ...INNER.map((name) => own[name])].filter((one) =>
    gateClient(one, () => gate ?? defaultGate()),
  );
  if (gated.length === 0) {
    const errors = {
      model: `${model.constructor?.name ?? "it"} has no client of OpenAI's or Anthropic's that could be gated`,
    };
    throw new InvalidRequestError("Cannot wrap", { errors });
  }
  Object.defineProperty(own, WRAPPED, { value: true });
  addHandler(own);
  for (const name of ONCE) patch(own, name, (call, given) => told(said, given, call));
  for (const name of STREAMED)
    if (overrides(own, name)) patch(own, name, (call, given) => toldSteps(said, given, call));
  // A model makes a new one of itself for each configuration.
  patch(own, "withConfig", (call) => {
    const made = call();
    return isClient(made) ? wrap(made as object, options) : made;
  });
  return model;
}

/** A call without any handler is not told its metadata: one that does nothing suffices. */
function addHandler(model: Fields): void {
  const { callbacks } = model;
  if (callbacks === undefined || callbacks === null) model.callbacks = [{}];
  else if (Array.isArray(callbacks)) model.callbacks = [...callbacks, {}];
}

function isClient(value: unknown): boolean {
  return typeof value === "object" && value !== null && CLIENTS.some(({ options }) => options in value);
}

function gateClient(one: unknown, gateOf: () => Gate): boolean {
  if (typeof one !== "object" || one === null) return false;
  const own = one as Fields;
  for (const { options, made, site } of CLIENTS) {
    if (typeof own[options] !== "object" || own[options] === null) continue;
    const given = own[options] as { fetch?: typeof fetch };
    const inner = given.fetch ?? ((input, init) => globalThis.fetch(input, init));
    own[options] = { ...given, fetch: lasting(gatedFetch(inner, () => site, gateOf)) };
    for (const name of made) if (own[name] !== undefined) own[name] = undefined;
    return true;
  }
  return false;
}

/** LangChain tries a 503 again for minutes; noburn has been asked again already when it says one. */
function lasting(gated: typeof fetch): typeof fetch {
  return async (input, init) => {
    const answer = await gated(input, init);
    if (answer.status < 500 || !answer.headers.has("x-noburn-reason")) return answer;
    return new Response(answer.body, { status: 402, statusText: answer.statusText, headers: answer.headers });
  };
}

/** Whether a method is more than the base class's, which only says that there is none. */
function overrides(model: object, name: string): boolean {
  let owners = 0;
  for (let one: unknown = model; one != null; one = Object.getPrototypeOf(one)) {
    if (Object.hasOwn(one, name)) owners += 1;
  }
  return owners > 1;
}

function patch(
  model: Fields,
  name: string,
  around: (call: () => unknown, given: unknown[]) => unknown,
): void {
  const before = model[name];
  if (typeof before !== "function") return;
  const value = function (this: unknown, ...given: unknown[]): unknown {
    return around(() => (before as Method).apply(this, given), given);
  };
  Object.defineProperty(model, name, { value, configurable: true, writable: true });
}

function within<T>(said: Attribution, given: unknown[], fn: () => T): T {
  if (!canCarry()) return fn();
  const manager = given.find(isManager);
  return tellFramework(over(saidBy(manager?.metadata, manager?.tags), said), fn);
}

function isManager(value: unknown): value is { metadata?: unknown; tags?: unknown } {
  return typeof value === "object" && value !== null && "runId" in value && "handlers" in value;
}

async function told(said: Attribution, given: unknown[], call: () => unknown): Promise<unknown> {
  try {
    return await within(said, given, call);
  } catch (error) {
    throw plain(error);
  }
}

async function* toldSteps(said: Attribution, given: unknown[], call: () => unknown): AsyncGenerator<unknown> {
  try {
    yield* stepsInside((fn) => within(said, given, fn), call);
  } catch (error) {
    throw plain(error);
  }
}

/** noburn's own error in the place of the client's that stands for it, of a kind that nothing tries again. */
function plain(error: unknown): unknown {
  const headers = (error as { headers?: unknown } | null)?.headers;
  const own = noburnErrorOf(error) ?? (headers instanceof Headers ? errorBehind(headers) : undefined);
  if (own === undefined) return error;
  Object.defineProperty(own, RETRYABLE, { value: false, configurable: true });
  // LangGraph's own retries go by the status.
  if (own instanceof BudgetExceededError)
    Object.defineProperty(own, "status", { value: 402, configurable: true });
  return own;
}
