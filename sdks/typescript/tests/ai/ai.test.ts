/** Models of ai 6 and ai 7, through the middleware, wrapped models and providers, against a noburn in memory. */

import * as ai6 from "ai";
import * as test6 from "ai/test";
import * as ai7 from "ai-7";
import * as test7 from "ai-7/test";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import * as noburn from "../../src/index.js";
import {
  inLoop,
  isBudgetExceeded,
  noburn as middleware,
  noburnEmbedding,
  noburnImage,
  startLoop,
  useDefaultProvider,
  wrapModel,
  wrapProvider,
} from "../../src/integrations/ai/index.js";
import { type MemoryPlane, release, useMemoryPlane } from "../../src/testing/index.js";

type Ai = typeof ai6;
type Fields = Record<string, unknown>;

const USAGE = {
  inputTokens: { total: 40, noCache: 30, cacheRead: 10, cacheWrite: 0 },
  outputTokens: { total: 7, text: 5, reasoning: 2 },
};
const NO_USAGE = {
  inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
  outputTokens: { total: undefined, text: undefined, reasoning: undefined },
};
const STOP = { unified: "stop", raw: "stop" };
const ANSWER = { content: [{ type: "text", text: "Hello" }], finishReason: STOP, usage: USAGE, warnings: [] };
const CALL = {
  content: [{ type: "tool-call", toolCallId: "c1", toolName: "weather", input: '{"city":"Bern"}' }],
  finishReason: { unified: "tool-calls", raw: "tool_calls" },
  usage: USAGE,
  warnings: [],
};

/** A mock of each version, and what was asked of it. */
interface Version {
  readonly name: string;
  readonly ai: Ai;
  language(given: Fields): object & { doGenerateCalls: Fields[]; doStreamCalls: Fields[] };
  embedding(given: Fields): object & { doEmbedCalls?: Fields[] };
  image(given: Fields): object;
  provider(given: Fields): object;
}

const VERSIONS: Version[] = [
  {
    name: "ai 6",
    ai: ai6,
    language: (given) => new test6.MockLanguageModelV3(given as never) as never,
    embedding: (given) => new test6.MockEmbeddingModelV3(given as never),
    image: (given) => new test6.MockImageModelV3(given as never),
    provider: (given) => new test6.MockProviderV3(given as never),
  },
  {
    name: "ai 7",
    ai: ai7 as unknown as Ai,
    language: (given) => new test7.MockLanguageModelV4(given as never) as never,
    embedding: (given) => new test7.MockEmbeddingModelV4(given as never),
    image: (given) => new test7.MockImageModelV4(given as never),
    provider: (given) => new test7.MockProviderV4(given as never),
  },
  {
    name: "ai 7 with a model of ai 6",
    ai: ai7 as unknown as Ai,
    language: (given) => new test7.MockLanguageModelV3(given as never) as never,
    embedding: (given) => new test7.MockEmbeddingModelV3(given as never),
    image: (given) => new test7.MockImageModelV3(given as never),
    provider: (given) => new test7.MockProviderV3(given as never),
  },
];

const OPENAI = { provider: "openai.chat", modelId: "gpt-4o-mini" };

function parts(...own: Fields[]): ReadableStream<Fields> {
  return new ReadableStream({
    start(controller) {
      for (const part of own) controller.enqueue(part);
      controller.close();
    },
  });
}

const HELLO: Fields[] = [
  { type: "stream-start", warnings: [] },
  { type: "response-metadata", id: "r1", modelId: "gpt-4o-mini-2024-07-18" },
  { type: "text-start", id: "t1" },
  { type: "text-delta", id: "t1", delta: "Hel" },
  { type: "text-delta", id: "t1", delta: "lo there" },
  { type: "text-end", id: "t1" },
];
const FINISH: Fields = { type: "finish", finishReason: STOP, usage: USAGE };

let plane: MemoryPlane;

