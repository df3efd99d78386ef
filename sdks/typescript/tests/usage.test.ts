import { describe, expect, it } from "vitest";
import { InvalidRequestError } from "../src/errors.js";
import * as usage from "../src/usage.js";

describe("a provider's usage", () => {
  it("is read of a chat, with its details", () => {
    const answer = {
      id: "chatcmpl-1",
      object: "chat.completion",
      service_tier: "flex",
      usage: {
        prompt_tokens: 100,
        completion_tokens: 30,
        prompt_tokens_details: { cached_tokens: 60, audio_tokens: 5 },
        completion_tokens_details: { reasoning_tokens: 10, audio_tokens: 4 },
      },
    };
    expect(usage.normalise(answer)).toEqual({
      inputTokens: 100,
      outputTokens: 30,
      cacheReadTokens: 60,
      cacheWriteTokens: 0,
      reasoningTokens: 10,
      audioInputTokens: 5,
      audioOutputTokens: 4,
      serviceTier: "flex",
    });
  });

  it("is added up of Anthropic's, whose input leaves the cache out, and a delta wins", () => {
    const start = {
      input_tokens: 10,
      output_tokens: 1,
      cache_read_input_tokens: 70,
      cache_creation_input_tokens: 20,
      cache_creation: { ephemeral_1h_input_tokens: 15 },
      service_tier: "standard",
    };
    const found = usage.fromAnthropic(start, { usage: { output_tokens: 42 } });
    expect(found.inputTokens).toBe(100);
    expect(found.outputTokens).toBe(42);
    expect(found.cacheWrite1hTokens).toBe(15);
    expect(found.serviceTier).toBe("default");
  });

  it("counts the tools of a response", () => {
    const found = usage.normalise({
      id: "resp_1",
      usage: { input_tokens: 5, output_tokens: 2, input_tokens_details: { cached_tokens: 0 } },
      output: [{ type: "web_search_call" }, { type: "message" }, { type: "web_search_call" }],
    });
    expect(found.toolCalls).toEqual({ web_search: 2 });
  });

  it("is taken in noburn's own form, in both spellings", () => {
    expect(usage.normalise({ inputTokens: 3, outputTokens: 1 })).toEqual({ inputTokens: 3, outputTokens: 1 });
    expect(
      usage.usageToWire(usage.normalise({ input_tokens: 3, output_tokens: 1, reasoning_tokens: 1 })),
    ).toEqual({
      input_tokens: 3,
      output_tokens: 1,
      reasoning_tokens: 1,
    });
  });

  it("is never guessed where an answer has none", () => {
    for (const answer of [{ id: "chatcmpl-1", choices: [] }, { object: "chunk", usage: null }, null, {}, 7]) {
      expect(() => usage.normalise(answer)).toThrow(InvalidRequestError);
    }
  });

  it("is refused with every bad count named", () => {
    const bad = { inputTokens: -1, outputTokens: 1.5, toolCalls: { web_search: Number.NaN } };
    expect(() => usage.usageToWire(bad)).toThrow(/inputTokens.*outputTokens.*toolCalls\.web_search/);
    expect(() => usage.checkUsage({ inputTokens: 1, cacheReadTokens: 2 })).toThrow(/must contain/);
  });
});
