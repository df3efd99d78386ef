/** What an estimate says. */

import { InvalidRequestError } from "../errors.js";

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

/** From the surest to the least sure. */
export const ORDER: readonly How[] = ["exact", "bytes", "measured", "maximum", "unknown"];

/** What a pre-flight can name. */
export const N_MAX = 128;
export const IMAGES_MAX = 10_000;

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

/** Prices in pico-USD by unit: (tier start, price) pairs, the first of them at 0. */
export type Units = Readonly<Record<string, readonly (readonly [number, bigint])[]>>;

/** The prices of one model, and those in which its service tiers differ. */
export interface Rates {
  readonly model: string;
  readonly units: Units;
  readonly variants: Readonly<Record<string, Units>>;
  readonly contextWindow: number | null;
}

/** What a pre-flight takes of an estimate: `nb.call({ ...found.options(), customer: "acme" })`. */
export interface EstimatedOptions {
  model: string;
  inputTokens: number;
  maxOutputTokens?: number;
  n?: number;
  cachedInputTokens?: number;
  images?: number;
  audio?: boolean;
  tools?: Record<string, number>;
  serviceTier?: string;
}

/** What an estimate is made of. */
export interface EstimateFields {
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
}

/**
 * Upper bounds of one call, and how each was obtained. Tokens are the model's; costs nano-USD.
 *
 * `maxOutputTokens` is the cap of one answer: the request's own, else the default that the caller named, else null; where
 * `injectCap` is true the request carries none, and a bound that the provider does not enforce is no bound: send what
 * `prepare` returns. `outputTokens` is the bound of all `n` answers. `cachedInputTokens` is how much of the input may be
 * written into a cache at most (null: all of it). `tools` are uses of the provider's own tools that may carry a fee, by
 * name. `audio` says that there is, or may be, audio. `exceedsLimit`: more than the `limit` asked about. `outputExtra` is
 * the part of `maxOutputTokens` that is not the request's cap: a prediction's rejected tokens.
 */
export class Estimate implements EstimateFields {
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

  constructor(fields: EstimateFields) {
    this.api = fields.api;
    this.model = fields.model;
    this.inputTokens = fields.inputTokens;
    this.parts = fields.parts;
    this.maxOutputTokens = fields.maxOutputTokens;
    this.n = fields.n;
    this.cachedInputTokens = fields.cachedInputTokens;
    this.images = fields.images;
    this.audio = fields.audio;
    this.tools = fields.tools;
    this.serviceTier = fields.serviceTier;
    this.outputExtra = fields.outputExtra;
    this.hasOutput = fields.hasOutput;
    this.injectCap = fields.injectCap;
    this.exceedsLimit = fields.exceedsLimit;
    this.costNano = fields.costNano;
    this.warnings = fields.warnings;
  }

  /** The bound of all output; null while there is no cap. */
  get outputTokens(): number | null {
    if (!this.hasOutput) return 0;
    return this.maxOutputTokens === null ? null : this.n * this.maxOutputTokens;
  }

  /** Whether nothing had to be assumed: no part of the input is unknown. */
  get complete(): boolean {
    return this.parts.every((part) => part.how !== "unknown");
  }

  /** The least sure of the ways in which the input was obtained. */
  get how(): How {
    return this.parts.reduce<How>((least, part) => worse(least, part.how), "exact");
  }

  /** Returns the counts as a price's bound takes them: `boundNano(rates, estimate.counts())`. */
  counts(): Required<Counts> {
    return {
      inputTokens: this.inputTokens,
      maxOutputTokens: this.maxOutputTokens ?? 0,
      n: this.n,
      cachedInputTokens: this.cachedInputTokens,
      textOnly: !this.images && !this.audio,
      images: this.images,
      toolCalls: { ...this.tools },
      serviceTier: this.serviceTier,
    };
  }

  /** Returns what a pre-flight takes: `nb.call({ ...estimate.options(), customer: "acme" })`. */
  options(): EstimatedOptions {
    const options: EstimatedOptions = { model: this.model, inputTokens: this.inputTokens };
    if (!this.hasOutput) {
      // The wire's least: nothing that is charged for, and a token at most where tokens are budgeted.
      options.maxOutputTokens = 1;
    } else if (this.maxOutputTokens !== null) {
      // More answers than a pre-flight names are told as one that is longer.
      options.maxOutputTokens = Math.max(1, this.maxOutputTokens) * (this.n > N_MAX ? this.n : 1);
    } else if (this.n > N_MAX) {
      throw new InvalidRequestError("Cannot ask for this call", {
        errors: { n: `of more than ${N_MAX} answers needs an output cap` },
      });
    }
    if (this.n > 1 && this.n <= N_MAX) options.n = this.n;
    if (this.cachedInputTokens !== null) options.cachedInputTokens = this.cachedInputTokens;
    if (this.images) options.images = Math.min(this.images, IMAGES_MAX);
    if (this.audio) options.audio = true;
    if (Object.keys(this.tools).length) options.tools = { ...this.tools };
    if (this.serviceTier !== null) options.serviceTier = this.serviceTier;
    return options;
  }
}

/** Returns the less sure of two ways. */
export function worse(one: How, other: How): How {
  return ORDER.indexOf(other) > ORDER.indexOf(one) ? other : one;
}
