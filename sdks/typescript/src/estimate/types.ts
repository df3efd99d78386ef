/** What an estimate says. */

import type { PreflightOptions } from "../requests.js";

/**
 * How a number was obtained.
 *
 * exact: counted with the model's public ranks, or by the provider's published formula. bytes: the UTF-8 bytes, which no
 * byte-level tokenizer exceeds. measured: a bound that held in every measured case. maximum: the most that the family or the
 * documentation names. unknown: only the provider knows; the number is an assumption.
 */
export type How = "exact" | "bytes" | "measured" | "maximum" | "unknown";

export type Api =
  | "openai.chat"
  | "openai.responses"
  | "openai.embeddings"
  | "openai.completions"
  | "anthropic.messages"
  | "gemini.generate_content";

/** Some of the input: `tokens` of `count` things of one kind, and how that was obtained. */
export interface Part {
  readonly kind: string;
  readonly tokens: number;
  readonly how: How;
  readonly count: number;
  readonly note: string;
}

/** Counts as a price's bound takes them. */
export interface Counts {
  readonly inputTokens: number;
  readonly maxOutputTokens: number;
  readonly n?: number;
  readonly cachedInputTokens?: number | null;
  readonly textOnly?: boolean;
  readonly images?: number;
  readonly toolCalls?: Readonly<Record<string, number>>;
  readonly serviceTier?: string | null;
}

/** Upper bounds of one call, as `Estimate` of noburn_sdk.estimate.types; costs are nano-USD. */
export interface Estimate {
  readonly api: Api;
  readonly model: string;
  readonly inputTokens: number;
  readonly parts: readonly Part[];
  readonly maxOutputTokens: number | null;
  readonly n: number;
  readonly cachedInputTokens: number | null;
  readonly images: number;
  readonly audio: boolean;
  readonly tools: Readonly<Record<string, number>>;
  readonly serviceTier: string | null;
  readonly outputExtra: number;
  readonly hasOutput: boolean;
  readonly injectCap: boolean;
  readonly exceedsLimit: boolean;
  readonly costNano: bigint | null;
  readonly warnings: readonly string[];
  /** The bound of all output; null while there is no cap. */
  readonly outputTokens: number | null;
  /** Whether nothing had to be assumed. */
  readonly complete: boolean;
  /** The least sure of the ways in which the input was obtained. */
  readonly how: How;
  counts(): Counts;
  options(): PreflightOptions;
}

/** Prices in pico-USD by unit: (tier start, price) pairs, the first of them at 0. */
export type Units = Readonly<Record<string, readonly (readonly [number, bigint])[]>>;

/** The prices of one model, and those in which its service tiers differ. */
export interface Rates {
  readonly model: string;
  readonly units: Units;
  readonly variants: Readonly<Record<string, Units>>;
  readonly contextWindow: number | null;
}
