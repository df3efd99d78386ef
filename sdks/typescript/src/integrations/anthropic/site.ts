/** What is about to be sent to Anthropic, or to whatever speaks like it, read from the request itself. */

import { type Attribution, fromHeaders } from "../../attribution.js";
import type { Found, Site } from "../../gate/http.js";
import { objectOf, type Sent } from "../../gate/sent.js";
import { endpointOf } from "./endpoints.js";

/** Reads requests of Anthropic's client, whichever platform it calls. */
export class AnthropicSite implements Site {
  readonly shape = "anthropic";
  readonly #provider: string;
  readonly #defaults: Attribution | undefined;

  constructor(provider = "anthropic", defaults?: Attribution) {
    this.#provider = provider;
    this.#defaults = defaults;
  }

  async find(sent: Sent): Promise<Found | null> {
    if (sent.method !== "POST") return null;
    const endpoint = endpointOf(new URL(sent.url).pathname.replace(/\/+$/, ""));
    if (endpoint === null) return null;
    // What is no JSON is of an endpoint without a bound: a form, such as a skill's.
    const body = endpoint.api === null ? {} : objectOf(await sent.text());
    const { model } = body;
    return {
      asked: {
        endpoint,
        model: typeof model === "string" && model !== "" ? model : endpoint.name,
        body,
        stream: body.stream === true,
        provider: this.#provider,
        said: fromHeaders(sent.headers),
        framework: this.#defaults,
      },
    };
  }
}
