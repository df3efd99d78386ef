/** What bounds a call is never less than what bounds the request that the provider's own package makes of it. */

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createAnthropic as createAnthropic4 } from "ai-sdk-anthropic-4";
import { createOpenAI as createOpenAI4 } from "ai-sdk-openai-4";
import { describe, expect, it } from "vitest";
import { estimate } from "../../src/estimate/index.js";
import { boundOf } from "../../src/integrations/ai/bodies.js";
import type { AnyModel, Fields, LanguageOptions } from "../../src/integrations/ai/spec.js";

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PDF = btoa("%PDF-1.4\n1 0 obj << /Type /Page >> endobj\n2 0 obj << /Type /Page >> endobj\n%%EOF");
const WEATHER = {
  type: "function",
  name: "weather",
  description: "Tells the weather of a city, as it is now.",
  inputSchema: {
    type: "object",
    properties: { city: { type: "string", description: "The city's name" }, days: { type: "integer" } },
    required: ["city"],
    additionalProperties: false,
  },
};

function user(...content: Fields[]): Fields {
  return { role: "user", content };
}

const text = (value: string): Fields => ({ type: "text", text: value });
const LONG = 'Zażółć gęślą jaźń 日本語のテキスト {"a": [1, 2, 3]} '.repeat(40);

/** Prompts of every kind; `v4` has files in V4's form. */
function prompts(v4: boolean): Record<string, Fields> {
  const data = (value: string): unknown => (v4 ? { type: "data", data: value } : value);
  const url = (value: string): unknown => (v4 ? { type: "url", url: new URL(value) } : new URL(value));
  return {
    text: { prompt: [{ role: "system", content: "Be brief." }, user(text("A haiku, please."))] },
    long: { prompt: [user(text(LONG), text(LONG))] },
    image: {
      prompt: [user(text("What is it?"), { type: "file", mediaType: "image/png", data: data(PIXEL) })],
    },
    address: {
      prompt: [user({ type: "file", mediaType: "image/png", data: url("https://example.test/a.png") })],
    },
    pdf: {
      prompt: [user({ type: "file", mediaType: "application/pdf", filename: "a.pdf", data: data(PDF) })],
    },
    bytes: {
      prompt: [
        user({
          type: "file",
          mediaType: "image/png",
          data: v4
            ? { type: "data", data: Uint8Array.from(atob(PIXEL), (one) => one.charCodeAt(0)) }
            : Uint8Array.from(atob(PIXEL), (one) => one.charCodeAt(0)),
        }),
      ],
    },
    tools: { prompt: [user(text("Weather?"))], tools: [WEATHER], toolChoice: { type: "auto" } },
    forced: {
      prompt: [user(text("Weather?"))],
      tools: [WEATHER],
      toolChoice: { type: "tool", toolName: "weather" },
    },
    required: { prompt: [user(text("Weather?"))], tools: [WEATHER], toolChoice: { type: "required" } },
    loop: {
      prompt: [
        user(text("Weather?")),
        {
          role: "assistant",
          content: [
            text("Let me see."),
            { type: "tool-call", toolCallId: "call_1", toolName: "weather", input: { city: "Łódź" } },
            { type: "tool-call", toolCallId: "call_2", toolName: "weather", input: { city: LONG } },
          ],
        },
        {
          role: "tool",
          content: [
            {
              type: "tool-result",
              toolCallId: "call_1",
              toolName: "weather",
              output: { type: "json", value: { c: 3 } },
            },
            {
              type: "tool-result",
              toolCallId: "call_2",
              toolName: "weather",
              output: { type: "text", value: LONG },
            },
          ],
        },
      ],
      tools: [WEATHER],
    },
    parts: {
      prompt: [
        user(text("Look.")),
        {
          role: "assistant",
          content: [{ type: "tool-call", toolCallId: "c", toolName: "weather", input: {} }],
        },
        {
          role: "tool",
          content: [
            {
              type: "tool-result",
              toolCallId: "c",
              toolName: "weather",
              output: {
                type: "content",
                value: [
                  text(LONG),
                  v4
                    ? { type: "file", mediaType: "image/png", data: { type: "data", data: PIXEL } }
                    : { type: "image-data", mediaType: "image/png", data: PIXEL },
                ],
              },
            },
          ],
        },
      ],
      tools: [WEATHER],
    },
    failed: {
      prompt: [
        user(text("Weather?")),
        {
          role: "assistant",
          content: [{ type: "tool-call", toolCallId: "c", toolName: "weather", input: {} }],
        },
        {
          role: "tool",
          content: [
            {
              type: "tool-result",
              toolCallId: "c",
              toolName: "weather",
              output: { type: "error-text", value: LONG },
            },
          ],
        },
      ],
    },
    schema: {
      prompt: [user(text("Weather?"))],
      responseFormat: {
        type: "json",
        name: "weather",
        description: "The weather",
        schema: WEATHER.inputSchema,
      },
    },
    json: { prompt: [user(text("Weather, as JSON?"))], responseFormat: { type: "json" } },
    capped: { prompt: [user(text("Hello"))], maxOutputTokens: 77 },
  };
}

