// The clients of OpenAI, Anthropic and Vercel's AI SDK, each as its guide shows it, with another base URL.
// Prints one JSON object: what each call gave, and how each refused call failed.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { embed, generateText, streamText } from "ai";
import OpenAI from "openai";

const { PROXY_URL, NOBURN_KEY, RICH, POOR } = process.env;
const CHAT = "gpt-4o-mini";
const CLAUDE = "claude-haiku-4-5";
const prompt = "Write a haiku about budgets, please.";
const messages = [{ role: "user", content: prompt }];

function clientsFor(customer) {
  const headers = { "x-noburn-key": NOBURN_KEY, "x-noburn-customer": customer };
  return {
    openai: new OpenAI({ baseURL: `${PROXY_URL}/openai/v1`, apiKey: "sk-of-the-caller", defaultHeaders: headers }),
    anthropic: new Anthropic({ baseURL: `${PROXY_URL}/anthropic`, apiKey: "sk-of-the-caller", defaultHeaders: headers }),
    aiOpenai: createOpenAI({ baseURL: `${PROXY_URL}/openai/v1`, apiKey: "sk-of-the-caller", headers }),
    aiAnthropic: createAnthropic({ baseURL: `${PROXY_URL}/anthropic/v1`, apiKey: "sk-of-the-caller", headers }),
  };
}

async function text(stream) {
  let whole = "";
  for await (const piece of stream) whole += piece;
  return whole;
}

const kinds = {
  "openai chat": async ({ openai }) =>
    (await openai.chat.completions.create({ model: CHAT, messages })).choices[0].message.content,
  "openai chat stream": async ({ openai }) => {
    let whole = "";
    for await (const chunk of await openai.chat.completions.create({ model: CHAT, messages, stream: true })) {
      // Without a look, as most programs do: a chunk with no choices would throw here.
      whole += chunk.choices[0].delta.content ?? "";
    }
    return whole;
  },
  "openai responses": async ({ openai }) => (await openai.responses.create({ model: CHAT, input: prompt })).output_text,
  "openai responses stream": async ({ openai }) => {
    let last;
    for await (const event of await openai.responses.create({ model: CHAT, input: prompt, stream: true })) last = event;
    return last.type;
  },
  "openai embeddings": async ({ openai }) =>
    (await openai.embeddings.create({ model: "text-embedding-3-small", input: prompt })).data[0].embedding.length,
  "anthropic messages": async ({ anthropic }) =>
    (await anthropic.messages.create({ model: CLAUDE, max_tokens: 200, messages })).content[0].text,
  "anthropic messages stream": async ({ anthropic }) =>
    (await anthropic.messages.stream({ model: CLAUDE, max_tokens: 200, messages }).finalMessage()).content[0].text,
  "ai openai responses": async ({ aiOpenai }) => (await generateText({ model: aiOpenai(CHAT), prompt })).text,
  "ai openai chat": async ({ aiOpenai }) => (await generateText({ model: aiOpenai.chat(CHAT), prompt })).text,
  "ai openai chat stream": async ({ aiOpenai }) => read(streamText({ model: aiOpenai.chat(CHAT), prompt, onError() {} })),
  "ai openai responses stream": async ({ aiOpenai }) => read(streamText({ model: aiOpenai(CHAT), prompt, onError() {} })),
  "ai openai embedding": async ({ aiOpenai }) =>
    (await embed({ model: aiOpenai.embeddingModel("text-embedding-3-small"), value: prompt })).embedding.length,
  "ai anthropic": async ({ aiAnthropic }) =>
    (await generateText({ model: aiAnthropic(CLAUDE), prompt, maxOutputTokens: 200 })).text,
  "ai anthropic stream": async ({ aiAnthropic }) =>
    read(streamText({ model: aiAnthropic(CLAUDE), prompt, maxOutputTokens: 200, onError() {} })),
};

// streamText never throws; its errors are parts of the full stream.
async function read(result) {
  let whole = "";
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") whole += part.text;
  }
  return whole;
}

function statusOf(error) {
  for (let one = error; one; one = one.cause ?? one.lastError) {
    const status = one.status ?? one.statusCode;
    if (status) return status;
  }
  return String(error);
}

const found = { node: process.version, answered: {}, refused: {} };
for (const [kind, call] of Object.entries(kinds)) {
  found.answered[kind] = await call(clientsFor(RICH));
  try {
    found.refused[kind] = { answered: await call(clientsFor(POOR)) };
  } catch (error) {
    found.refused[kind] = statusOf(error);
  }
}
console.log(JSON.stringify(found));
