/** What an answer says that it used, in V2's form, V3's or V4's. */

import { checkUsage, type Usage } from "../../usage.js";
import { kindOf } from "./responses.js";
import { countOf, type Fields, fieldsOf, listOf } from "./spec.js";

/** The price book's names of tools that a provider runs, by the beginning of the AI SDK's. */
const TOOLS: readonly (readonly [string, string])[] = [
  ["web_search", "web_search"],
  ["google_search", "web_search"],
  ["enterprise_web_search", "web_search"],
  ["file_search", "file_search"],
  ["code_interpreter", "code_execution"],
  ["code_execution", "code_execution"],
];

/** Reads `usage` of an answer or of a stream's last part. Null where the provider did not tell it. */
export function usageOf(answer: Fields, tools: Readonly<Record<string, number>> = {}): Usage | null {
  const used = fieldsOf(answer.usage);
  const input = fieldsOf(used.inputTokens);
  const output = fieldsOf(used.outputTokens);
  const raw = fieldsOf(used.raw);
  const parts = [input.noCache, input.cacheRead, input.cacheWrite].map(countOf);
  const added =
    parts[0] === undefined ? undefined : parts.reduce<number>((sum, part) => sum + (part ?? 0), 0);
  const inputTokens = countOf(used.inputTokens) ?? countOf(input.total) ?? added;
  const outputTokens = countOf(used.outputTokens) ?? countOf(output.total) ?? countOf(output.text);
  if (inputTokens === undefined || outputTokens === undefined) return null;
  const cacheReadTokens = countOf(input.cacheRead) ?? countOf(used.cachedInputTokens) ?? 0;
  const cacheWriteTokens = countOf(input.cacheWrite) ?? 0;
  const hour = countOf(fieldsOf(raw.cache_creation).ephemeral_1h_input_tokens) ?? 0;
  const searches = countOf(fieldsOf(raw.server_tool_use).web_search_requests);
  const counted = { ...tools, ...(searches === undefined ? {} : { web_search: searches }) };
  const heard = countOf(fieldsOf(raw.prompt_tokens_details).audio_tokens) ?? 0;
  const spoken = countOf(fieldsOf(raw.completion_tokens_details).audio_tokens) ?? 0;
  try {
    return checkUsage({
      // A provider that counts its cache apart from the input would be wrong by the cache, never by less.
      inputTokens: Math.max(inputTokens, cacheReadTokens + cacheWriteTokens),
      outputTokens,
      cacheReadTokens,
      cacheWriteTokens,
      cacheWrite1hTokens: Math.min(hour, cacheWriteTokens),
      reasoningTokens: Math.min(
        countOf(output.reasoning) ?? countOf(used.reasoningTokens) ?? 0,
        outputTokens,
      ),
      audioInputTokens: heard,
      audioOutputTokens: spoken,
      toolCalls: Object.fromEntries(Object.entries(counted).filter(([, count]) => count > 0)),
      ...tierOf(answer, raw),
    });
  } catch {
    return null;
  }
}

function tierOf(answer: Fields, raw: Fields): { serviceTier?: string } {
  const told = Object.values(fieldsOf(answer.providerMetadata)).map((own) => fieldsOf(own).serviceTier);
  const tier = [...told, raw.service_tier, raw.serviceTier].find((one) => typeof one === "string" && one);
  if (typeof tier !== "string") return {};
  return { serviceTier: tier === "standard" ? "default" : tier };
}

/** Counts the provider's own tools as they are used. */
export class ToolCount {
  readonly #kinds = new Map<string, string>();
  readonly #seen = new Set<string>();
  readonly counts: Record<string, number> = {};

  constructor(tools: unknown) {
    for (const tool of listOf(tools))
      if (typeof tool.name === "string") this.#kinds.set(tool.name, kindOf(tool));
  }

  /** Takes a part of an answer or of a stream. */
  take(part: Fields): void {
    if (part.type !== "tool-call" || part.providerExecuted !== true) return;
    const id = String(part.toolCallId);
    const kind = this.#kinds.get(String(part.toolName)) ?? String(part.toolName);
    const known = TOOLS.find(([start]) => kind.startsWith(start));
    if (known === undefined || this.#seen.has(id)) return;
    this.#seen.add(id);
    this.counts[known[1]] = (this.counts[known[1]] ?? 0) + 1;
  }
}

/** Reads an embedding model's answer, which counts input alone. */
export function embeddingUsage(answer: Fields): Usage | null {
  const tokens = countOf(fieldsOf(answer.usage).tokens);
  return tokens === undefined ? null : { inputTokens: tokens };
}

/** Reads an image model's answer, whose output is images; null where it was given some, which are counted apart. */
export function imageUsage(answer: Fields, withFiles: boolean): Usage | null {
  const used = fieldsOf(answer.usage);
  const inputTokens = countOf(used.inputTokens);
  const outputTokens = countOf(used.outputTokens);
  if (inputTokens === undefined || outputTokens === undefined || withFiles) return null;
  return { inputTokens, outputTokens, units: outputTokens ? { output_image_tokens: outputTokens } : {} };
}
