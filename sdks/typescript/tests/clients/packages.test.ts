/** The clients' own packages, of the versions that are supported, through the gate. */

import Anthropic1, { AnthropicError as AnthropicError1 } from "@anthropic-ai/sdk";
import Anthropic0, { AnthropicError as AnthropicError0 } from "anthropic-0";
import OpenAI6, { AzureOpenAI as Azure6, OpenAIError as OpenAIError6 } from "openai";
import OpenAI7, { AzureOpenAI as Azure7, OpenAIError as OpenAIError7 } from "openai-7";
import { afterEach, describe, expect, it } from "vitest";
import { configure } from "../../src/default.js";
import {
  BudgetExceededError,
  InvalidRequestError,
  isBudgetExceeded,
  noburnErrorOf,
  UnavailableError,
} from "../../src/errors.js";
import * as droppedAnthropic from "../../src/integrations/anthropic/index.js";
import { gated as gatedAnthropic, wrap as wrapAnthropic } from "../../src/integrations/anthropic/wrap.js";
import * as droppedOpenAI from "../../src/integrations/openai/index.js";
import { gated as gatedOpenAI, wrap as wrapOpenAI } from "../../src/integrations/openai/wrap.js";
import {
  CHAT,
  CHAT_ANSWER,
  CLAUDE,
  events,
  type FakeGate,
  type FakeProvider,
  fakeGate,
  fakeProvider,
  json,
  MESSAGE_EVENTS,
  REFUSED,
  type Reached,
  stream,
} from "./fakes.js";

const USAGE = { inputTokens: 9, outputTokens: 2 };

type Answer = (reached: Reached) => Response | Promise<Response>;

interface Made<C> {
  readonly fake: FakeGate;
  readonly provider: FakeProvider;
  readonly client: C;
}

function around(answer?: Answer): { fake: FakeGate; provider: FakeProvider } {
  const fake = fakeGate();
  configure({ gate: fake.gate });
  return { fake, provider: fakeProvider(answer) };
}

afterEach(async () => {
  // The fake has nothing to flush.
  const { state } = await import("../../src/state.js");
  delete state().gate;
});

const OPENAI = {
  "openai 6, wrapped": (options: object) => wrapOpenAI(new OpenAI6({ apiKey: "k", ...options })),
  "openai 7, wrapped": (options: object) => wrapOpenAI(new OpenAI7({ apiKey: "k", ...options })),
  "openai 6, dropped in": (options: object) => new droppedOpenAI.OpenAI({ apiKey: "k", ...options }),
  "openai 7, dropped in": (options: object) => new (gatedOpenAI(OpenAI7))({ apiKey: "k", ...options }),
} as unknown as Record<string, (options: object) => OpenAI6>;

const ANTHROPIC = {
  "anthropic 1, wrapped": (options: object) => wrapAnthropic(new Anthropic1({ apiKey: "k", ...options })),
  "anthropic 0, wrapped": (options: object) => wrapAnthropic(new Anthropic0({ apiKey: "k", ...options })),
  "anthropic 1, dropped in": (options: object) => new droppedAnthropic.Anthropic({ apiKey: "k", ...options }),
  "anthropic 0, dropped in": (options: object) =>
    new (gatedAnthropic(Anthropic0))({ apiKey: "k", ...options }),
} as unknown as Record<string, (options: object) => Anthropic1>;

