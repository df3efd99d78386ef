/** Reading the parts of a stream on their way to the caller. */

import { countText } from "../../estimate/index.js";
import type { Estimate } from "../../estimate/types.js";
import type { Meter } from "../../gate/meters.js";
import type { Usage } from "../../usage.js";
import { idsIn, remember } from "./reasoned.js";
import { type Fields, fieldsOf } from "./spec.js";
import { ToolCount, usageOf } from "./usage.js";

/** How much of what was made is kept until the usage is known; what is longer counts by its bytes. */
const SEEN_CHARS_MAX = 4 * 1024 * 1024;

/** Models whose whole output is shown, so that what was seen of it is what was made. */
const SHOWS = /^(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-4(?:-|$)|gpt-3\.5)/;

/** Reads the parts of one answer. */
export class PartMeter implements Meter {
  #usage: Usage | null = null;
  #texts: string[] = [];
  #chars = 0;
  #uncounted = 0;
  #liveTokens = 0;
  #hides = false;
  #finishes = false;
  readonly #ids: string[] = [];
  readonly #tools: ToolCount;
  model: string | undefined;
  failed = false;

  /** `live` counts what arrives at once. */
  constructor(
    readonly asked: string,
    tools: unknown,
    readonly live: boolean,
  ) {
    this.#tools = new ToolCount(tools);
  }

  get finished(): boolean {
    return this.#usage !== null;
  }

  /** Whether the last part came, with usage or without. */
  get ended(): boolean {
    return this.#finishes;
  }

  usage(): Usage | null {
    return this.#usage;
  }

  feed(event: unknown): void {
    const part = fieldsOf(event);
    this.#tools.take(part);
    this.#ids.push(...idsIn(part));
    switch (part.type) {
      case "text-delta":
      case "reasoning-delta":
      case "tool-input-delta":
        this.#add(String(part.delta ?? part.textDelta ?? ""));
        break;
      case "tool-input-start":
        this.#add(String(part.toolName ?? ""));
        break;
      case "file":
      case "reasoning-file":
        this.#hides = true;
        break;
      case "tool-call":
        // What the provider runs by itself makes output that no part shows.
        this.#hides ||= part.providerExecuted === true;
        break;
      case "response-metadata":
        if (typeof part.modelId === "string" && part.modelId) this.model = part.modelId;
        break;
      case "error":
        this.failed = true;
        break;
      case "finish":
        this.#finish(part);
        break;
      default:
    }
  }

  /**
   * The input as it was counted and the output as far as it came, where nothing of both is hidden.
   *
   * Models that reason do not show it, so nothing is known of how much they did.
   */
  seen(estimate: Estimate | undefined): Usage | null {
    if (this.#usage !== null) return this.#usage;
    if (estimate === undefined || !estimate.complete || estimate.audio || this.#hides) return null;
    if (!SHOWS.test(this.asked.slice(this.asked.lastIndexOf("/") + 1))) return null;
    const outputTokens = this.outputTokens;
    return outputTokens > 0 ? { inputTokens: estimate.inputTokens, outputTokens } : null;
  }

  get outputTokens(): number {
    if (this.live) return this.#liveTokens;
    return (this.#texts.length > 0 ? countText(this.#texts.join(""), this.asked) : 0) + this.#uncounted;
  }

  #add(text: string): void {
    if (!text) return;
    if (this.live) this.#liveTokens += countText(text, this.asked);
    else if (this.#chars + text.length > SEEN_CHARS_MAX)
      this.#uncounted += new TextEncoder().encode(text).length;
    else {
      this.#texts.push(text);
      this.#chars += text.length;
    }
  }

  #finish(part: Fields): void {
    this.#finishes = true;
    this.#usage = usageOf(part, this.#tools.counts);
    this.#texts = [];
    if (this.#usage !== null) remember(this.#ids, this.#usage.outputTokens ?? 0);
  }
}
