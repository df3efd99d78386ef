/** Streams of OpenAI's Chat Completions, Completions and Responses, and of whatever speaks like them. */

import { isNoburnError } from "../../errors.js";
import { familyOf } from "../../estimate/families.js";
import type { Estimate } from "../../estimate/types.js";
import { SeenMeter } from "../../gate/seen.js";
import { fromOpenaiChat, fromOpenaiResponses, read, type Usage } from "../../usage.js";

/** What the two kinds of streams share: what was seen of a cut one. */
abstract class OpenAIMeter extends SeenMeter {
  #usage: Usage | null = null;

  /** Whether the provider told the usage. */
  get finished(): boolean {
    return this.#usage !== null;
  }

  usage(): Usage | null {
    return this.#usage;
  }

  /**
   * The input as it was counted and the output as far as it came, where nothing of both is hidden.
   *
   * Models that reason do not show it, so nothing is known of how much they did.
   */
  seen(estimate: Estimate | undefined): Usage | null {
    if (this.#usage !== null) return this.#usage;
    if (estimate === undefined || !estimate.complete || estimate.audio || this.hides) return null;
    const family = familyOf(this.asked);
    if (family.vendor !== "openai" || family.frame !== "published") return null;
    const outputTokens = this.outputTokens;
    return outputTokens > 0 ? { inputTokens: estimate.inputTokens, outputTokens } : null;
  }

  /** Takes the usage from what carries it, if it can be read. */
  protected take(reader: (value: unknown) => Usage, value: unknown): void {
    try {
      this.#usage = reader(value);
      this.forget();
    } catch (error) {
      if (!isNoburnError(error)) throw error;
    }
  }

  protected noteModel(found: unknown): void {
    if (typeof found === "string" && found !== "") this.model = found;
  }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Reads chunks of Chat Completions and Completions. */
export class ChatMeter extends OpenAIMeter {
  feed(event: unknown): void {
    this.noteModel(read(event, "model"));
    if (read(event, "error")) this.failed = true;
    if (typeof read(read(event, "usage"), "prompt_tokens") === "number") this.take(fromOpenaiChat, event);
    for (const choice of listOf(read(event, "choices"))) this.#choice(choice);
  }

  #choice(choice: unknown): void {
    this.add(read(choice, "text"));
    const delta = read(choice, "delta");
    if (read(delta, "audio")) this.hides = true;
    for (const name of ["content", "refusal", "reasoning_content", "reasoning"]) this.add(read(delta, name));
    for (const call of listOf(read(delta, "tool_calls"))) {
      const named = read(call, "function");
      this.add(read(named, "name"));
      this.add(read(named, "arguments"));
    }
  }
}

const LAST: ReadonlySet<unknown> = new Set([
  "response.completed",
  "response.incomplete",
  "response.failed",
  "response.cancelled",
]);

/** Reads events of a response. */
export class ResponsesMeter extends OpenAIMeter {
  feed(event: unknown): void {
    const kind = read(event, "type");
    const response = read(event, "response");
    this.noteModel(read(response, "model"));
    if (kind === "error" || kind === "response.failed") this.failed = true;
    if (LAST.has(kind) && read(response, "usage") != null) this.take(fromOpenaiResponses, response);
    if (typeof kind !== "string") return;
    if (/audio|image_generation|_search_call/.test(kind)) this.hides = true;
    if (kind.endsWith(".delta")) this.add(read(event, "delta"));
  }
}
