import { describe, expect, it } from "vitest";
import { estimate } from "../../src/estimate/index.js";
import { EVENT_BYTES_MAX, EventReader } from "../../src/gate/events.js";
import type { Meter } from "../../src/gate/meters.js";
import { endpointOf as endpointOfAnthropic, MESSAGES } from "../../src/integrations/anthropic/endpoints.js";
import { CHAT as CHATS, endpointOf, RESPONSES, withUsage } from "../../src/integrations/openai/endpoints.js";
import type { JsonObject } from "../../src/results.js";
import { CHAT, CHAT_CHUNKS, MESSAGE_EVENTS, USAGE_CHUNK } from "./fakes.js";

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function fed(meter: Meter | undefined, values: readonly unknown[]): Meter {
  if (meter === undefined) throw new Error("no meter");
  for (const value of values) meter.feed(value);
  return meter;
}

describe("EventReader", () => {
  const text =
    'event: a\ndata: {"a":1}\n\n: comment\n\ndata: two\r\ndata:lines\r\n\r\ndata: ü\r\rdata: [DONE]';
  const found = ['{"a":1}', "two\nlines", "ü", "[DONE]"];

  it.each([1, 2, 3, 5, 7, 1000])("finds events in pieces of %i bytes, and gives on what came", (size) => {
    const got: string[] = [];
    const reader = new EventReader((data) => {
      got.push(data);
      return true;
    });
    const all = bytes(text);
    const out: number[] = [];
    for (let at = 0; at < all.length; at += size) out.push(...reader.feed(all.slice(at, at + size)));
    out.push(...reader.end());
    expect(got).toEqual(found);
    expect(out).toEqual([...all]);
  });

  it.each([1, 3, 1000])("withholds whole events, in pieces of %i bytes", (size) => {
    const reader = new EventReader((data) => data !== "ü", true);
    const all = bytes(text);
    const out: number[] = [];
    for (let at = 0; at < all.length; at += size) out.push(...reader.feed(all.slice(at, at + size)));
    out.push(...reader.end());
    expect(new TextDecoder().decode(new Uint8Array(out))).toBe(text.replace("data: ü\r\r", ""));
  });

  it("gives on an event that is too long to be read", () => {
    const got: string[] = [];
    const reader = new EventReader((data) => {
      got.push(data);
      return true;
    }, true);
    const long = bytes(`data: ${"x".repeat(EVENT_BYTES_MAX)}`);
    expect(reader.feed(long).length).toBe(long.length);
    reader.feed(bytes("\n\ndata: next\n\n"));
    expect(got).toEqual(["next"]);
  });
});

describe("What a cut stream used", () => {
  const found = estimate(CHAT as unknown as JsonObject, { api: "openai.chat", model: CHAT.model });

  it("is the input as counted and the output as far as it came", () => {
    const meter = fed(CHATS.meter?.(CHAT.model, false), CHAT_CHUNKS);
    expect(meter.finished).toBe(false);
    const seen = meter.seen(found);
    expect(seen?.inputTokens).toBe(found.inputTokens);
    expect(seen?.outputTokens).toBeGreaterThanOrEqual(2);
    expect(seen?.outputTokens).toBeLessThanOrEqual(4);
  });

  it("counts what tools are called with", () => {
    const call = { index: 0, function: { name: "look", arguments: '{"at":"this"}' } };
    const meter = fed(CHATS.meter?.(CHAT.model, false), [{ choices: [{ delta: { tool_calls: [call] } }] }]);
    expect(meter.outputTokens).toBeGreaterThan(4);
  });

  it.each([
    ["nothing came", CHAT.model, []],
    ["the model reasons unseen", "gpt-5", CHAT_CHUNKS],
    ["audio came", CHAT.model, [{ choices: [{ delta: { audio: { data: "…" } } }] }]],
  ])("is not known where %s", (_, model, chunks) => {
    expect(fed(CHATS.meter?.(model, false), chunks).seen(found)).toBeNull();
  });

  it("is what the provider told, once it did", () => {
    const meter = fed(CHATS.meter?.(CHAT.model, false), [...CHAT_CHUNKS, USAGE_CHUNK]);
    expect(meter.finished).toBe(true);
    expect(meter.seen(found)).toEqual(meter.usage());
    expect(meter.model).toBe("gpt-4o-mini");
    expect(meter.outputTokens).toBe(0);
  });

  it("is counted at once for a stream that is cut at its hold", () => {
    const meter = CHATS.meter?.(CHAT.model, true) as Meter;
    meter.feed(CHAT_CHUNKS[1]);
    const first = meter.outputTokens;
    meter.feed(CHAT_CHUNKS[2]);
    expect(meter.outputTokens).toBeGreaterThan(first);
  });

  it("of Anthropic's is the input as it was told", () => {
    const meter = fed(MESSAGES.meter?.("claude-haiku-4-5", false), MESSAGE_EVENTS.slice(0, 3));
    expect(meter.seen(undefined)).toMatchObject({ inputTokens: 9 });
    expect(meter.usage()).toBeNull();
    const thinking = { type: "content_block_start", content_block: { type: "thinking" } };
    expect(fed(meter, [thinking]).seen(undefined)).toBeNull();
  });

  it("of Anthropic's has the last counts, and the split of cache writes of the first", () => {
    const start = {
      input_tokens: 5,
      output_tokens: 1,
      cache_creation_input_tokens: 4,
      cache_creation: { ephemeral_5m_input_tokens: 1, ephemeral_1h_input_tokens: 3 },
    };
    const meter = fed(MESSAGES.meter?.("claude-haiku-4-5", false), [
      { type: "message_start", message: { model: "claude-haiku-4-5", usage: start } },
      { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 7 } },
    ]);
    expect(meter.usage()).toMatchObject({
      inputTokens: 9,
      outputTokens: 7,
      cacheWriteTokens: 4,
      cacheWrite1hTokens: 3,
    });
  });

  it("of a response is what its last event told", () => {
    const response = { model: "gpt-4o-mini-1", usage: { input_tokens: 4, output_tokens: 3 }, output: [] };
    const meter = fed(RESPONSES.meter?.(CHAT.model, false), [
      { type: "response.created", response: { model: "gpt-4o-mini-1", usage: null } },
      { type: "response.output_text.delta", delta: "Hö." },
    ]);
    expect(meter.seen(found)?.outputTokens).toBeGreaterThan(0);
    expect(fed(meter, [{ type: "response.completed", response }]).usage()).toMatchObject({
      inputTokens: 4,
      outputTokens: 3,
    });
    expect(fed(RESPONSES.meter?.(CHAT.model, false), [{ type: "error" }]).failed).toBe(true);
  });
});

