/** Calls to the provider double as programs make them, without any client. */

import type { Asked, Endpoint, JsonObject } from "../src/index.js";
import { usage } from "../src/index.js";
import { DOUBLE_URL } from "./control.js";

/** Time-outs that a busy machine does not reach. */
export const PATIENT = { timeoutMs: 30_000, retryTimeoutMs: 60_000, flushTimeoutMs: 60_000 };

export const CHAT: Endpoint = {
  name: "chat.completions",
  operation: "chat",
  api: "openai.chat",
  read: usage.fromOpenaiChat,
};

/** A chat that is about to be made for a customer. */
export function askedFor(customer: string, more: Partial<Asked> = {}): Asked {
  const body = {
    model: "gpt-4o-mini",
    messages: [{ role: "user", content: "Write about budgets." }],
    max_completion_tokens: 200,
  };
  return {
    endpoint: CHAT,
    provider: "openai",
    model: "gpt-4o-mini",
    body,
    stream: false,
    said: { customer },
    ...more,
  };
}

/** Sends a chat to the double. */
export async function callOpenai(body: JsonObject): Promise<unknown> {
  const answer = await fetch(`${DOUBLE_URL}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-any" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer.json();
}
