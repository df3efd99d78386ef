/** LangChain JS and LangGraph JS against a real noburn and the double. */

import { ChatAnthropic } from "@langchain/anthropic";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent } from "langchain";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { BudgetExceededError, configure, flush, release } from "../../src/index.js";
import { isBudgetExceeded, noburnMiddleware, wrap } from "../../src/integrations/langchain/index.js";
import { PATIENT } from "../calls.js";
import { API_KEY, BASE_URL, customer, DOUBLE_URL, double, ledger } from "../control.js";

const openai = (fields = {}) =>
  wrap(
    new ChatOpenAI({
      model: "gpt-4o-mini",
      apiKey: "sk-any",
      maxTokens: 40,
      configuration: { baseURL: `${DOUBLE_URL}/v1` },
      ...fields,
    }),
  );
const MODELS: { name: string; model: () => ChatOpenAI }[] = [
  { name: "ChatOpenAI", model: () => openai() },
  { name: "ChatOpenAI by Responses", model: () => openai({ useResponsesApi: true }) },
  {
    name: "ChatAnthropic",
    model: () =>
      wrap(
        new ChatAnthropic({
          model: "claude-haiku-4-5",
          apiKey: "k",
          maxTokens: 40,
          anthropicApiUrl: DOUBLE_URL,
        }),
      ) as never,
  },
];

beforeAll(() => {
  configure({ apiKey: API_KEY, baseUrl: BASE_URL, leases: false, ...PATIENT });
});
beforeEach(() => double.reset());
afterAll(release);

const of = (name: string) => ({ metadata: { noburn_customer: name } });

/** Checks that a customer's ledger says what the double metered. */
async function booked(name: string, calls: number): Promise<void> {
  expect(await flush(60_000)).toBe(true);
  const [entries, metered] = [await ledger(name), await double.ledger()];
  expect(metered).toHaveLength(calls);
  expect(entries.map((one) => one.usage?.output_tokens).sort()).toEqual(
    metered.map((one) => one.metered.output_tokens).sort(),
  );
}

describe.each(MODELS)("$name", ({ model }) => {
  it("is booked as it was metered: invoke, stream and batch", async () => {
    const acme = await customer();
    await model().invoke("Write about budgets.", of(acme));
    for await (const _ of await model().stream("Write about budgets.", of(acme))) expect(_).toBeDefined();
    await model().batch(["One", "Two"], of(acme));
    await booked(acme, 4);
  });

  it("makes no request for calls that are refused", async () => {
    const poor = await customer("0.000000001");
    await expect(model().invoke("Hi", of(poor))).rejects.toBeInstanceOf(BudgetExceededError);
    await expect(model().stream("Hi", of(poor))).rejects.toSatisfy(isBudgetExceeded);
    expect(await double.ledger()).toEqual([]);
  });
});

describe("An agent and a graph", () => {
  it("are booked, refused, and stopped by their budget", async () => {
    const acme = await customer();
    const agent = createAgent({ model: openai(), tools: [], middleware: [noburnMiddleware()] });
    await agent.invoke({ messages: [{ role: "user", content: "Hi" }] }, of(acme));
    await booked(acme, 1);
    await double.reset();
    const model = openai();
    const graph = new StateGraph(MessagesAnnotation)
      .addNode("ask", async ({ messages }) => ({ messages: [await model.invoke(messages.slice(0, 1))] }))
      .addEdge(START, "ask")
      .addEdge("ask", "ask")
      .compile();
    const few = await customer("0.0003");
    const start = { messages: [{ role: "user", content: "Hi" }] };
    await expect(graph.invoke(start, { ...of(few), recursionLimit: 500 })).rejects.toSatisfy(
      isBudgetExceeded,
    );
    await flush(60_000);
    const calls = await double.ledger();
    expect(calls.length).toBeGreaterThan(1);
    expect(calls.length).toBeLessThan(500);
    expect(await ledger(few)).toHaveLength(calls.length);
  });
});
