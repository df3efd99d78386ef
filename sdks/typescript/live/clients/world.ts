/** The same calls through every way in which a client can be gated, so that one test says what all must do. */

import Anthropic1 from "@anthropic-ai/sdk";
import Anthropic0 from "anthropic-0";
import OpenAI6 from "openai";
import OpenAI7 from "openai-7";
import { gated as gatedAnthropic, wrap as wrapAnthropic } from "../../src/integrations/anthropic/wrap.js";
import { instrument } from "../../src/integrations/fetch/index.js";
import { gated as gatedOpenAI, wrap as wrapOpenAI } from "../../src/integrations/openai/wrap.js";
import { newKey } from "../../src/requests.js";

export const TEXT = "Write a haiku about budgets, please.";
const MESSAGES = [{ role: "user" as const, content: TEXT }];
const CHAT = { model: "gpt-4o-mini", messages: MESSAGES };
const CLAUDE = { model: "claude-haiku-4-5", max_tokens: 200, messages: MESSAGES };

export const OPENAI_URL = `${process.env.DOUBLE_URL}/v1`;
export const ANTHROPIC_URL = `${process.env.DOUBLE_URL}`;

export interface Options {
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

/** How a kind of call is made, and read to its end. */
export interface Kind<C> {
  readonly streams: boolean;
  call(client: C, options: Options): PromiseLike<unknown>;
}

async function read(stream: PromiseLike<AsyncIterable<unknown>>): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const event of await stream) got.push(event);
  return got;
}

/** A stream that is read until it says something; then what the caller does with it is the test's. */
export async function untilText(stream: AsyncIterator<unknown>): Promise<void> {
  for (;;) {
    const step = await stream.next();
    if (step.done || JSON.stringify(step.value).includes(" ok")) return;
  }
}

export const OPENAI: Readonly<Record<string, Kind<OpenAI6>>> = {
  chat: { streams: false, call: (c, o) => c.chat.completions.create(CHAT, o) },
  "chat, raw": {
    streams: false,
    call: async (c, o) => (await c.chat.completions.create(CHAT, o).asResponse()).text(),
  },
  "chat stream": {
    streams: true,
    call: (c, o) => read(c.chat.completions.create({ ...CHAT, stream: true }, o)),
  },
  "chat stream helper": { streams: true, call: (c, o) => c.chat.completions.stream(CHAT, o).finalContent() },
  responses: { streams: false, call: (c, o) => c.responses.create({ model: CHAT.model, input: TEXT }, o) },
  "responses stream": {
    streams: true,
    call: (c, o) => read(c.responses.create({ model: CHAT.model, input: TEXT, stream: true }, o)),
  },
  embeddings: {
    streams: false,
    call: (c, o) => c.embeddings.create({ model: "text-embedding-3-small", input: TEXT }, o),
  },
};

export const ANTHROPIC: Readonly<Record<string, Kind<Anthropic1>>> = {
  messages: { streams: false, call: (c, o) => c.messages.create(CLAUDE, o) },
  "messages stream": {
    streams: true,
    call: (c, o) => read(c.messages.create({ ...CLAUDE, stream: true }, o)),
  },
  "messages stream helper": { streams: true, call: (c, o) => c.messages.stream(CLAUDE, o).finalMessage() },
  "beta messages": { streams: false, call: (c, o) => c.beta.messages.create(CLAUDE, o) },
};

/** Begins a stream and returns its events. */
export const BEGIN: Readonly<
  Record<string, (client: never, options: Options) => Promise<AsyncIterator<unknown>>>
> = {
  "chat stream": async (c: OpenAI6, o) =>
    (await c.chat.completions.create({ ...CHAT, stream: true }, o))[Symbol.asyncIterator](),
  "responses stream": async (c: OpenAI6, o) =>
    (await c.responses.create({ model: CHAT.model, input: TEXT, stream: true }, o))[Symbol.asyncIterator](),
  "messages stream": async (c: Anthropic1, o) =>
    (await c.messages.create({ ...CLAUDE, stream: true }, o))[Symbol.asyncIterator](),
};

type Make<C> = (options: object) => C;

