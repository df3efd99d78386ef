import type { JsonObject } from "../results.js";
import type { Api, Counts, Estimate, Rates } from "./types.js";

export { shapeOf } from "./shape.js";
export type { Api, Counts, Estimate, How, Part, Rates, Units } from "./types.js";

export interface EstimateOptions {
  readonly api: Api;
  readonly model?: string | undefined;
  readonly limit?: number | undefined;
  readonly maxOutputTokens?: number | undefined;
  readonly maxInputTokens?: number | undefined;
  readonly contextWindow?: number | undefined;
  readonly batch?: boolean | undefined;
  readonly rates?: Rates | undefined;
}

/** Something is used that the model has no price for; it is never charged as zero. */
export class UnpricedError extends Error {
  override name = "UnpricedError";
}

/** Returns upper bounds of what this request can use. Throws InvalidRequestError, UnpricedError. */
export function estimate(_body: unknown, _options: EstimateOptions): Estimate {
  throw new Error("not yet");
}

/** Returns the request to send, with the allowed model and cap put into it. */
export function prepare(
  _found: Estimate,
  _body: JsonObject,
  _to: { readonly model?: string | undefined; readonly maxOutputTokens?: number | null | undefined },
): JsonObject {
  throw new Error("not yet");
}

/** Reads a model's prices from what `Noburn.prices` returns. Throws InvalidRequestError. */
export function ratesFrom(_prices: JsonObject, _model: string, _provider?: string | null): Rates {
  throw new Error("not yet");
}

/** Returns the most that a call can cost in nano-USD, rounded up. Throws UnpricedError. */
export function boundNano(_rates: Rates, _counts: Counts): bigint {
  throw new Error("not yet");
}

/** Returns the tokens of a text: exactly where the model's ranks are installed, else its bytes. */
export function countText(_text: string, _model: string): number {
  throw new Error("not yet");
}
