import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { context } from "../../src/attribution.js";
import { flush, isConfigured, release } from "../../src/default.js";
import { AuthenticationError, InvalidRequestError, isBudgetExceeded } from "../../src/errors.js";
import { type InstrumentOptions, instrument, uninstrument } from "../../src/integrations/fetch/index.js";
import { OpenAI as GatedOpenAI } from "../../src/integrations/openai/index.js";
import { type MemoryPlane, memoryGate, useMemoryPlane } from "../../src/testing/index.js";
import {
  CHAT,
  CHAT_CHUNKS,
  CLAUDE,
  events,
  type FakeProvider,
  fakeProvider,
  MESSAGE_STREAM,
} from "./fakes.js";

const OWN = globalThis.fetch;
let plane: MemoryPlane;
let provider: FakeProvider;

beforeEach(async () => {
  plane = await useMemoryPlane();
  provider = fakeProvider();
  globalThis.fetch = provider.fetch;
});

afterEach(async () => {
  await uninstrument();
  globalThis.fetch = OWN;
  delete process.env.OPENAI_BASE_URL;
  delete process.env.ANTHROPIC_BASE_URL;
});

function post(body: object): RequestInit {
  return { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
}

/** What noburn was asked about, once a call was made to this address. */
async function askedBy(url: string, options: InstrumentOptions = {}): Promise<number> {
  instrument(options);
  const before = plane.decisions.length;
  await (await fetch(url, post(CHAT))).text();
  return plane.decisions.length - before;
}

describe("instrument", () => {
  it("gates clients that are made after it, plain and streamed", async () => {
    plane.budget("customer", "acme", "1");
    instrument();
    const openai = new OpenAI({ apiKey: "k" });
    const anthropic = new Anthropic({ apiKey: "k" });
    const text = await context({ customer: "acme", tags: { feature: "haiku" } }, async () => {
      await openai.chat.completions.create(CHAT);
      await anthropic.messages.create(CLAUDE);
      await anthropic.messages.stream(CLAUDE).finalMessage();
      return (await openai.chat.completions.create({ ...CHAT, stream: true }).asResponse()).text();
    });
    expect(text).toBe(events([...CHAT_CHUNKS, "[DONE]"]));
    await flush();
    expect(plane.settlements.map(({ state, outcome }) => [state, outcome])).toEqual(
      Array(4).fill(["settled", "ok"]),
    );
    expect(plane.settlements.map(({ usage }) => usage)).toEqual(
      Array(4).fill(expect.objectContaining({ input_tokens: 9, output_tokens: 2 })),
    );
    expect(plane.decisions.every((one) => one.subject.customer === "acme")).toBe(true);
    expect(plane.decisions.every((one) => one.tags.feature === "haiku")).toBe(true);
    expect(plane.spentUsd("customer", "acme")).toBe("0.000052");
  });

  it("refuses once what nobody pays for, and nothing is sent", async () => {
    plane.budget("customer", "poor", "0.000000001");
    instrument();
    const openai = new OpenAI({
      apiKey: "k",
      maxRetries: 3,
      defaultHeaders: { "x-noburn-customer": "poor" },
    });
    const anthropic = new Anthropic({
      apiKey: "k",
      maxRetries: 3,
      defaultHeaders: { "x-noburn-customer": "poor" },
    });
    for (const call of [
      () => openai.chat.completions.create(CHAT),
      () => openai.chat.completions.stream(CHAT).finalContent(),
      () => openai.responses.create({ model: CHAT.model, input: "Hi." }),
      () => openai.embeddings.create({ model: "text-embedding-3-small", input: "Hi." }),
      () => anthropic.messages.create(CLAUDE),
      () => anthropic.messages.stream(CLAUDE).finalMessage(),
    ]) {
      const error: unknown = await Promise.resolve(call()).catch((found: unknown) => found);
      expect(isBudgetExceeded(error), call.toString()).toBe(true);
    }
    expect(plane.refusals).toHaveLength(6);
    expect(provider.reached).toEqual([]);
  });

  it("changes nothing when it is called again", async () => {
    instrument();
    const patched = globalThis.fetch;
    instrument();
    expect(globalThis.fetch).toBe(patched);
    expect(await askedBy("https://api.openai.com/v1/chat/completions")).toBe(1);
    expect(provider.reached).toHaveLength(1);
  });

  it("is undone, and lets clients by that kept it", async () => {
    const before = globalThis.fetch;
    instrument();
    const kept = globalThis.fetch;
    await uninstrument();
    expect(globalThis.fetch).toBe(before);
    expect(isConfigured()).toBe(false);
    await kept("https://api.openai.com/v1/chat/completions", post(CHAT));
    expect([plane.decisions.length, provider.reached.length]).toEqual([0, 1]);
    await uninstrument();
    expect(globalThis.fetch).toBe(before);
  });

  it("leaves what somebody else put over it, and still ends", async () => {
    instrument();
    const inner = globalThis.fetch;
    const others: typeof fetch = (input, init) => inner(input, init);
    globalThis.fetch = others;
    await fetch("https://api.openai.com/v1/chat/completions", post(CHAT));
    expect(plane.decisions).toHaveLength(1);
    await uninstrument();
    expect(globalThis.fetch).toBe(others);
    await fetch("https://api.openai.com/v1/chat/completions", post(CHAT));
    expect(plane.decisions).toHaveLength(1);
    plane = await useMemoryPlane();
    instrument();
    // Theirs still calls ours, which gates again.
    expect(globalThis.fetch).toBe(others);
    await fetch("https://api.openai.com/v1/chat/completions", post(CHAT));
    expect(plane.decisions).toHaveLength(1);
    globalThis.fetch = inner;
  });

  it("asks once about a gated client's call", async () => {
    instrument();
    await new GatedOpenAI({ apiKey: "k" }).chat.completions.create(CHAT);
    expect([plane.decisions.length, provider.reached.length]).toEqual([1, 1]);
  });

  it.each([
    ["https://api.openai.com/v1/chat/completions", 1],
    ["https://eu.api.openai.com/v1/chat/completions", 1],
    ["https://acme.openai.azure.com/openai/deployments/mini/chat/completions?api-version=1", 1],
    ["https://api.groq.com/openai/v1/chat/completions", 1],
    ["https://api.mistral.ai/v1/ocr", 0],
    ["https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", 1],
    ["https://generativelanguage.googleapis.com/v1beta/models/gemini:generateContent", 0],
    ["https://s3.eu-west-1.amazonaws.com/bucket/chat/completions", 0],
    ["https://example.com/v1/chat/completions", 0],
    ["https://api.openai.com.example.com/v1/chat/completions", 0],
    ["http://127.0.0.1:9/v1/chat/completions", 0],
    ["http://noburn.invalid/v1/preflight", 0],
  ])("knows whether to gate %s", async (url, times) => {
    expect(await askedBy(url)).toBe(times);
    expect(provider.reached).toHaveLength(1);
  });

  it("takes base URLs of one's own, from the options and the environment", async () => {
    process.env.OPENAI_BASE_URL = "http://127.0.0.1:1/v1";
    const baseUrls = { openai: ["http://127.0.0.1:2/openai/v1/"], anthropic: "http://127.0.0.1:3" };
    expect(await askedBy("http://127.0.0.1:1/v1/chat/completions", { baseUrls })).toBe(1);
    expect(await askedBy("http://127.0.0.1:2/openai/v1/chat/completions")).toBe(1);
    expect(await askedBy("http://127.0.0.1:2/openai/v11/chat/completions")).toBe(0);
    expect(await askedBy("http://127.0.0.1:22/openai/v1/chat/completions")).toBe(0);
    const answer = await fetch("http://127.0.0.1:3/v1/messages", post({ ...CLAUDE, stream: true }));
    expect(await answer.text()).toBe(MESSAGE_STREAM);
    expect(plane.decisions.at(-1)).toMatchObject({ model: CLAUDE.model, allowed: true });
  });

  it("tells by the path which way a server is spoken to that speaks both", async () => {
    const baseUrls = { openai: "http://127.0.0.1:4/v1", anthropic: "http://127.0.0.1:4" };
    expect(await askedBy("http://127.0.0.1:4/v1/chat/completions", { baseUrls })).toBe(1);
    await (await fetch("http://127.0.0.1:4/v1/messages", post(CLAUDE))).text();
    expect(plane.decisions.map((one) => one.model)).toEqual([CHAT.model, CLAUDE.model]);
  });

  it("leaves other requests exactly as they were", async () => {
    const seen: unknown[] = [];
    globalThis.fetch = async (...given) => {
      seen.push(given);
      return new Response("ok");
    };
    instrument();
    const init = { method: "POST", body: "{", headers: { "x-noburn-customer": "acme" } };
    const url = new URL("https://example.com/");
    const request = new Request("https://example.com/");
    await fetch(url, init);
    await fetch(request);
    await fetch("/relative", init);
    expect(seen).toEqual([
      [url, init],
      [request, undefined],
      ["/relative", init],
    ]);
    expect((seen as [unknown, unknown][])[0]?.[1]).toBe(init);
  });

  it("says what is wrong, and changes nothing then", async () => {
    const before = globalThis.fetch;
    expect(() => instrument({ baseUrls: { openai: "no address" } })).toThrow(InvalidRequestError);
    await release();
    expect(() => instrument()).toThrow(AuthenticationError);
    expect(globalThis.fetch).toBe(before);
  });

  it("takes the settings of configure", async () => {
    const gate = memoryGate(plane, { defaults: { customer: "by-default" } });
    instrument({ gate });
    await fetch("https://api.openai.com/v1/chat/completions", post(CHAT));
    expect(plane.decisions[0]?.subject.customer).toBe("by-default");
  });
});
