/** OpenAI's clients, gated; its package is not imported here. */

import { type Family, gatedClass, type WrapOptions, wrapClient } from "../clients.js";
import { OpenAISite } from "./site.js";

export const OPENAI: Family = {
  site: (_, said) => new OpenAISite({ defaults: said }),
  errors: "OpenAIError",
};

/**
 * Returns a copy of a client of OpenAI's package, each of whose attempts passes the gate.
 *
 * The options are whom its calls are for where nothing more specific says so. Throws InvalidRequestError.
 */
export function wrap<C extends object>(client: C, options: WrapOptions = {}): C {
  return wrapClient(client, OPENAI, options);
}

/** Returns a class like one of OpenAI's package whose clients' attempts pass the gate. */
// biome-ignore lint/suspicious/noExplicitAny: any class of clients.
export function gated<C extends new (...args: any[]) => object>(Base: C): C {
  return gatedClass(Base, OPENAI);
}
