/** Anthropic's endpoints: which cost something, and what bounds them. */

import type { Endpoint } from "../../gate/endpoints.js";
import { fromAnthropic } from "../../usage.js";
import { MessagesMeter } from "./meters.js";

export const MESSAGES: Endpoint = {
  name: "anthropic.messages",
  operation: "chat",
  api: "anthropic.messages",
  read: (answer) => fromAnthropic(answer),
  meter: (model, live) => new MessagesMeter(model, live),
};
export const BATCHES: Endpoint = {
  name: "anthropic.batches",
  operation: "chat",
  api: null,
  why:
    "each request of a batch is a call of its own, billed when it is done; gate them before you hand them in " +
    "(@noburn/sdk/estimate, batch: true), or bound the batch as a whole",
};
export const OTHER: Endpoint = {
  name: "anthropic.other",
  operation: "chat",
  api: null,
  why: "it is no endpoint whose cost noburn knows",
};

/** What is not billed as a call. Any other POST is, as far as is known here. */
const FREE = new RegExp(
  "/v1/(?:messages/count_tokens|messages/batches/[^/]+/cancel|files|skills(?:/.*)?|organizations?(?:/.*)?" +
    "|models(?:/.*)?|user_profiles(?:/.*)?|environments(?:/.*)?|agents(?:/.*)?|vaults(?:/.*)?" +
    "|memory_stores(?:/.*)?)$",
);

/** Returns what a POST to this path is; null where it is not billed. */
export function endpointOf(path: string): Endpoint | null {
  if (path.endsWith("/messages")) return MESSAGES;
  if (path.endsWith("/messages/batches")) return BATCHES;
  return FREE.test(path) ? null : OTHER;
}
