/** Streams of Anthropic's Messages. */

import { isNoburnError } from "../../errors.js";
import { SeenMeter } from "../../gate/seen.js";
import { fromAnthropic, read, type Usage } from "../../usage.js";

/** Reads a message as it is made. Its start tells the input exactly, its last delta all the rest. */
export class MessagesMeter extends SeenMeter {
  #start: unknown;
  #delta: unknown;
  #stopped = false;

  feed(event: unknown): void {
    switch (read(event, "type")) {
      case "message_start": {
        this.#start = read(event, "message");
        const model = read(this.#start, "model");
        if (typeof model === "string") this.model = model;
        break;
      }
      case "message_delta":
        this.#delta = read(event, "usage") ?? this.#delta;
        if (read(read(event, "delta"), "stop_reason") != null) this.#stopped = true;
        break;
      case "content_block_start":
        // What a model thinks is billed whole and shown as a summary, or not at all.
        if (String(read(read(event, "content_block"), "type")).endsWith("thinking")) this.hides = true;
        break;
      case "content_block_delta":
        for (const name of ["text", "partial_json", "thinking"]) this.add(read(read(event, "delta"), name));
        break;
      case "error":
        this.failed = true;
    }
    if (this.finished) this.forget();
  }

  /** Whether the message ended. */
  get finished(): boolean {
    return this.#stopped && this.#start != null && this.#delta != null;
  }

  /** What Anthropic told, once the message ended. */
  usage(): Usage | null {
    return this.finished ? usageOf(this.#start, this.#delta) : null;
  }

  /** The input as Anthropic told it, and the output as far as it came, where nothing of it is hidden. */
  seen(): Usage | null {
    if (this.#start == null || this.hides) return null;
    const outputTokens = this.outputTokens;
    if (outputTokens === 0) return null;
    const told = read(this.#start, "usage");
    return usageOf({ ...(typeof told === "object" ? told : {}), output_tokens: outputTokens });
  }
}

function usageOf(value: unknown, delta?: unknown): Usage | null {
  try {
    return fromAnthropic(value, delta);
  } catch (error) {
    if (isNoburnError(error)) return null;
    throw error;
  }
}