function openai(Client: typeof OpenAI6): Readonly<Record<string, Make<OpenAI6>>> {
  const options = { apiKey: "k", baseURL: OPENAI_URL };
  return {
    instrument: (more) => {
      instrument({ baseUrls: { openai: OPENAI_URL, anthropic: ANTHROPIC_URL } });
      return new Client({ ...options, ...more });
    },
    wrap: (more) => wrapOpenAI(new Client({ ...options, ...more })),
    "drop-in": (more) => new (gatedOpenAI(Client))({ ...options, ...more }),
  };
}

function anthropic(Client: typeof Anthropic1): Readonly<Record<string, Make<Anthropic1>>> {
  const options = { apiKey: "k", baseURL: ANTHROPIC_URL };
  return {
    instrument: (more) => {
      instrument({ baseUrls: { openai: OPENAI_URL, anthropic: ANTHROPIC_URL } });
      return new Client({ ...options, ...more });
    },
    wrap: (more) => wrapAnthropic(new Client({ ...options, ...more })),
    "drop-in": (more) => new (gatedAnthropic(Client))({ ...options, ...more }),
  };
}

/** Packages, by version, and the ways in which a client of each gets its gate. */
export const CLIENTS: Readonly<Record<string, Readonly<Record<string, Make<never>>>>> = {
  "openai 6": openai(OpenAI6),
  "openai 7": openai(OpenAI7 as unknown as typeof OpenAI6),
  "anthropic 1": anthropic(Anthropic1),
  "anthropic 0": anthropic(Anthropic0 as unknown as typeof Anthropic1),
} as never;

/** What is to be tried: package, way and kind. */
export function cells(kinds: (kind: string) => boolean = () => true): [string, string, string][] {
  return Object.entries(CLIENTS).flatMap(([name, ways]) =>
    Object.keys(ways).flatMap((way) =>
      Object.keys(name.startsWith("openai") ? OPENAI : ANTHROPIC)
        .filter(kinds)
        .map((kind): [string, string, string] => [name, way, kind]),
    ),
  );
}

export function clientOf(name: string, way: string, options: object = {}): never {
  const make = CLIENTS[name]?.[way];
  if (make === undefined) throw new Error(`${name}, ${way}`);
  return make({ maxRetries: 0, timeout: 60_000, ...options });
}

export function kindOf(kind: string): Kind<never> {
  const found = OPENAI[kind] ?? ANTHROPIC[kind];
  if (found === undefined) throw new Error(kind);
  return found as Kind<never>;
}

/** The headers by which the provider double is told what to do with one call, and by which that call is found again. */
export function told(controls: Readonly<Record<string, string | number>> = {}): {
  readonly label: string;
  readonly headers: Record<string, string>;
} {
  const label = newKey();
  const headers: Record<string, string> = { "x-double-label": label };
  for (const [name, value] of Object.entries(controls)) headers[`x-double-${name}`] = String(value);
  return { label, headers };
}

/** A call as it reached the provider double. */
export interface Billed {
  readonly model: string;
  readonly label: string | null;
  readonly outcome: string;
  readonly noburn_headers: readonly string[];
  readonly metered: { readonly input_tokens: number; readonly output_tokens: number };
}

export async function billed(label: string): Promise<Billed[]> {
  const answer = await fetch(`${process.env.DOUBLE_URL}/__ledger?limit=100000`);
  const { entries } = (await answer.json()) as { entries: Billed[] };
  return entries.filter((entry) => entry.label === label);
}

/** What these models cost a token in nano-USD, in and out, by their providers' pages. */
const NANO: Readonly<Record<string, readonly [bigint, bigint]>> = {
  "gpt-4o-mini": [150n, 600n],
  "text-embedding-3-small": [20n, 0n],
  "claude-haiku-4-5": [1_000n, 5_000n],
};

/** What the provider bills for a call of the double's ledger. */
export function costNano({ model, metered }: Billed): bigint {
  const [input, output] = NANO[model] ?? [0n, 0n];
  return BigInt(metered.input_tokens) * input + BigInt(metered.output_tokens) * output;
}