describe.each(Object.keys(OPENAI))("%s", (name) => {
  function made(answer?: Answer, options: object = {}): Made<OpenAI6> {
    const { fake, provider } = around(answer);
    const client = OPENAI[name]?.({ fetch: provider.fetch, ...options }) as OpenAI6;
    return { fake, provider, client };
  }

  it("settles a call by its answer", async () => {
    const { fake, provider, client } = made();
    const answer = await client.chat.completions.create(CHAT, { headers: { "x-noburn-customer": "acme" } });
    expect(answer.choices[0]?.message.content).toBe("Hö.");
    expect(fake.ends).toEqual([{ how: "settled", usage: expect.objectContaining(USAGE) }]);
    expect(fake.asked[0]).toMatchObject({ provider: "openai", said: { customer: "acme" } });
    expect(provider.reached[0]?.headers.get("x-noburn-customer")).toBeNull();
  });

  it("settles a raw answer, and one with its response", async () => {
    const { fake, client } = made();
    const raw = await client.chat.completions.create(CHAT).asResponse();
    expect(fake.ends).toEqual([]);
    expect(await raw.json()).toEqual(CHAT_ANSWER);
    const { data, response } = await client.chat.completions.create(CHAT).withResponse();
    expect([data.id, response.status]).toEqual(["chatcmpl-1", 200]);
    expect(fake.ends.map((end) => end.how)).toEqual(["settled", "settled"]);
  });

  it("settles a stream by its usage, and shows every chunk a choice", async () => {
    const { fake, client } = made();
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...CHAT, stream: true })) {
      // Without a look, as most programs do: a chunk with no choices would throw here.
      text += (chunk.choices[0] as { delta: { content?: string } }).delta.content ?? "";
    }
    expect(text).toBe("Hö.");
    expect(fake.ends).toEqual([{ how: "ended", usage: expect.objectContaining(USAGE) }]);
  });

  it("cuts a stream that its reader leaves", async () => {
    const { fake, client } = made();
    for await (const _ of await client.chat.completions.create({ ...CHAT, stream: true })) break;
    expect(fake.ends.map((end) => end.how)).toEqual(["cut"]);
  });

  it("settles what the stream helper reads", async () => {
    const { fake, client } = made();
    const helper = client.chat.completions.stream(CHAT);
    expect(await helper.finalContent()).toBe("Hö.");
    expect(fake.ends).toEqual([{ how: "ended", usage: expect.objectContaining(USAGE) }]);
  });

  it("throws a refusal once, as an error of both packages", async () => {
    const { fake, provider, client } = made(undefined, { maxRetries: 3 });
    fake.refusal = REFUSED;
    const error: unknown = await client.chat.completions.create(CHAT).catch((found: unknown) => found);
    expect(error).toBeInstanceOf(BudgetExceededError);
    expect(error instanceof OpenAIError6 || error instanceof OpenAIError7).toBe(true);
    expect(error).toMatchObject({ reason: "budget_exceeded", scope: "customer", remainingUsd: "0.005" });
    expect(isBudgetExceeded(error)).toBe(true);
    expect([fake.asked.length, provider.reached.length]).toEqual([1, 0]);
  });

  it("throws a refusal out of streams, raw answers and the stream helper", async () => {
    const { fake, provider, client } = made();
    fake.refusal = REFUSED;
    const calls: (() => PromiseLike<unknown>)[] = [
      () => client.chat.completions.create({ ...CHAT, stream: true }),
      () => client.chat.completions.create(CHAT).asResponse(),
      () => client.chat.completions.create(CHAT).withResponse(),
      () => client.chat.completions.parse(CHAT),
      () => client.chat.completions.stream(CHAT).finalContent(),
      () => client.responses.create({ model: CHAT.model, input: "Hi." }),
      () => client.responses.stream({ model: CHAT.model, input: "Hi." }).finalResponse(),
      () => client.embeddings.create({ model: "text-embedding-3-small", input: "Hi." }),
      () => client.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Hi." }),
      () => client.images.generate({ model: "gpt-image-1", prompt: "Hi." }),
      () => client.post("/something/new", { body: { model: "m" } }),
    ];
    for (const call of calls) {
      const error: unknown = await Promise.resolve(call()).catch((found: unknown) => found);
      expect(isBudgetExceeded(error), call.toString()).toBe(true);
      expect(noburnErrorOf(error), call.toString()).toMatchObject({ reason: "budget_exceeded" });
    }
    expect([fake.asked.length, provider.reached.length]).toEqual([calls.length, 0]);
  });

  it("throws what keeps noburn from deciding, once", async () => {
    const { fake, provider, client } = made(undefined, { maxRetries: 3 });
    // In the client's eyes a time-out is worth another attempt.
    fake.refusal = new UnavailableError("noburn timed out");
    await expect(client.chat.completions.create(CHAT)).rejects.toBeInstanceOf(UnavailableError);
    expect([fake.asked.length, provider.reached.length]).toEqual([1, 0]);
  });

  it("asks about every attempt that the client repeats", async () => {
    const headers = { "retry-after-ms": "1" };
    const { fake, provider, client } = made(() => new Response("{}", { status: 503, headers }), {
      maxRetries: 2,
    });
    await expect(client.chat.completions.create(CHAT)).rejects.toThrow("503");
    expect([fake.asked.length, provider.reached.length]).toEqual([3, 3]);
    expect(fake.ends.map((end) => end.how)).toEqual(["voided", "voided", "voided"]);
  });

  it("throws the client's own error where the provider refuses", async () => {
    const { client } = made(() => json({ error: { message: "no such model", code: "404" } }, 404));
    await expect(client.chat.completions.create(CHAT)).rejects.toMatchObject({ status: 404 });
  });

  it("ends a call that the client aborts", async () => {
    const { fake, client } = made((reached) => usualButSlow(reached));
    const controller = new AbortController();
    const call = client.chat.completions.create(CHAT, { signal: controller.signal });
    await asked(fake);
    controller.abort();
    await expect(Promise.resolve(call)).rejects.toThrow(/abort/i);
    expect(fake.ends.map((end) => end.how)).toEqual(["failed"]);
  });

  it("keeps its gate in copies of the client", async () => {
    const { fake, client } = made();
    const copy = client.withOptions({ maxRetries: 0 }).withOptions({ timeout: 1_000 });
    await copy.chat.completions.create(CHAT);
    expect(copy).toBeInstanceOf(client.constructor);
    expect(fake.asked).toHaveLength(1);
    fake.refusal = REFUSED;
    await expect(copy.chat.completions.create(CHAT)).rejects.toBeInstanceOf(BudgetExceededError);
  });

  it("is asked about once where it is wrapped twice", async () => {
    const { fake, client } = made();
    await wrapOpenAI(client, { customer: "acme" }).chat.completions.create(CHAT);
    expect(fake.asked.map((one) => one.framework?.customer)).toEqual(["acme"]);
  });

  it("runs tools, each of whose calls is asked about", async () => {
    const call = { id: "call_1", type: "function", function: { name: "look", arguments: "{}" } };
    const message = { role: "assistant", content: null, refusal: null, tool_calls: [call] };
    const wanted = {
      ...CHAT_ANSWER,
      choices: [{ ...CHAT_ANSWER.choices[0], finish_reason: "tool_calls", message }],
    };
    const { fake, client } = made(({ body }) =>
      json((body.messages as unknown[]).length > 1 ? CHAT_ANSWER : wanted),
    );
    const tool = {
      type: "function" as const,
      function: {
        name: "look",
        description: "Looks.",
        parameters: {},
        function: () => "seen",
        parse: JSON.parse,
      },
    };
    const runner = client.chat.completions.runTools({ ...CHAT, tools: [tool] });
    expect(await runner.finalContent()).toBe("Hö.");
    expect(fake.ends.map((end) => end.how)).toEqual(["settled", "settled"]);
    fake.refusal = REFUSED;
    const refused = client.chat.completions.runTools({ ...CHAT, tools: [tool] });
    await expect(refused.finalContent()).rejects.toSatisfy(isBudgetExceeded);
  });
});

