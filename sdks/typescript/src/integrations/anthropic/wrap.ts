/** Anthropic's clients, gated; its package is not imported here. */

import { type Family, gatedClass, type WrapOptions, wrapClient } from "../clients.js";
import { AnthropicSite } from "./site.js";

const PLATFORMS: readonly (readonly [RegExp, string])[] = [
  [/bedrock|aws/i, "aws"],
  [/vertex|google|gcp/i, "google"],
  [/foundry|azure/i, "azure"],
];

/** Returns whom a client calls, by the price book's names. */
export function providerOf(client: object): string {
  const { _genAIProviderName: named, baseURL } = client as { _genAIProviderName?: string; baseURL?: string };
  const names = [named ?? "", baseURL ?? ""];
  for (let one: unknown = client.constructor; typeof one === "function"; one = Object.getPrototypeOf(one)) {
    names.push((one as { name: string }).name);
  }
  const found = PLATFORMS.find(([pattern]) => names.some((name) => pattern.test(name)));
  return found?.[1] ?? "anthropic";
}

export const ANTHROPIC: Family = {
  site: (client, said) => new AnthropicSite(providerOf(client), said),
  errors: "AnthropicError",
};

/**
 * Returns a copy of a client of Anthropic's package, each of whose attempts passes the gate; of Bedrock, Vertex and Foundry
 * as well.
 *
 * The options are whom its calls are for where nothing more specific says so. Throws InvalidRequestError.
 */
export function wrap<C extends object>(client: C, options: WrapOptions = {}): C {
  return wrapClient(client, ANTHROPIC, options);
}

/** Returns a class like one of Anthropic's packages whose clients' attempts pass the gate. */
// biome-ignore lint/suspicious/noExplicitAny: any class of clients.
export function gated<C extends new (...args: any[]) => object>(Base: C): C {
  return gatedClass(Base, ANTHROPIC);
}
