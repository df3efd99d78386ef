/** What rules of policies may look at in a request, beside what it costs: what it is to write, and how many messages. */

import type { Api } from "./types.js";
import { full, isMapping, read } from "./values.js";

const STEPS_MAX = 1_000_000;
const KINDS = new Map([
  ["json_schema", "schema"],
  ["json_object", "json"],
  ["text", "text"],
]);

/** Returns `output` and `steps` of a pre-flight, as far as a request says them. Never content. */
export function shapeOf(api: Api, body: unknown): { output?: string; steps?: number } {
  const found: { output?: string; steps?: number } = {};
  const output = outputOf(api, body);
  if (output !== undefined) found.output = output;
  const messages = field(body, api === "openai.responses" ? "input" : "messages");
  if (Array.isArray(messages)) found.steps = Math.min(messages.length, STEPS_MAX);
  return found;
}

function outputOf(api: Api, body: unknown): string | undefined {
  let asked: unknown;
  if (api === "openai.chat") {
    asked = field(body, "response_format");
  } else if (api === "openai.responses") {
    asked = field(field(body, "text"), "format");
  } else if (api === "anthropic.messages") {
    asked = field(field(body, "output_config"), "format");
    if (!full(asked)) asked = field(body, "output_format");
  } else {
    return undefined;
  }
  const kind = isMapping(asked) && Object.hasOwn(asked, "type") ? asked.type : "text";
  return KINDS.get(String(kind));
}

function field(value: unknown, name: string): unknown {
  return isMapping(value) ? read(value, name) : null;
}
