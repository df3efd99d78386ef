/**
 * The most that a call can cost, from the prices that `GET /v1/prices` lists: what the server's hold will be.
 *
 * The server decides; this is for those who want to know before they ask. Both are held to the same vectors. Amounts are
 * bigint: nano-USD, and pico-USD for a rate.
 */

import { InvalidRequestError } from "../errors.js";
import type { Counts, Rates, Units } from "./types.js";
import { each, fields, isMapping, isWhole, type Mapping, read } from "./values.js";

/** A faster tier without a price of its own is bounded by two and a half times the dearest that is known. */
const PRIORITY_FACTOR: Factor = [5n, 2n];
const PLAIN_FACTOR: Factor = [1n, 1n];
type Factor = readonly [up: bigint, down: bigint];

const STANDARD = new Set(["", "default", "standard", "on_demand"]);
const SLOWER = new Set(["batch", "flex"]);
const TOOLS = new Map([
  ["web_search", "web_searches"],
  ["social_search", "social_searches"],
  ["storage_search", "storage_searches"],
  ["file_search", "storage_searches"],
  ["code_execution", "code_executions"],
]);
const HEARD_AND_SEEN = ["input_audio_tokens", "input_image_tokens", "input_video_tokens"];
const SPOKEN_AND_DRAWN = ["output_audio_tokens", "output_image_tokens", "output_video_tokens"];
const USD = /^(0|[1-9]\d{0,14})(?:\.(\d{1,24}))?$/;

/** Something is used that the model has no price for; it is never charged as zero. */
export class UnpricedError extends Error {
  override name = "UnpricedError";
}

/**
 * Reads a model's prices from what `Noburn.prices` returns.
 *
 * Where prices differ by the time of day the dearest counts. Throws InvalidRequestError for a model that is not listed, or
 * listed by several providers while none is named.
 */
export function ratesFrom(prices: object, model: string, provider: string | null = null): Rates {
  const wanted = model.toLowerCase();
  const items = each(read(prices, "prices")).filter(
    (item) =>
      String(read(item, "model")).toLowerCase() === wanted &&
      (provider === null || read(item, "provider") === provider),
  );
  if (new Set(items.map((item) => read(item, "provider"))).size !== 1) {
    const wrong = items.length ? "is sold by several providers; name one" : "has no price in this list";
    throw new InvalidRequestError("No rates", { errors: { model: wrong } });
  }
  const found = new Map<string, Units>();
  for (const item of items) {
    const units = Object.fromEntries(
      fields(read(item, "prices")).map(([unit, price]) => [unit, pairs(price)]),
    );
    const named = String(read(item, "variant"));
    const variant = named === "standard" ? "" : named;
    const before = found.get(variant);
    found.set(variant, before === undefined ? units : dearer(before, units));
  }
  const standard = found.get("");
  if (standard === undefined) {
    throw new InvalidRequestError("No rates", { errors: { model: "has no standard price in this list" } });
  }
  found.delete("");
  const context = read(items[0], "context_window");
  return {
    model,
    units: standard,
    variants: Object.fromEntries(found),
    contextWindow: isWhole(context) ? context : null,
  };
}

/**
 * Returns the most that a call can cost in nano-USD, rounded up.
 *
 * At the dearest long-context tier that the input can reach; input that may be written into a cache (`cachedInputTokens`,
 * null for all of it) at the dearer of the two rates. Throws UnpricedError.
 */
export function boundNano(rates: Rates, counts: Counts): bigint {
  const { inputTokens, maxOutputTokens, n = 1, cachedInputTokens = null, serviceTier = null } = counts;
  const { textOnly = false, images = 0, toolCalls = {} } = counts;
  const cached = cachedInputTokens === null ? inputTokens : Math.min(cachedInputTokens, inputTokens);
  const [choices, [up, down]] = choicesOf(rates, serviceTier);
  let most = 0n;
  for (const units of choices) {
    if (inputTokens && !Object.hasOwn(units, "input_tokens")) {
      throw new UnpricedError(`${rates.model} has no price for input_tokens`);
    }
    const [plain, held, output] = ceilings(units, inputTokens, textOnly);
    let fixed = BigInt(inputTokens - cached) * plain + BigInt(cached) * held;
    fixed += fees(rates.model, units, toolCalls, images);
    const said = BigInt(maxOutputTokens) * BigInt(n) * divideUp(output * up, down);
    most = larger(most, divideUp(fixed * up, down) + said);
  }
  return divideUp(most, 1000n);
}

function choicesOf(rates: Rates, tier: string | null): [readonly Units[], Factor] {
  const own = new Map(
    Object.entries(rates.variants).map(([name, units]): [string, Units] => [
      name,
      { ...rates.units, ...units },
    ]),
  );
  if (tier === null || STANDARD.has(tier)) return [[rates.units], PLAIN_FACTOR];
  if (tier === "auto") return [[rates.units, ...own.values()], PLAIN_FACTOR];
  const named = own.get(tier);
  if (SLOWER.has(tier)) return [[named ?? rates.units], PLAIN_FACTOR];
  if (named !== undefined) return [[rates.units, named], PLAIN_FACTOR];
  return [[rates.units, ...own.values()], PRIORITY_FACTOR];
}

