/** An Express server whose calls are for the customer who is signed in; a refused one is answered 402. */

import { createOpenAI } from "@ai-sdk/openai";
import { BudgetExceededError, flush, noburnErrorOf } from "@noburn/sdk";
import { wrapProvider } from "@noburn/sdk/ai";
import { generateText } from "ai";
import express from "express";
import { customerIn } from "./session.ts";

const openai = wrapProvider(createOpenAI());
const app = express();
app.use(express.json({ limit: "100kb" }));

app.post("/answer", async (request, response) => {
  const customer = await customerIn(request.headers.cookie ?? null, process.env.SESSION_SECRET);
  if (customer === undefined) {
    response.status(401).json({ title: "Sign in first" });
    return;
  }
  const question: unknown = request.body?.question;
  if (typeof question !== "string" || question === "") {
    response.status(400).json({ title: "Ask something", errors: { question: "must be a text" } });
    return;
  }
  const left = new AbortController();
  response.on("close", () => left.abort());
  try {
    const { text } = await generateText({
      model: openai("gpt-4o-mini"),
      prompt: question,
      maxOutputTokens: 500,
      abortSignal: left.signal,
      providerOptions: { noburn: { customer, tags: { feature: "answer" } } },
    });
    response.json({ answer: text });
  } catch (error) {
    const refused = noburnErrorOf(error);
    if (refused instanceof BudgetExceededError) {
      response.status(402).json({
        title: "Your budget is used up",
        reason: refused.reason,
        remaining_usd: refused.remainingUsd,
        resets_at: refused.resetsAt,
      });
      return;
    }
    response.status(502).json({ title: "That did not work" });
  }
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  const address = server.address();
  console.log(typeof address === "object" && address !== null ? `http://127.0.0.1:${address.port}` : address);
});

process.once("SIGTERM", () => {
  server.close(async () => {
    // What calls used is told before the process ends.
    await flush(10_000);
    process.exit(0);
  });
});