describe.each([
  ["openai 6", Azure6],
  ["openai 7", Azure7 as unknown as typeof Azure6],
])("%s for Azure", (_, Azure) => {
  it("names its deployment, whose model cannot be changed", async () => {
    const { fake, provider } = around();
    const options = { endpoint: "https://acme.openai.azure.com", apiVersion: "2025-01-01", apiKey: "k" };
    const client = wrapOpenAI(new Azure({ ...options, fetch: provider.fetch }));
    await client.chat.completions.create({ ...CHAT, model: "my-mini" });
    expect(fake.asked[0]).toMatchObject({ provider: "azure", model: "my-mini", modelFixed: true });
    expect(fake.ends.map((end) => end.how)).toEqual(["settled"]);
  });
});

describe.each(Object.keys(ANTHROPIC))("%s", (name) => {
  function made(answer?: Answer, options: object = {}): Made<Anthropic1> {
    const { fake, provider } = around(answer);
    const client = ANTHROPIC[name]?.({ fetch: provider.fetch, ...options }) as Anthropic1;
    return { fake, provider, client };
  }

  it("settles a call by its answer", async () => {
    const { fake, provider, client } = made();
    const answer = await client.messages.create(CLAUDE, { headers: { "x-noburn-customer": "acme" } });
    expect(answer.content[0]).toMatchObject({ text: "Hö." });
    expect(fake.ends).toEqual([{ how: "settled", usage: expect.objectContaining(USAGE) }]);
    expect(fake.asked[0]).toMatchObject({ provider: "anthropic", said: { customer: "acme" } });
    expect(provider.reached[0]?.headers.get("x-noburn-customer")).toBeNull();
  });

  it("settles streams, helpers, raw answers and the beta's", async () => {
    const { fake, client } = made();
    for await (const _ of await client.messages.create({ ...CLAUDE, stream: true }));
    await client.messages.stream(CLAUDE).finalMessage();
    await (await client.messages.create(CLAUDE).asResponse()).text();
    await client.messages.create(CLAUDE).withResponse();
    await client.beta.messages.create(CLAUDE);
    await client.beta.messages.stream(CLAUDE).finalMessage();
    expect(fake.ends.map((end) => end.usage)).toEqual(Array(6).fill(expect.objectContaining(USAGE)));
  });

  it("cuts a stream that its reader leaves", async () => {
    const { fake, client } = made();
    for await (const _ of await client.messages.create({ ...CLAUDE, stream: true })) break;
    expect(fake.ends.map((end) => end.how)).toEqual(["cut"]);
  });

  it("throws a refusal once, as an error of both packages", async () => {
    const { fake, provider, client } = made(undefined, { maxRetries: 3 });
    fake.refusal = REFUSED;
    const error: unknown = await client.messages.create(CLAUDE).catch((found: unknown) => found);
    expect(error).toBeInstanceOf(BudgetExceededError);
    expect(error instanceof AnthropicError1 || error instanceof AnthropicError0).toBe(true);
    expect([fake.asked.length, provider.reached.length]).toEqual([1, 0]);
  });

  it("throws a refusal out of every kind of call", async () => {
    const { fake, provider, client } = made();
    fake.refusal = REFUSED;
    const request = { custom_id: "1", params: CLAUDE };
    const calls: (() => PromiseLike<unknown>)[] = [
      () => client.messages.create({ ...CLAUDE, stream: true }),
      () => client.messages.stream(CLAUDE).finalMessage(),
      () => client.messages.create(CLAUDE).asResponse(),
      () => client.beta.messages.create(CLAUDE),
      () => client.beta.messages.stream(CLAUDE).finalMessage(),
      () => client.beta.messages.toolRunner({ ...CLAUDE, tools: [] }).runUntilDone(),
      () => client.messages.batches.create({ requests: [request] }),
      () => client.post("/v1/something/new", { body: { model: "m" } }),
    ];
    for (const call of calls) {
      const error: unknown = await Promise.resolve(call()).catch((found: unknown) => found);
      expect(isBudgetExceeded(error), call.toString()).toBe(true);
    }
    expect([fake.asked.length, provider.reached.length]).toEqual([calls.length, 0]);
  });

  it("throws what keeps noburn from deciding, once", async () => {
    const { fake, provider, client } = made(undefined, { maxRetries: 3 });
    fake.refusal = new UnavailableError("noburn timed out");
    await expect(client.messages.create(CLAUDE)).rejects.toBeInstanceOf(UnavailableError);
    expect([fake.asked.length, provider.reached.length]).toEqual([1, 0]);
  });

  it("asks about every attempt, of the client and of middleware", async () => {
    const headers = { "retry-after-ms": "1" };
    const again = async (request: unknown, next: (request: unknown) => Promise<Response>) => {
      await next(request);
      return next(request);
    };
    const { fake, provider, client } = made(() => new Response("{}", { status: 503, headers }), {
      maxRetries: 1,
      middleware: [again],
    });
    await expect(client.messages.create(CLAUDE)).rejects.toThrow("503");
    expect([fake.asked.length, provider.reached.length]).toEqual([4, 4]);
    expect(fake.ends.map((end) => end.how)).toEqual(Array(4).fill("voided"));
  });

  it("ends a call that the client aborts", async () => {
    const { fake, client } = made((reached) => usualButSlow(reached));
    const controller = new AbortController();
    const call = client.messages.create(CLAUDE, { signal: controller.signal });
    await asked(fake);
    controller.abort();
    await expect(Promise.resolve(call)).rejects.toThrow(/abort/i);
    expect(fake.ends.map((end) => end.how)).toEqual(["failed"]);
  });

  it("keeps its gate in copies of the client", async () => {
    const { fake, client } = made();
    const copy = client.withOptions({ maxRetries: 0 }).withOptions({ timeout: 1_000 });
    await copy.messages.create(CLAUDE);
    expect(fake.asked).toHaveLength(1);
    fake.refusal = REFUSED;
    await expect(copy.messages.create(CLAUDE)).rejects.toBeInstanceOf(BudgetExceededError);
  });

  it("is asked about once where it is wrapped twice", async () => {
    const { fake, client } = made();
    await wrapAnthropic(client, { customer: "acme" }).messages.create(CLAUDE);
    expect(fake.asked.map((one) => one.framework?.customer)).toEqual(["acme"]);
  });

  it("passes unasked what costs nothing", async () => {
    const { fake, provider, client } = made(() => json({ input_tokens: 9 }));
    await client.messages.countTokens({ model: CLAUDE.model, messages: CLAUDE.messages });
    expect([fake.asked.length, provider.reached.length]).toEqual([0, 1]);
  });

  it("takes an error inside of a stream for one of the provider's", async () => {
    const failure = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } };
    const { fake, client } = made(() => stream(events([...MESSAGE_EVENTS.slice(0, 3), failure], true)));
    await expect(client.messages.stream(CLAUDE).finalMessage()).rejects.toThrow("Overloaded");
    expect(fake.ends).toHaveLength(1);
  });
});

describe("What is no client", () => {
  it.each([[{}], [new Date()]])("cannot be wrapped", (value) => {
    expect(() => wrapOpenAI(value)).toThrow(InvalidRequestError);
    expect(() => wrapAnthropic(value)).toThrow(InvalidRequestError);
  });
});

/** Answers when nobody waits any more. */
function usualButSlow(_: Reached): Promise<Response> {
  return new Promise(() => {});
}

async function asked(fake: FakeGate): Promise<void> {
  while (fake.asked.length === 0) await new Promise((done) => setImmediate(done));
  await new Promise((done) => setImmediate(done));
}
