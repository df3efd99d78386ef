/** Models, agents and graphs of LangChain JS, against a noburn in memory and a provider that is a function. */

import { ChatAnthropic } from "@langchain/anthropic";
import { Annotation, END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { createAgent, createMiddleware, tool } from "langchain";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import * as noburn from "../../src/index.js";
import {
  forgetNodes,
  isBudgetExceeded,
  noburnMiddleware,
  readNodes,
  saidBy,
  withRun,
  wrap,
} from "../../src/integrations/langchain/index.js";
import { type MemoryPlane, release, useMemoryPlane } from "../../src/testing/index.js";

type Fields = Record<string, unknown>;

/** A provider: what it was sent, and what it says. */
class Provider {
  readonly sent: Fields[] = [];
  /** What it answers, first to last; then a greeting for ever. */
  readonly answers: Fields[] = [];
  status = 200;

  readonly fetch: typeof fetch = async (input, init) => {
    const url = String(input instanceof Request ? input.url : input);
    const body = JSON.parse(String(init?.body)) as Fields;
    this.sent.push({ ...body, headers: [...new Headers(init?.headers).keys()] });
    if (this.status !== 200)
      return Response.json({ error: { message: "overloaded" } }, { status: this.status });
    if (url.endsWith("/embeddings")) {
      const data = (body.input as string[]).map((_, index) => ({
        index,
        embedding: [1],
        object: "embedding",
      }));
      return Response.json({
        object: "list",
        data,
        model: body.model,
        usage: { prompt_tokens: 5, total_tokens: 5 },
      });
    }
    if (url.endsWith("/messages")) {
      const usage = { input_tokens: 11, output_tokens: 3 };
      const content = [{ type: "text", text: "Hello" }];
      return Response.json({
        id: "m",
        type: "message",
        role: "assistant",
        model: body.model,
        content,
        usage,
        stop_reason: "end_turn",
      });
    }
    const message = this.answers.shift() ?? { role: "assistant", content: "Hello" };
    const usage = { prompt_tokens: 12, completion_tokens: 4, total_tokens: 16 };
    const base = { id: `c${this.sent.length}`, created: 0, model: "gpt-4o-mini" };
    if (body.stream !== true) {
      const choices = [{ index: 0, message, finish_reason: "stop" }];
      return Response.json({ ...base, object: "chat.completion", choices, usage });
    }
    const chunks: Fields[] = [
      { choices: [{ index: 0, delta: { role: "assistant", content: "Hel" }, finish_reason: null }] },
      { choices: [{ index: 0, delta: { content: "lo" }, finish_reason: "stop" }] },
      { choices: [], usage },
    ];
    const lines = chunks.map(
      (one) => `data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", ...one })}\n\n`,
    );
    return new Response(`${lines.join("")}data: [DONE]\n\n`, {
      headers: { "content-type": "text/event-stream" },
    });
  };
}

const LOOKUP = tool(async () => "fine", {
  name: "weather",
  description: "Tells the weather",
  schema: z.object({ city: z.string() }),
});
const asks = (id: string): Fields => ({
  role: "assistant",
  content: null,
  tool_calls: [{ id, type: "function", function: { name: "weather", arguments: '{"city":"Bern"}' } }],
});

let plane: MemoryPlane;
let provider: Provider;

beforeEach(async () => {
  plane = await useMemoryPlane();
  plane.budget("customer", "acme", "1");
  plane.budget("customer", "poor", "0.000001");
  provider = new Provider();
});
afterEach(async () => {
  forgetNodes();
  await release();
});

function chat(fields: Fields = {}): ChatOpenAI {
  return new ChatOpenAI({
    model: "gpt-4o-mini",
    apiKey: "k",
    configuration: { fetch: provider.fetch },
    ...fields,
  });
}

const acme = { metadata: { noburn_customer: "acme" }, tags: ["feature=chat", "other"] };
const poor = { metadata: { noburn_customer: "poor" } };
const states = (): string[] => plane.settlements.map((one) => one.state);

describe("A wrapped chat model", () => {
  it("settles what it used, for whom the run's metadata name", async () => {
    const answer = await wrap(chat()).invoke("Hi", acme);
    expect(answer.text).toBe("Hello");
    await noburn.flush();
    expect(plane.settlements).toMatchObject([
      { state: "settled", usage: { input_tokens: 12, output_tokens: 4 } },
    ]);
    expect(plane.decisions[0]?.subject).toEqual({ customer: "acme" });
    expect(plane.decisions[0]?.tags).toEqual({ feature: "chat" });
    expect(provider.sent[0]?.max_completion_tokens).toBe(4_096);
  });

  it("makes no request for a call that is refused, and tries once", async () => {
    const refused = wrap(chat()).invoke("Hi", poor);
    await expect(refused).rejects.toBeInstanceOf(noburn.BudgetExceededError);
    await expect(refused).rejects.toSatisfy(isBudgetExceeded);
    expect(provider.sent).toHaveLength(0);
    expect(plane.decisions).toHaveLength(1);
  });

  it("does not wait long where noburn does not answer", async () => {
    plane.unavailable = true;
    await expect(wrap(chat()).invoke("Hi", acme)).rejects.toBeInstanceOf(noburn.UnavailableError);
    expect(provider.sent).toHaveLength(0);
  });

  it("frees the hold of an attempt that the provider refuses", async () => {
    provider.status = 401;
    await expect(wrap(chat()).invoke("Hi", acme)).rejects.toMatchObject({ status: 401 });
    await noburn.flush();
    expect(states()).toEqual(["voided"]);
  });

  it("streams", async () => {
    let text = "";
    for await (const chunk of await wrap(chat()).stream("Hi", acme)) text += chunk.text;
    expect(text).toBe("Hello");
    await noburn.flush();
    expect(plane.settlements).toMatchObject([{ state: "settled", usage: { output_tokens: 4 } }]);
    expect(plane.decisions[0]?.subject.customer).toBe("acme");
    const refused = (async () => {
      for await (const _ of await wrap(chat()).stream("Hi", poor)) expect.unreachable();
    })();
    await expect(refused).rejects.toBeInstanceOf(noburn.BudgetExceededError);
    expect(provider.sent).toHaveLength(1);
  });

  it("holds each call of a batch", async () => {
    await wrap(chat()).batch(["a", "b", "c"], acme);
    await noburn.flush();
    expect(states()).toEqual(["settled", "settled", "settled"]);
  });

  it("stays gated with tools, a schema or a configuration", async () => {
    const model = wrap(chat());
    await expect(model.bindTools([LOOKUP]).invoke("Hi", poor)).rejects.toSatisfy(isBudgetExceeded);
    await expect(model.withConfig({ tags: ["a=b"] }).invoke("Hi", poor)).rejects.toSatisfy(isBudgetExceeded);
    const shaped = model.withStructuredOutput(z.object({ city: z.string() }));
    await expect(shaped.invoke("Hi", poor)).rejects.toSatisfy(isBudgetExceeded);
    expect(provider.sent).toHaveLength(0);
  });

  it("says whom its calls are for where the run does not", async () => {
    await wrap(chat(), { customer: "acme", tags: { team: "blue" } }).invoke("Hi");
    expect(plane.decisions[0]).toMatchObject({ subject: { customer: "acme" }, tags: { team: "blue" } });
    await noburn.context({ customer: "acme", user: "u1" }, () => wrap(chat()).invoke("Hi", poor));
    // What a context says is said nearer to the call than what a framework knows.
    expect(plane.decisions[1]?.subject).toEqual({ customer: "acme", user: "u1" });
  });

  it("may be one of Anthropic's", async () => {
    const model = wrap(
      new ChatAnthropic({
        model: "claude-haiku-4-5",
        apiKey: "k",
        maxTokens: 50,
        clientOptions: { fetch: provider.fetch },
      }),
    );
    await model.invoke("Hi", acme);
    await expect(model.invoke("Hi", poor)).rejects.toBeInstanceOf(noburn.BudgetExceededError);
    await noburn.flush();
    expect(plane.settlements).toMatchObject([
      { state: "settled", usage: { input_tokens: 11, output_tokens: 3 } },
    ]);
    expect(provider.sent).toHaveLength(1);
  });

  it("may be embeddings", async () => {
    const fields = { model: "text-embedding-3-small", apiKey: "k", configuration: { fetch: provider.fetch } };
    await wrap(new OpenAIEmbeddings(fields), { customer: "acme" }).embedDocuments(["a", "b"]);
    await noburn.flush();
    expect(plane.settlements).toMatchObject([{ state: "settled", usage: { input_tokens: 5 } }]);
    const refused = wrap(new OpenAIEmbeddings(fields), { customer: "poor" }).embedQuery("long ".repeat(500));
    await expect(refused).rejects.toBeInstanceOf(noburn.BudgetExceededError);
  });

  it("must have a client that can be gated", () => {
    expect(() => wrap({ invoke: async () => "Hello" })).toThrow(noburn.InvalidRequestError);
  });
});

describe("An agent", () => {
  it("holds each step, for whom its invocation names", async () => {
    provider.answers.push(asks("c1"), asks("c2"));
    const agent = createAgent({ model: chat(), tools: [LOOKUP], middleware: [noburnMiddleware()] });
    await agent.invoke({ messages: [{ role: "user", content: "Weather?" }] }, acme);
    await noburn.flush();
    expect(states()).toEqual(["settled", "settled", "settled"]);
    expect(plane.decisions.every((one) => one.subject.customer === "acme")).toBe(true);
  });

  it("lets a refusal out, whatever a middleware makes of it", async () => {
    const forgiving = createMiddleware({
      name: "Forgiving",
      wrapModelCall: async (request, handler) => {
        try {
          return await handler(request);
        } catch {
          return (await chat().withConfig({}).invoke([])) as never;
        }
      },
    });
    const agent = createAgent({ model: chat(), tools: [], middleware: [noburnMiddleware(), forgiving] });
    const refused = agent.invoke({ messages: [{ role: "user", content: "Hi" }] }, poor);
    await expect(refused).rejects.toSatisfy(isBudgetExceeded);
  });
});

describe("A graph", () => {
  /** A node that asks itself again for ever. */
  function endless(model: ChatOpenAI, retries?: number) {
    const graph = new StateGraph(MessagesAnnotation).addNode(
      "ask",
      async ({ messages }) => ({ messages: [await model.invoke(messages.slice(-2))] }),
      retries === undefined
        ? {}
        : { retryPolicy: { maxAttempts: retries, initialInterval: 1, jitter: false } },
    );
    return graph.addEdge(START, "ask").addEdge("ask", "ask").compile();
  }

  const start = { messages: [{ role: "user", content: "Hi" }] };

  it("is stopped by its budget", async () => {
    plane.budget("customer", "loop", "0.0005");
    const config = { metadata: { noburn_customer: "loop" }, recursionLimit: 1_000 };
    await expect(endless(wrap(chat({ maxTokens: 8 }))).invoke(start, config)).rejects.toSatisfy(
      isBudgetExceeded,
    );
    expect(provider.sent.length).toBeGreaterThan(1);
    expect(provider.sent.length).toBeLessThan(1_000);
    await noburn.flush();
    expect(states()).toHaveLength(provider.sent.length);
  });

  it("is stopped by its run, which its nodes' calls are of", async () => {
    const graph = withRun(endless(wrap(chat({ maxTokens: 8 }))), { usd: "0.0005" });
    await expect(graph.invoke(start, { recursionLimit: 1_000 })).rejects.toSatisfy(isBudgetExceeded);
    expect(plane.refusals.at(-1)?.reason).toBe("run_limit");
    expect(provider.sent.length).toBeGreaterThan(1);
    const streamed = (async () => {
      for await (const _ of await graph.stream(start, { recursionLimit: 1_000 })) provider.answers.length = 0;
    })();
    await expect(streamed).rejects.toSatisfy(isBudgetExceeded);
    expect(new Set(plane.decisions.map((one) => one.subject.run)).size).toBe(2);
  });

  it("does not run a node again that was refused", async () => {
    const graph = endless(wrap(chat()), 5);
    await expect(graph.invoke(start, poor)).rejects.toBeInstanceOf(noburn.BudgetExceededError);
    expect(plane.decisions).toHaveLength(1);
  });

  it("tells thread, node and step to whatever is called inside", async () => {
    readNodes();
    const State = Annotation.Root({ said: Annotation<string>() });
    const graph = new StateGraph(State)
      .addNode("think", async () => {
        // A client that knows nothing of LangChain.
        const gate = noburn.defaultGate();
        const body = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hi" }] };
        const endpoint = { name: "own", operation: "chat", api: "openai.chat" as const };
        (await gate.admit({ endpoint, model: "gpt-4o-mini", body, stream: false })).void();
        return { said: "so" };
      })
      .addEdge(START, "think")
      .addEdge("think", END)
      .compile();
    await graph.invoke({}, { configurable: { thread_id: "t1" }, metadata: { noburn_customer: "acme" } });
    expect(plane.decisions[0]).toMatchObject({
      subject: { customer: "acme", run: "t1" },
      tags: { langgraph_node: "think", langgraph_step: "1" },
    });
  });
});

describe("Metadata", () => {
  it("say whom a call is for; what is of the wrong type is left out", () => {
    const metadata = {
      noburn_customer: "acme",
      noburn_user: 7,
      noburn_cost_usd: "0.5",
      noburn_max_input_tokens: 100,
      noburn_tags: { team: "blue" },
      thread_id: "t1",
      langgraph_node: "ask",
      langgraph_step: 2,
    };
    expect(saidBy(metadata, ["feature=chat", "plain", "=no"])).toEqual({
      customer: "acme",
      costUsd: "0.5",
      maxInputTokens: 100,
      run: "t1",
      tags: { feature: "chat", langgraph_node: "ask", langgraph_step: "2", team: "blue" },
    });
    expect(saidBy(undefined)).toEqual({});
  });
});