describe("An endpoint", () => {
  it.each([
    ["/v1/chat/completions", "openai.chat"],
    ["/openai/deployments/m/chat/completions", "openai.chat"],
    ["/v1/completions", "openai.completions"],
    ["/v1/responses", "openai.responses"],
    ["/v1/responses/compact", "openai.responses"],
    ["/v1/responses/resp_1/cancel", undefined],
    ["/v1/responses/input_tokens", undefined],
    ["/v1/embeddings", "openai.embeddings"],
    ["/v1/images/edits", "openai.images"],
    ["/v1/audio/translations", "openai.transcriptions"],
    ["/v1/audio/speech", "openai.speech"],
    ["/v1/batches", "openai.batches"],
    ["/v1/batches/b_1/cancel", undefined],
    ["/v1/realtime/client_secrets", "openai.realtime"],
    ["/v1/chat/completions/chatcmpl_1", undefined],
    ["/v1/files", undefined],
    ["/v1/fine_tuning/jobs", "openai.other"],
    ["/v1/fine_tuning/jobs/j_1/cancel", undefined],
    ["/v1/threads/t_1/runs", "openai.other"],
    ["/v1/videos", "openai.other"],
  ])("of OpenAI's: %s", (path, name) => {
    expect(endpointOf(path)?.name).toBe(name);
  });

  it.each([
    ["/v1/messages", "anthropic.messages"],
    ["/v1/messages/batches", "anthropic.batches"],
    ["/v1/messages/batches/b_1/cancel", undefined],
    ["/v1/messages/count_tokens", undefined],
    ["/v1/complete", "anthropic.other"],
  ])("of Anthropic's: %s", (path, name) => {
    expect(endpointOfAnthropic(path)?.name).toBe(name);
  });

  it("is asked for its usage where it streams chats, and only there", () => {
    expect(withUsage(CHATS, { stream: true, stream_options: { include_obfuscation: false } })).toEqual({
      stream: true,
      stream_options: { include_obfuscation: false, include_usage: true },
    });
    for (const body of [{ stream: false }, {}, { stream: true, stream_options: { include_usage: true } }]) {
      expect(withUsage(CHATS, body)).toBe(body);
    }
    const streamed = { stream: true };
    expect(withUsage(RESPONSES, streamed)).toBe(streamed);
  });

  it("reads what images and transcriptions tell", () => {
    const image = endpointOf("/v1/images/generations")?.read;
    const details = { input_tokens_details: { image_tokens: 2 }, output_tokens_details: { image_tokens: 7 } };
    expect(image?.({ usage: { input_tokens: 5, output_tokens: 7, ...details } })).toMatchObject({
      inputTokens: 5,
      outputTokens: 7,
      units: { input_image_tokens: 2, output_image_tokens: 7 },
    });
    const heard = endpointOf("/v1/audio/transcriptions")?.read;
    expect(heard?.({ usage: { type: "duration", seconds: 2.1 } })).toEqual({ units: { audio_seconds: 3 } });
    const tokens = { input_tokens: 5, output_tokens: 2, input_token_details: { audio_tokens: 4 } };
    expect(heard?.({ usage: tokens })).toMatchObject({
      inputTokens: 5,
      outputTokens: 2,
      audioInputTokens: 4,
    });
    expect(() => heard?.({ text: "…" })).toThrow("no usage");
  });
});