beforeEach(async () => {
  plane = await useMemoryPlane();
  plane.budget("customer", "acme", "1");
  plane.budget("customer", "poor", "0.000001");
});
afterEach(release);

const customer = (name: string): { noburn: Fields; openai: Fields } => ({
  noburn: { customer: name },
  openai: { user: "u1" },
});

describe.each(VERSIONS)("$name", (version) => {
  const { ai } = version;
  const gated = (model: object): never => wrapModel(model) as never;

  it("settles an answer with what it used", async () => {
    const model = version.language({ ...OPENAI, doGenerate: async () => ANSWER });
    const answer = await ai.generateText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
    });
    expect(answer.text).toBe("Hello");
    await noburn.flush();
    expect(plane.settlements).toHaveLength(1);
    expect(plane.settlements[0]).toMatchObject({
      state: "settled",
      outcome: "ok",
      usage: { input_tokens: 40, output_tokens: 7, cache_read_tokens: 10, reasoning_tokens: 2 },
    });
    expect(plane.decisions[0]?.subject).toEqual({ customer: "acme" });
    expect(plane.decisions[0]?.asked).toMatchObject({ model: "gpt-4o-mini", provider: "openai" });
  });

  it("puts the allowed cap into the call and keeps noburn's options from the provider", async () => {
    plane.defaultMaxOutputTokens = 123;
    const model = version.language({ ...OPENAI, doGenerate: async () => ANSWER });
    await ai.generateText({ model: gated(model), prompt: "Hi", providerOptions: customer("acme") as never });
    const [sent] = model.doGenerateCalls;
    expect(sent?.maxOutputTokens).toBe(123);
    expect(sent?.providerOptions).toEqual({ openai: { user: "u1" } });
  });

  it("makes no request for a call that is refused, and does not try again", async () => {
    const model = version.language({ ...OPENAI, doGenerate: async () => ANSWER });
    const refused = ai.generateText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("poor") as never,
      maxRetries: 5,
    });
    await expect(refused).rejects.toSatisfy(isBudgetExceeded);
    await expect(refused).rejects.toBeInstanceOf(noburn.BudgetExceededError);
    expect(model.doGenerateCalls).toHaveLength(0);
    expect(plane.decisions).toHaveLength(1);
  });

  it("holds each attempt of a retry for itself, and a refusal ends the retries", async () => {
    let attempts = 0;
    const model = version.language({
      ...OPENAI,
      doGenerate: async () => {
        attempts += 1;
        // The second attempt would be allowed no more.
        plane.budget("customer", "acme", "0.000001");
        throw new ai.APICallError({
          message: "overloaded",
          url: "http://provider.invalid",
          requestBodyValues: {},
          statusCode: 500,
          responseHeaders: { "retry-after-ms": "0" },
          isRetryable: true,
        });
      },
    });
    const refused = ai.generateText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
      maxRetries: 5,
    });
    await expect(refused).rejects.toSatisfy(isBudgetExceeded);
    await expect(refused).rejects.toSatisfy((error) => ai.RetryError.isInstance(error));
    await noburn.flush();
    expect(attempts).toBe(1);
    expect(plane.decisions.map((one) => one.allowed)).toEqual([true, false]);
    expect(plane.settlements.map((one) => one.state)).toEqual(["voided"]);
  });

  it("settles each attempt that the provider answers", async () => {
    let attempts = 0;
    const model = version.language({
      ...OPENAI,
      doGenerate: async () => {
        attempts += 1;
        if (attempts === 3) return ANSWER;
        throw new ai.APICallError({
          message: attempts === 1 ? "overloaded" : "not JSON",
          url: "http://provider.invalid",
          requestBodyValues: {},
          statusCode: attempts === 1 ? 503 : 200,
          responseHeaders: { "retry-after-ms": "0" },
          isRetryable: true,
        });
      },
    });
    await ai.generateText({ model: gated(model), prompt: "Hi", providerOptions: customer("acme") as never });
    await noburn.flush();
    // One was never billed; of one that was answered nobody knows what it used.
    const ends = new Map(plane.settlements.map((one) => [one.holdId, one.state]));
    expect(plane.decisions.map((one) => ends.get(one.holdId ?? ""))).toEqual([
      "voided",
      "presumed",
      "settled",
    ]);
  });

  it("frees the hold of a call that its package cannot make", async () => {
    const model = version.language({
      ...OPENAI,
      doGenerate: async () => {
        throw new ai.UnsupportedFunctionalityError({ functionality: "audio" });
      },
    });
    const failed = ai.generateText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
    });
    await expect(failed).rejects.toThrow("audio");
    await noburn.flush();
    expect(plane.settlements.map((one) => one.state)).toEqual(["voided"]);
  });

  it("holds every step of a tool loop", async () => {
    const model = version.language({ ...OPENAI, doGenerate: [CALL, CALL, ANSWER] });
    const answer = await ai.generateText({
      model: gated(model),
      prompt: "Weather?",
      tools: {
        weather: ai.tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "fine" }),
      },
      stopWhen: ai.stepCountIs(5),
      providerOptions: customer("acme") as never,
    });
    expect(answer.text).toBe("Hello");
    await noburn.flush();
    expect(plane.settlements.map((one) => one.state)).toEqual(["settled", "settled", "settled"]);
    const inputs = plane.decisions.map((one) => Number(one.asked.input_tokens));
    expect(inputs[2]).toBeGreaterThan(inputs[1] ?? 0);
    expect(inputs[1]).toBeGreaterThan(inputs[0] ?? 0);
  });

  it("stops a tool loop at its run", async () => {
    const model = version.language({ ...OPENAI, doGenerate: async () => CALL });
    const looped = inLoop({ usd: "0.001", customer: "acme" }, (settings) =>
      ai.generateText({
        model: gated(model),
        prompt: "Weather?",
        maxOutputTokens: 10,
        tools: {
          weather: ai.tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "fine" }),
        },
        stopWhen: ai.stepCountIs(100),
        ...settings,
      }),
    );
    await expect(looped).rejects.toSatisfy(isBudgetExceeded);
    expect(plane.refusals.at(-1)?.reason).toBe("run_limit");
    expect(model.doGenerateCalls.length).toBeGreaterThan(0);
    expect(model.doGenerateCalls.length).toBeLessThan(100);
  });

  it("ends the run of a loop that streams with the loop", async () => {
    const model = version.language({
      ...OPENAI,
      doStream: async () => ({ stream: parts(...HELLO, FINISH) }),
    });
    const loop = await startLoop({ usd: "1" });
    const answer = ai.streamText({ model: gated(model), prompt: "Hi", ...loop.settings });
    await answer.consumeStream();
    await loop.end();
    expect(loop.run.result?.state).toBe("ended");
    expect(plane.decisions[0]?.subject.run).toBe(loop.run.id);
  });

  it("settles a stream by its last part", async () => {
    const model = version.language({
      ...OPENAI,
      doStream: async () => ({ stream: parts(...HELLO, FINISH) }),
    });
    const answer = ai.streamText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
    });
    let text = "";
    for await (const piece of answer.textStream) text += piece;
    expect(text).toBe("Hello there");
    await noburn.flush();
    expect(plane.settlements[0]).toMatchObject({
      state: "settled",
      outcome: "ok",
      usage: { input_tokens: 40, output_tokens: 7 },
    });
    expect(model.doStreamCalls[0]?.maxOutputTokens).toBe(4_096);
  });

  it("tells a refused stream by its error, and makes no request", async () => {
    const model = version.language({
      ...OPENAI,
      doStream: async () => ({ stream: parts(...HELLO, FINISH) }),
    });
    const errors: unknown[] = [];
    const answer = ai.streamText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("poor") as never,
      onError: ({ error }) => {
        errors.push(error);
      },
    });
    await answer.consumeStream();
    expect(errors).toHaveLength(1);
    expect(isBudgetExceeded(errors[0])).toBe(true);
    expect(model.doStreamCalls).toHaveLength(0);
    expect(plane.decisions).toHaveLength(1);
  });

  it("settles an aborted stream as cut, with what was seen", async () => {
    let cancelled = false;
    const model = version.language({
      ...OPENAI,
      doStream: async () => ({
        stream: new ReadableStream({
          start(controller) {
            for (const part of HELLO.slice(0, 4)) controller.enqueue(part);
          },
          cancel() {
            cancelled = true;
          },
        }),
      }),
    });
    const abort = new AbortController();
    const answer = ai.streamText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
      abortSignal: abort.signal,
    });
    for await (const piece of answer.textStream) {
      expect(piece).toBe("Hel");
      abort.abort();
    }
    await noburn.flush();
    expect(plane.settlements).toHaveLength(1);
    expect(plane.settlements[0]).toMatchObject({ state: "settled", outcome: "cut" });
    const { usage } = plane.settlements[0] as { usage: Fields };
    expect(usage.input_tokens).toBe(plane.decisions[0]?.asked.input_tokens);
    expect(usage.output_tokens).toBeGreaterThan(0);
    expect(cancelled).toBe(true);
  });

  it("presumes what nobody saw of a broken stream", async () => {
    const model = version.language({
      ...OPENAI,
      modelId: "gpt-5-mini",
      doStream: async () => ({
        stream: new ReadableStream({
          start(controller) {
            for (const part of HELLO.slice(0, 4)) controller.enqueue(part);
          },
          pull(controller) {
            controller.error(new Error("the connection broke"));
          },
        }),
      }),
    });
    const answer = ai.streamText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
      onError: () => undefined,
    });
    await answer.consumeStream({ onError: () => undefined });
    await noburn.flush();
    expect(plane.settlements).toMatchObject([{ state: "presumed", outcome: "cut" }]);
  });

  it("presumes a stream whose last part tells no usage and whose output is hidden", async () => {
    const last = { ...FINISH, usage: NO_USAGE };
    const model = version.language({
      ...OPENAI,
      modelId: "o3",
      doStream: async () => ({ stream: parts(...HELLO, last) }),
    });
    const answer = ai.streamText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: customer("acme") as never,
    });
    await answer.consumeStream();
    await noburn.flush();
    expect(plane.settlements.map((one) => one.state)).toEqual(["presumed"]);
  });

  it("works as a middleware", async () => {
    const model = version.language({
      ...OPENAI,
      doGenerate: async () => ANSWER,
      doStream: async () => ({ stream: parts(...HELLO, FINISH) }),
    });
    const wrapped = ai.wrapLanguageModel({
      model: model as never,
      middleware: middleware({ customer: "acme" }),
    });
    await ai.generateText({ model: wrapped, prompt: "Hi" });
    await ai.streamText({ model: wrapped, prompt: "Hi" }).consumeStream();
    await noburn.flush();
    expect(plane.settlements.map((one) => [one.state, one.decision.subject.customer])).toEqual([
      ["settled", "acme"],
      ["settled", "acme"],
    ]);
  });

  it("embeds, one hold for each request", async () => {
    const doEmbed = async ({ values }: { values: string[] }): Promise<Fields> => ({
      embeddings: values.map(() => [1]),
      usage: { tokens: values.length * 3 },
      warnings: [],
    });
    const model = version.embedding({
      provider: "openai.embedding",
      modelId: "text-embedding-3-small",
      maxEmbeddingsPerCall: 2,
      doEmbed,
    });
    const found = await ai.embedMany({
      model: gated(model),
      values: ["a", "b", "c"],
      providerOptions: customer("acme") as never,
    });
    expect(found.embeddings).toHaveLength(3);
    const wrapped = ai.wrapEmbeddingModel({
      model: model as never,
      middleware: noburnEmbedding({ customer: "acme" }),
    });
    await ai.embed({ model: wrapped, value: "d" });
    await noburn.flush();
    expect(plane.settlements.map((one) => one.usage?.input_tokens).sort()).toEqual([3, 3, 6]);
    const poor = ai.embed({
      model: gated(model),
      value: "long ".repeat(1_000),
      providerOptions: customer("poor") as never,
    });
    await expect(poor).rejects.toSatisfy(isBudgetExceeded);
  });

  it("makes images for what the caller says that they cost", async () => {
    let asked = 0;
    const doGenerate = async (): Promise<Fields> => {
      asked += 1;
      return {
        images: ["aGk="],
        warnings: [],
        response: { timestamp: new Date(0), modelId: "gpt-image-1", headers: undefined },
        usage: { inputTokens: 10, outputTokens: 20, totalTokens: 30 },
      };
    };
    const model = version.image({
      provider: "openai.image",
      modelId: "gpt-image-1",
      maxImagesPerCall: 1,
      doGenerate,
    });
    await expect(ai.generateImage({ model: gated(model), prompt: "A cat" })).rejects.toThrow("cannot bound");
    expect(asked).toBe(0);
    const wrapped = ai.wrapImageModel({
      model: model as never,
      middleware: noburnImage({ costUsd: "0.25" }),
    });
    await ai.generateImage({ model: wrapped, prompt: "A cat" });
    await noburn.flush();
    expect(asked).toBe(1);
    expect(plane.decisions.at(-1)?.asked.cost_usd).toBe("0.25");
    expect(plane.settlements[0]?.usage).toMatchObject({
      output_tokens: 20,
      units: { output_image_tokens: 20 },
    });
  });

  it("wraps providers, and the one that texts name", async () => {
    const language = version.language({ ...OPENAI, doGenerate: async () => ANSWER });
    const embedding = version.embedding({
      doEmbed: async () => ({ embeddings: [[1]], usage: { tokens: 2 }, warnings: [] }),
    });
    const provider = version.provider({
      languageModels: { small: language },
      embeddingModels: { e: embedding },
    });
    const wrapped = wrapProvider(provider, { customer: "acme" }) as never as {
      languageModel(name: string): never;
      embeddingModel(name: string): never;
    };
    await ai.generateText({ model: wrapped.languageModel("small"), prompt: "Hi" });
    await ai.embed({ model: wrapped.embeddingModel("e"), value: "Hi" });
    const undo = useDefaultProvider(provider, { customer: "acme" });
    try {
      await ai.generateText({ model: "small", prompt: "Hi" });
      await ai.embed({ model: "e", value: "Hi" });
      await expect(
        ai.generateText({ model: "small", prompt: "Hi", providerOptions: customer("poor") as never }),
      ).rejects.toSatisfy(isBudgetExceeded);
    } finally {
      undo();
    }
    expect((globalThis as { AI_SDK_DEFAULT_PROVIDER?: unknown }).AI_SDK_DEFAULT_PROVIDER).toBeUndefined();
    await noburn.flush();
    expect(plane.settlements).toHaveLength(4);
  });

  it("names every bad field of noburn's options", async () => {
    const model = version.language({ ...OPENAI, doGenerate: async () => ANSWER });
    const asked = ai.generateText({
      model: gated(model),
      prompt: "Hi",
      providerOptions: { noburn: { custmer: "acme", maxOutputTokens: -1, tags: { a: 1 } } },
    });
    await expect(asked).rejects.toMatchObject({
      errors: {
        "providerOptions.noburn.custmer": expect.stringContaining("unknown"),
        "providerOptions.noburn.maxOutputTokens": expect.any(String),
        "providerOptions.noburn.tags": expect.any(String),
      },
    });
    expect(model.doGenerateCalls).toHaveLength(0);
  });
});
