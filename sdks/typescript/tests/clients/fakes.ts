/** A gate that says what it is told to, and a provider without a socket: for what lies between the two. */

import { BudgetExceededError } from "../../src/errors.js";
import type { Asked } from "../../src/gate/endpoints.js";
import type { Gate } from "../../src/gate/gate.js";
import type { HeldCall } from "../../src/gate/held.js";
import type { Meter } from "../../src/gate/meters.js";
import type { JsonObject } from "../../src/results.js";
import { denial } from "../../src/results.js";
import type { Usage } from "../../src/usage.js";

/** How an admitted call ended. */
export interface End {
  readonly how: "settled" | "finished" | "ended" | "cut" | "voided" | "failed";
  readonly usage?: Usage | null;
  readonly error?: unknown;
}

export interface FakeGate {
  readonly gate: Gate;
  readonly asked: Asked[];
  readonly ends: End[];
  /** What the next calls meet: an error, another body, a hold of so many tokens. */
  refusal: Error | null;
  body: ((asked: Asked) => JsonObject) | null;
  tokensMax: number | undefined;
  /** Runs while a call is being asked about. */
  during: (() => Promise<void> | void) | null;
}

export const REFUSED = new BudgetExceededError(
  denial({
    reason: "budget_exceeded",
    estimateUsd: "0.01",
    budget: {
      id: "bud_1",
      scope: "customer",
      subject: "acme",
      window: "month",
      limitUsd: "1",
      remainingUsd: "0.005",
      resetsAt: new Date("2027-01-01T00:00:00Z"),
      raw: {},
    },
  }),
);

export function fakeGate(): FakeGate {
  const fake: FakeGate = {
    gate: { admit } as unknown as Gate,
    asked: [],
    ends: [],
    refusal: null,
    body: null,
    tokensMax: undefined,
    during: null,
  };
  async function admit(asked: Asked): Promise<HeldCall> {
    fake.asked.push(asked);
    await fake.during?.();
    if (fake.refusal !== null) throw fake.refusal;
    return held(asked);
  }
  function held(asked: Asked): HeldCall {
    let open = true;
    const end = (found: End): void => {
      if (open) fake.ends.push(found);
      open = false;
    };
    const made = {
      asked,
      body: fake.body?.(asked) ?? asked.body,
      model: asked.model,
      tokensMax: fake.tokensMax,
      get open() {
        return open;
      },
      settle: (answer: unknown) => end({ how: "settled", usage: readBy(asked, answer) }),
      finish: (usage: Usage | null) => end({ how: "finished", usage }),
      meterEnded: (meter: Meter) => end({ how: "ended", usage: meter.usage() }),
      meterCut: (meter: Meter) => end({ how: meter.finished ? "ended" : "cut", usage: meter.usage() }),
      void: () => end({ how: "voided" }),
      failed: (error: unknown) => end({ how: "failed", error }),
    };
    return made as unknown as HeldCall;
  }
  return fake;
}

function readBy(asked: Asked, answer: unknown): Usage | null {
  return answer === null ? null : (asked.endpoint.read?.(answer) ?? null);
}

export const CHAT = { model: "gpt-4o-mini", messages: [{ role: "user" as const, content: "Hi." }] };
export const CLAUDE = { model: "claude-haiku-4-5", max_tokens: 20, messages: CHAT.messages };

export const CHAT_ANSWER = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "gpt-4o-mini",
  choices: [
    {
      index: 0,
      finish_reason: "stop",
      logprobs: null,
      message: { role: "assistant", content: "Hö.", refusal: null },
    },
  ],
  usage: { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11 },
};

export const MESSAGE_ANSWER = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "claude-haiku-4-5",
  content: [{ type: "text", text: "Hö." }],
  stop_reason: "end_turn",
  stop_sequence: null,
  usage: { input_tokens: 9, output_tokens: 2 },
};

function chunk(delta: object, more: object = {}): object {
  return {
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    created: 1,
    model: "gpt-4o-mini",
    choices: [{ index: 0, delta, logprobs: null, finish_reason: null }],
    ...more,
  };
}

export function events(values: readonly unknown[], named = false): string {
  return values
    .map((value) => {
      const data = typeof value === "string" ? value : JSON.stringify(value);
      const name = named ? `event: ${(value as { type: string }).type}\n` : "";
      return `${name}data: ${data}\n\n`;
    })
    .join("");
}

export const USAGE_CHUNK = chunk({}, { choices: [], usage: CHAT_ANSWER.usage });
const LAST = { choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: "stop" }] };
export const CHAT_CHUNKS = [
  chunk({ role: "assistant", content: "" }),
  chunk({ content: "Hö" }),
  chunk({ content: "." }),
  chunk({}, LAST),
];
export const CHAT_STREAM = events([...CHAT_CHUNKS, USAGE_CHUNK, "[DONE]"]);
export const MESSAGE_EVENTS = [
  {
    type: "message_start",
    message: {
      ...MESSAGE_ANSWER,
      content: [],
      stop_reason: null,
      usage: { input_tokens: 9, output_tokens: 1 },
    },
  },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hö." } },
  { type: "content_block_stop", index: 0 },
  {
    type: "message_delta",
    delta: { stop_reason: "end_turn", stop_sequence: null },
    usage: { output_tokens: 2 },
  },
  { type: "message_stop" },
];
export const MESSAGE_STREAM = events(MESSAGE_EVENTS, true);

/** A request as it reached the provider. */
export interface Reached {
  readonly url: string;
  readonly method: string;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

export interface FakeProvider {
  readonly fetch: typeof fetch;
  readonly reached: Reached[];
}

/** Answers by `answer`, or by what is usual for the address and body. */
export function fakeProvider(answer?: (reached: Reached) => Response | Promise<Response>): FakeProvider {
  const reached: Reached[] = [];
  const fetcher: typeof fetch = async (input, init) => {
    const request = new Request(input, {
      ...init,
      ...(init?.body instanceof ReadableStream ? { duplex: "half" } : {}),
    } as RequestInit);
    const text = await request.text();
    const json = (request.headers.get("content-type") ?? "").includes("json") || text.startsWith("{");
    const found = {
      url: request.url,
      method: request.method,
      headers: request.headers,
      body: json ? (JSON.parse(text) as Record<string, unknown>) : {},
    };
    reached.push(found);
    const { signal } = request;
    const left = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    return Promise.race([left, answer === undefined ? usual(found) : answer(found)]);
  };
  return { fetch: fetcher, reached };
}

export function json(value: unknown, status = 200): Response {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
}

/** Gives one event at a time, when it is asked for it. */
export function stream(text: string): Response {
  const pieces = text.split(/(?<=\n\n)/);
  const source = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const piece = pieces.shift();
        if (piece === undefined) controller.close();
        else controller.enqueue(new TextEncoder().encode(piece));
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(source, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
}

export function usual({ url, body }: Reached): Response {
  if (url.includes("/chat/completions")) {
    const asked = (body.stream_options as { include_usage?: boolean } | undefined)?.include_usage === true;
    const told = asked ? CHAT_STREAM : events([...CHAT_CHUNKS, "[DONE]"]);
    return body.stream ? stream(told) : json(CHAT_ANSWER);
  }
  if (url.includes("/messages")) return body.stream ? stream(MESSAGE_STREAM) : json(MESSAGE_ANSWER);
  if (url.includes("/embeddings")) {
    const usage = { prompt_tokens: 3, total_tokens: 3 };
    const data = [{ object: "embedding", index: 0, embedding: [0, 1] }];
    return json({ object: "list", model: body.model, data, usage });
  }
  return json({ object: "list", data: [] });
}
