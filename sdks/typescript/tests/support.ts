/** What tests of the gate share: an endpoint that bounds itself, and a plane in memory behind a gate. */

import type { Asked, Endpoint } from "../src/gate/index.js";
import { normalise } from "../src/usage.js";

/** An endpoint that says what it uses, so that no estimate is needed. */
export const ENDPOINT: Endpoint = {
  name: "test.call",
  operation: "chat",
  api: null,
  read: (answer) => normalise(answer),
  bound: (body) => ({
    inputTokens: Number(body.input ?? 100),
    maxOutputTokens: Number(body.output ?? 50),
  }),
};

/** A call that is about to be made, for acme. */
export function asked(more: Partial<Asked> = {}): Asked {
  const said = { customer: "acme" };
  return { endpoint: ENDPOINT, model: "m", body: { text: "hello" }, stream: false, said, ...more };
}

/** What a provider answers to it. */
export const ANSWER = { model: "m-2024", usage: { prompt_tokens: 90, completion_tokens: 10 } };

/** A promise that is fulfilled from outside. */
export function gatekeeper(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