interface Kind {
  readonly name: string;
  readonly api: "openai.chat" | "openai.responses" | "anthropic.messages";
  readonly v4: boolean;
  /** What else a call may be made with. */
  readonly more: Record<string, Fields>;
  make(fetcher: typeof fetch): unknown;
}

const OPENAI_MORE: Record<string, Fields> = {
  cap: { prompt: [user(text("Hi"))], providerOptions: { openai: { maxCompletionTokens: 99 } } },
  prediction: {
    prompt: [user(text("Hi"))],
    maxOutputTokens: 50,
    providerOptions: { openai: { prediction: { type: "content", content: LONG } } },
  },
  quiet: {
    prompt: [user(text("Hi"))],
    providerOptions: { openai: { user: "u1", metadata: { a: "b" }, store: false } },
  },
};
const RESPONSES_MORE: Record<string, Fields> = {
  instructions: { prompt: [user(text("Hi"))], providerOptions: { openai: { instructions: LONG } } },
  encrypted: {
    prompt: [
      user(text("Hi")),
      {
        role: "assistant",
        content: [
          {
            type: "reasoning",
            text: "I thought.",
            providerOptions: {
              openai: { itemId: "rs_1", reasoningEncryptedContent: btoa(LONG.replace(/[^ -~]/g, "")) },
            },
          },
          { ...text("Hello"), providerOptions: { openai: { itemId: "msg_1" } } },
        ],
      },
      user(text("Again")),
    ],
    providerOptions: { openai: { store: false } },
  },
  stored: {
    prompt: [
      user(text("Hi")),
      {
        role: "assistant",
        content: [{ type: "reasoning", text: "", providerOptions: { openai: { itemId: "rs_2" } } }],
      },
      user(text("Again")),
    ],
  },
  search: {
    prompt: [user(text("News?"))],
    tools: [{ type: "provider", id: "openai.web_search", name: "web_search", args: {} }],
  },
  earlier: { prompt: [user(text("Hi"))], providerOptions: { openai: { previousResponseId: "resp_1" } } },
};
const ANTHROPIC_MORE: Record<string, Fields> = {
  thinking: {
    prompt: [user(text("Hi"))],
    maxOutputTokens: 100,
    providerOptions: { anthropic: { thinking: { type: "enabled", budgetTokens: 2_000 } } },
  },
  thought: {
    prompt: [
      user(text("Hi")),
      {
        role: "assistant",
        content: [
          {
            type: "reasoning",
            text: LONG,
            providerOptions: { anthropic: { signature: "c2ln".repeat(500) } },
          },
          {
            type: "reasoning",
            text: "",
            providerOptions: { anthropic: { redactedData: "ZGF0YQ==".repeat(300) } },
          },
          text("Hello"),
        ],
      },
      user(text("Again")),
    ],
    maxOutputTokens: 100,
  },
  cached: {
    prompt: [
      {
        role: "system",
        content: LONG,
        providerOptions: { anthropic: { cacheControl: { type: "ephemeral" } } },
      },
      user(text("Hi")),
    ],
    maxOutputTokens: 100,
  },
  search: {
    prompt: [user(text("News?"))],
    maxOutputTokens: 100,
    tools: [
      { type: "provider", id: "anthropic.web_search_20250305", name: "web_search", args: { maxUses: 3 } },
    ],
  },
};

