/** What is about to be sent to OpenAI, or to whatever speaks like it, read from the request itself. */

import { type Attribution, fromHeaders } from "../../attribution.js";
import { familyOf } from "../../estimate/families.js";
import type { Found, Sent, Site } from "../../gate/http.js";
import { objectOf } from "../../gate/sent.js";
import type { JsonObject } from "../../results.js";
import { endpointOf, OTHER, withUsage } from "./endpoints.js";

const HOSTS: readonly (readonly [string, string])[] = [
  ["api.openai.com", "openai"],
  [".api.openai.com", "openai"],
  [".openai.azure.com", "azure"],
  [".services.ai.azure.com", "azure"],
  ["openrouter.ai", "openrouter"],
  ["api.groq.com", "groq"],
  ["api.mistral.ai", "mistral"],
  ["api.deepseek.com", "deepseek"],
  ["api.x.ai", "x-ai"],
  ["api.together.xyz", "together"],
  ["api.fireworks.ai", "fireworks"],
  ["api.cerebras.ai", "cerebras"],
  ["api.perplexity.ai", "perplexity"],
  ["generativelanguage.googleapis.com", "google"],
  [".amazonaws.com", "aws"],
];
const FORM_MODEL = /name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n/;
const DEPLOYMENT = /\/deployments\/([^/]+)\//;

/** Returns the provider at a known host, by the price book's names. */
export function providerAt(host: string): string | undefined {
  return HOSTS.find(([name]) => host === name || (name.startsWith(".") && host.endsWith(name)))?.[1];
}

/** Behind an address that nobody knows, such as a proxy's, OpenAI's models are OpenAI's. */
function providerOf(host: string, model: string | undefined): string | undefined {
  return (
    providerAt(host) ?? (model !== undefined && familyOf(model).vendor === "openai" ? "openai" : undefined)
  );
}

function modelOf(path: string, body: JsonObject): string | undefined {
  const named = body.model;
  if (typeof named === "string" && named !== "") return named;
  return DEPLOYMENT.exec(path)?.[1];
}

async function bodyOf(sent: Sent, path: string): Promise<{ body: JsonObject; model: string | undefined }> {
  const form = sent.form();
  if (form !== null) {
    const named = form.get("model");
    return { body: {}, model: typeof named === "string" && named !== "" ? named : undefined };
  }
  const text = await sent.text();
  if ((sent.headers.get("content-type") ?? "").toLowerCase().startsWith("multipart/")) {
    return { body: {}, model: FORM_MODEL.exec(text)?.[1] };
  }
  const body = objectOf(text);
  return { body, model: modelOf(path, body) };
}

/** `defaults`: whom calls are for. `others`: what becomes of a POST to an endpoint that is not known. */
export interface SiteOptions {
  readonly defaults?: Attribution | undefined;
  readonly others?: "refuse" | "pass";
}

/** Reads requests of OpenAI's client, whichever provider it was pointed to. */
export class OpenAISite implements Site {
  readonly shape = "openai";
  readonly #options: SiteOptions;

  constructor(options: SiteOptions = {}) {
    this.#options = options;
  }

  async find(sent: Sent): Promise<Found | null> {
    if (sent.method !== "POST") return null;
    const { pathname, hostname } = new URL(sent.url);
    const path = pathname.replace(/\/+$/, "");
    const endpoint = endpointOf(path);
    if (endpoint === null || (endpoint === OTHER && this.#options.others === "pass")) return null;
    const { body, model } = await bodyOf(sent, path);
    const signed = (sent.headers.get("authorization") ?? "").startsWith("AWS4-");
    const told = signed ? body : withUsage(endpoint, body);
    const provider = providerOf(hostname, model);
    return {
      asked: {
        endpoint,
        model: model ?? endpoint.name,
        body: told,
        stream: body.stream === true,
        signed,
        modelFixed: DEPLOYMENT.test(path),
        said: fromHeaders(sent.headers),
        framework: this.#options.defaults,
        provider,
        changed: told !== body,
      },
      withholds: told === body ? undefined : isUsageAlone,
    };
  }
}

/** Whether a chunk is the one that tells the usage and nothing else, which breaks those who read its first choice. */
function isUsageAlone(chunk: unknown): boolean {
  if (typeof chunk !== "object" || chunk === null) return false;
  const { usage, choices } = chunk as { usage?: unknown; choices?: unknown };
  return usage !== undefined && usage !== null && !(Array.isArray(choices) && choices.length > 0);
}
