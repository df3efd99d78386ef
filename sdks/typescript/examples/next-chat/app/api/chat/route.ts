/** A chat of Next's App Router: each call is for the customer who is signed in, and none fires that nobody can pay for. */

import { createOpenAI } from "@ai-sdk/openai";
import { isBudgetExceeded, wrapProvider } from "@noburn/sdk/ai";
import { convertToModelMessages, streamText, type UIMessage } from "ai";
import { customerIn } from "../../../lib/session";

export const maxDuration = 60;

const openai = wrapProvider(createOpenAI());

/** What the chat shows where its answer would be. */
function shown(error: unknown): string {
  return isBudgetExceeded(error)
    ? "Your budget for this month is used up."
    : "That did not work. Please try again.";
}

export async function POST(request: Request): Promise<Response> {
  const customer = await customerIn(request.headers.get("cookie"), process.env.SESSION_SECRET);
  if (customer === undefined) return new Response("Sign in first", { status: 401 });
  const { messages } = (await request.json()) as { messages: UIMessage[] };
  const answer = streamText({
    model: openai("gpt-4o-mini"),
    messages: await convertToModelMessages(messages),
    maxOutputTokens: 500,
    // A reader who leaves ends the call, which is settled by what was seen of it.
    abortSignal: request.signal,
    providerOptions: { noburn: { customer, tags: { feature: "chat" } } },
    onError: () => undefined,
  });
  return answer.toUIMessageStreamResponse({ onError: shown });
}
