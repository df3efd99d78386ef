/** What the metadata and tags of a run say about whom its calls are for. */

import type { Attribution } from "../../attribution.js";

type Fields = Record<string, unknown>;

const PREFIX = "noburn_";
const TEXTS = {
  customer: "customer",
  user: "user",
  run: "run",
  project: "project",
  plan: "plan",
  provider: "provider",
  task: "task",
  cost_usd: "costUsd",
} as const;
const WHOLE = { max_input_tokens: "maxInputTokens", max_output_tokens: "maxOutputTokens" } as const;

/**
 * Reads `noburn_customer`, `noburn_tags` and so on, and LangGraph's thread and node; tags as `feature=chat`.
 *
 * What is of the wrong type is left out: a framework's metadata holds whatever somebody put there.
 */
export function saidBy(metadata: unknown, tags?: unknown): Attribution {
  const found = fieldsOf(metadata);
  const said: Fields = {};
  for (const [name, own] of Object.entries(TEXTS)) {
    const value = found[PREFIX + name];
    if (typeof value === "string" && value) said[own] = value;
  }
  for (const [name, own] of Object.entries(WHOLE)) {
    const value = found[PREFIX + name];
    if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) said[own] = value;
  }
  const thread = found.thread_id;
  if (said.run === undefined && (typeof thread === "string" || typeof thread === "number") && thread !== "") {
    said.run = String(thread);
  }
  const told: Record<string, string> = {};
  for (const tag of Array.isArray(tags) ? tags : []) {
    const text = String(tag);
    const at = text.indexOf("=");
    const [name, value] = [text.slice(0, Math.max(0, at)).trim(), text.slice(at + 1).trim()];
    if (at > 0 && name && value) told[name] = value;
  }
  if (typeof found.langgraph_node === "string") told.langgraph_node = found.langgraph_node;
  if (typeof found.langgraph_step === "number") told.langgraph_step = String(found.langgraph_step);
  for (const [name, value] of Object.entries(fieldsOf(found[`${PREFIX}tags`]))) told[name] = String(value);
  if (Object.keys(told).length > 0) said.tags = told;
  return said as Attribution;
}

/** Reads a runnable's configuration: its metadata, its tags, and what `configurable` says of the thread. */
export function saidIn(config: unknown): Attribution {
  const found = fieldsOf(config);
  const chosen = fieldsOf(found.configurable);
  const metadata: Fields = {};
  for (const [name, value] of Object.entries(chosen)) {
    if (name === "thread_id" || name.startsWith(PREFIX)) metadata[name] = value;
  }
  return saidBy({ ...metadata, ...fieldsOf(found.metadata) }, found.tags);
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}