const KINDS: Kind[] = [
  {
    name: "openai 3 chat",
    api: "openai.chat",
    v4: false,
    more: OPENAI_MORE,
    make: (fetcher) => createOpenAI({ apiKey: "k", fetch: fetcher }).chat("gpt-4o-mini"),
  },
  {
    name: "openai 4 chat",
    api: "openai.chat",
    v4: true,
    more: OPENAI_MORE,
    make: (fetcher) => createOpenAI4({ apiKey: "k", fetch: fetcher }).chat("gpt-4o-mini"),
  },
  {
    name: "openai 3 responses",
    api: "openai.responses",
    v4: false,
    more: RESPONSES_MORE,
    make: (fetcher) => createOpenAI({ apiKey: "k", fetch: fetcher }).responses("gpt-5-mini"),
  },
  {
    name: "openai 4 responses",
    api: "openai.responses",
    v4: true,
    more: RESPONSES_MORE,
    make: (fetcher) => createOpenAI4({ apiKey: "k", fetch: fetcher }).responses("gpt-5-mini"),
  },
  {
    name: "anthropic 3",
    api: "anthropic.messages",
    v4: false,
    more: ANTHROPIC_MORE,
    make: (fetcher) => createAnthropic({ apiKey: "k", fetch: fetcher })("claude-haiku-4-5"),
  },
  {
    name: "anthropic 4",
    api: "anthropic.messages",
    v4: true,
    more: ANTHROPIC_MORE,
    make: (fetcher) => createAnthropic4({ apiKey: "k", fetch: fetcher })("claude-haiku-4-5"),
  },
];

const UNSUPPORTED = new Set(["AI_UnsupportedFunctionalityError"]);

/** The body that the package sends for these options; undefined where it says that it cannot. */
async function sentBy(kind: Kind, options: Fields): Promise<Fields | undefined> {
  let body: Fields | undefined;
  const model = kind.make(async (_, init) => {
    body = JSON.parse(String(init?.body)) as Fields;
    return new Response("{}", { status: 418 });
  }) as { doGenerate(given: Fields): PromiseLike<unknown> };
  try {
    await model.doGenerate(options);
  } catch (error) {
    if (body === undefined && !UNSUPPORTED.has((error as Error).name)) throw error;
  }
  return body;
}

describe.each(KINDS)("A call of $name", (kind) => {
  const cases = { ...prompts(kind.v4), ...kind.more };

  it.each(Object.keys(cases))("is bounded by no less than its request: %s", async (name) => {
    const options = cases[name] as LanguageOptions;
    const sent = await sentBy(kind, options);
    const model = kind.make(fetch) as AnyModel;
    const bound = boundOf(model, options);
    if (sent === undefined) return;
    const own = estimate(bound.body as never, { api: bound.api });
    const real = estimate(sent as never, { api: kind.api });
    expect(own.inputTokens).toBeGreaterThanOrEqual(real.inputTokens);
    expect(own.images).toBeGreaterThanOrEqual(real.images);
    expect(own.n).toBe(real.n);
    for (const [tool, uses] of Object.entries(real.tools))
      expect(own.tools[tool]).toBeGreaterThanOrEqual(uses);
    // Where only the provider knows how long something is, both say so.
    expect(own.complete).toBe(real.complete);
    if (real.cachedInputTokens !== 0) expect(own.cachedInputTokens).not.toBe(0);
    // What the package makes up as the cap of a call without one is replaced by the one that is held.
    if (options.maxOutputTokens !== undefined)
      expect(own.maxOutputTokens).toBeGreaterThanOrEqual(real.maxOutputTokens ?? Infinity);
  });

  it("knows most of what the package takes", async () => {
    let taken = 0;
    for (const options of Object.values(cases)) if ((await sentBy(kind, options)) !== undefined) taken += 1;
    expect(taken).toBeGreaterThanOrEqual(Object.keys(cases).length - 2);
  });
});
