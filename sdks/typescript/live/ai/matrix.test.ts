/** ai 6 and ai 7 with the packages of OpenAI and Anthropic, against a real noburn and the double. */

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import * as ai6 from "ai";
import * as ai7 from "ai-7";
import { createAnthropic as createAnthropic4 } from "ai-sdk-anthropic-4";
import { createOpenAI as createOpenAI4 } from "ai-sdk-openai-4";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { configure, flush, release } from "../../src/index.js";
import { isBudgetExceeded, wrapProvider } from "../../src/integrations/ai/index.js";
import { PATIENT } from "../calls.js";
import { API_KEY, BASE_URL, customer, DOUBLE_URL, double, ledger } from "../control.js";

type Ai = typeof ai6;

const at = { baseURL: `${DOUBLE_URL}/v1`, apiKey: "sk-any" };
const three = { openai: wrapProvider(createOpenAI(at)), anthropic: wrapProvider(createAnthropic(at)) };
const four = { openai: wrapProvider(createOpenAI4(at)), anthropic: wrapProvider(createAnthropic4(at)) };

const KINDS: { name: string; ai: Ai; model: () => never }[] = [
  { name: "ai 6, chat", ai: ai6, model: () => three.openai.chat("gpt-4o-mini") as never },
  { name: "ai 6, Responses", ai: ai6, model: () => three.openai.responses("gpt-4o-mini") as never },
  { name: "ai 6, Messages", ai: ai6, model: () => three.anthropic("claude-haiku-4-5") as never },
  { name: "ai 7, chat", ai: ai7 as never, model: () => four.openai.chat("gpt-4o-mini") as never },
  { name: "ai 7, Responses", ai: ai7 as never, model: () => four.openai.responses("gpt-4o-mini") as never },
  { name: "ai 7, Messages", ai: ai7 as never, model: () => four.anthropic("claude-haiku-4-5") as never },
  // A provider of ai 6 on ai 7.
  { name: "ai 7, chat of ai 6", ai: ai7 as never, model: () => three.openai.chat("gpt-4o-mini") as never },
];

beforeAll(() => {
  configure({ apiKey: API_KEY, baseUrl: BASE_URL, leases: false, ...PATIENT });
});
beforeEach(() => double.reset());
afterAll(release);

/** Checks that a customer's ledger says what the double metered, call by call. */
async function booked(name: string, calls: number): Promise<void> {
  expect(await flush(60_000)).toBe(true);
  const [entries, metered] = [await ledger(name), await double.ledger()];
  expect(metered).toHaveLength(calls);
  expect(entries).toHaveLength(calls);
  const tokens = (input: unknown, output: unknown): string => `${String(input)}/${String(output)}`;
  expect(entries.map((one) => tokens(one.usage?.input_tokens, one.usage?.output_tokens)).sort()).toEqual(
    metered.map((one) => tokens(one.metered.input_tokens, one.metered.output_tokens)).sort(),
  );
  expect(metered.every((one) => one.noburn_headers.length === 0)).toBe(true);
}

const asked = (name: string) => ({
  prompt: "Write about budgets.",
  maxOutputTokens: 60,
  providerOptions: { noburn: { customer: name } },
});

describe.each(KINDS)("$name", ({ ai, model }) => {
  it("generates and streams, and each call is booked as it was metered", async () => {
    const acme = await customer();
    const answer = await ai.generateText({ model: model(), ...asked(acme) });
    expect(answer.text).not.toBe("");
    const streamed = ai.streamText({ model: model(), ...asked(acme) });
    let text = "";
    for await (const piece of streamed.textStream) text += piece;
    expect(text).not.toBe("");
    await booked(acme, 2);
  });

  it("makes no request for calls that are refused", async () => {
    const poor = await customer("0.000000001");
    await expect(ai.generateText({ model: model(), ...asked(poor) })).rejects.toSatisfy(isBudgetExceeded);
    const errors: unknown[] = [];
    const streamed = ai.streamText({
      model: model(),
      ...asked(poor),
      onError: ({ error }) => {
        errors.push(error);
      },
    });
    await streamed.consumeStream();
    expect(errors.map(isBudgetExceeded)).toEqual([true]);
    expect(await double.ledger()).toEqual([]);
  });

  it("settles an aborted stream once", async () => {
    const acme = await customer();
    await double.control({ output_fraction: 1, chunk_delay_ms: 20 });
    const abort = new AbortController();
    const streamed = ai.streamText({ model: model(), ...asked(acme), abortSignal: abort.signal });
    for await (const _ of streamed.textStream) abort.abort();
    expect(await flush(60_000)).toBe(true);
    const entries = await ledger(acme);
    expect(entries).toHaveLength(1);
    expect(entries[0]?.outcome).toBe("cut");
  });
});

describe.each([
  { name: "ai 6", ai: ai6, provider: three.openai },
  { name: "ai 7", ai: ai7 as never as Ai, provider: four.openai },
])("$name", ({ ai, provider }) => {
  it("embeds", async () => {
    const acme = await customer();
    const model = (provider as typeof three.openai).embedding("text-embedding-3-small");
    const found = await ai.embedMany({
      model,
      values: ["one", "two"],
      providerOptions: { noburn: { customer: acme } },
    });
    expect(found.embeddings).toHaveLength(2);
    await flush(60_000);
    expect((await ledger(acme)).length).toBe((await double.ledger()).length);
    const poor = await customer("0.000000001");
    const refused = ai.embed({ model, value: "one", providerOptions: { noburn: { customer: poor } } });
    await expect(refused).rejects.toSatisfy(isBudgetExceeded);
  });

  it("pays for what was billed, and for nothing that failed", async () => {
    const acme = await customer();
    await double.control({ fail_status: 500 });
    const model = (provider as typeof three.openai).chat("gpt-4o-mini") as never;
    await expect(ai.generateText({ model, ...asked(acme), maxRetries: 0 })).rejects.toThrow();
    await double.control({ fail_status: null });
    const answer = await ai.generateText({ model, ...asked(acme) });
    expect(answer.text).not.toBe("");
    await flush(60_000);
    // The failed call's hold is freed, which is an entry of no cost.
    expect((await ledger(acme)).map((one) => one.kind).sort()).toEqual(["settled", "voided"]);
  });
});