/** Returns the dearest rates that so much input can reach: of plain input, of cached input, of output. */
export function ceilings(units: Units, inputTokens: number, textOnly: boolean): [bigint, bigint, bigint] {
  const starts = new Set([0]);
  for (const list of Object.values(units))
    for (const [start] of list) if (start < inputTokens) starts.add(start);
  let [plain, held, output] = [0n, 0n, 0n];
  for (const at of starts) {
    const rate = (unit: string, otherwise: bigint): bigint => rateAt(units, unit, at) ?? otherwise;
    const whole = rate("input_tokens", 0n);
    const reading = rate("cache_read_tokens", whole);
    const writing = rate("cache_write_tokens", whole);
    const answer = rate("output_tokens", 0n);
    let own = larger(whole, reading);
    let said = larger(
      answer,
      rate("output_reasoning_tokens", answer),
      rate("output_citation_tokens", answer),
    );
    if (!textOnly) {
      for (const unit of HEARD_AND_SEEN) {
        const more = rate(unit, whole);
        own = larger(own, more);
        const again = unit.replace("input_", "cache_").replace("_tokens", "_read_tokens");
        if (unit !== "input_video_tokens") own = larger(own, rate(again, larger(more, reading)));
      }
      said = larger(said, ...SPOKEN_AND_DRAWN.map((unit) => rate(unit, answer)));
    }
    plain = larger(plain, own);
    held = larger(held, own, writing, rate("cache_write_1h_tokens", writing));
    output = larger(output, said);
  }
  return [plain, held, output];
}

/** The rate of the last tier that begins at this input or before; null where the unit has no price. */
function rateAt(units: Units, unit: string, at: number): bigint | null {
  if (!Object.hasOwn(units, unit)) return null;
  let found: readonly [number, bigint] | null = null;
  for (const pair of units[unit] ?? []) {
    if (pair[0] <= at && (found === null || pair[0] >= found[0])) found = pair;
  }
  return found === null ? null : found[1];
}

function fees(model: string, units: Units, tools: Readonly<Record<string, number>>, images: number): bigint {
  const price = (unit: string): bigint | null =>
    Object.hasOwn(units, unit) ? (units[unit]?.[0]?.[1] ?? null) : null;
  let pico = price("requests") ?? 0n;
  for (const [name, count] of Object.entries(tools)) {
    if (!count) continue;
    const each = price(TOOLS.get(name) ?? "");
    if (each === null) throw new UnpricedError(`${model} has no price for ${name}`);
    pico += BigInt(count) * each;
  }
  const drawn = price("images");
  if (images && drawn !== null) pico += BigInt(images) * drawn;
  else if (images && !Object.hasOwn(units, "input_tokens")) {
    throw new UnpricedError(`${model} has no price for images`);
  }
  return pico;
}

function pairs(price: unknown): [number, bigint][] {
  const found: Mapping = isMapping(price) ? price : {};
  if (Object.hasOwn(found, "usd_per_unit")) return [[0, pico(found.usd_per_unit, 1n)]];
  const tiers = each(read(found, "tiers")).map((tier): [number, bigint] => [
    Number(read(tier, "above_input_tokens")),
    pico(read(tier, "usd_per_million_tokens"), 1_000_000n),
  ]);
  return [[0, pico(read(found, "usd_per_million_tokens"), 1_000_000n)], ...tiers];
}

/** Returns the pico-USD of one of so many units. Rounded up: a rate has at most twelve places, so nothing else changes. */
function pico(usd: unknown, units: bigint): bigint {
  const found = typeof usd === "string" ? USD.exec(usd) : null;
  if (found === null)
    throw new InvalidRequestError("No rates", { errors: { prices: "must be decimal strings" } });
  const [, whole = "", places = ""] = found;
  return divideUp(BigInt(whole + places) * 10n ** 12n, units * 10n ** BigInt(places.length));
}

/** Joins two lists unit by unit, each at its dearer price from every start of a tier on. */
function dearer(one: Units, other: Units): Units {
  const joined = new Map<string, [number, bigint][]>();
  for (const unit of new Set([...Object.keys(one), ...Object.keys(other)])) {
    const both = [one, other].filter((units) => Object.hasOwn(units, unit));
    const starts = new Set(both.flatMap((units) => (units[unit] ?? []).map(([start]) => start)));
    const sorted = [...starts].sort((first, second) => first - second);
    const dearest = (start: number): bigint =>
      larger(...both.map((units) => rateAt(units, unit, start) ?? 0n));
    joined.set(
      unit,
      sorted.map((start) => [start, dearest(start)]),
    );
  }
  return Object.fromEntries(joined);
}

function larger(...amounts: readonly bigint[]): bigint {
  let most = 0n;
  for (const one of amounts) if (one > most) most = one;
  return most;
}

function divideUp(value: bigint, divisor: bigint): bigint {
  return (value + divisor - 1n) / divisor;
}
