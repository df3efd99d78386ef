/** Prices held in this process, for what must be known without asking: outages, and streams cut at their hold. */

import type { Noburn } from "../client.js";
import { InvalidRequestError } from "../errors.js";
import {
  boundNano,
  type Counts,
  type Estimate,
  type Rates,
  ratesFrom,
  UnpricedError,
} from "../estimate/index.js";
import { log, said } from "../log.js";
import { readNano } from "../money.js";
import type { Allowed, JsonObject } from "../results.js";
import type { Usage } from "../usage.js";

const AGE_MS = 900_000;
const RETRY_MS = 10_000;
const PROBE = 1_000_000;

/** The price list, fetched in the background now and again. Until it is here nothing is priced. */
export class PriceCache {
  readonly #client: Noburn;
  readonly #clock: () => number;
  #book: JsonObject | undefined;
  #next = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | undefined;

  constructor(client: Noburn, clock: () => number) {
    this.#client = client;
    this.#clock = clock;
  }

  /** The list as it is here, perhaps a quarter of an hour old; undefined before the first one arrived. */
  book(): JsonObject | undefined {
    if (this.#clock() >= this.#next && this.#fetching === undefined) {
      this.#next = this.#clock() + RETRY_MS;
      this.#fetching = this.#fetch().finally(() => {
        this.#fetching = undefined;
      });
    }
    return this.#book;
  }

  /** Waits for the fetch under way; says whether there are prices. */
  async ready(): Promise<boolean> {
    this.book();
    await this.#fetching;
    return this.#book !== undefined;
  }

  async #fetch(): Promise<void> {
    try {
      this.#book = await this.#client.prices();
      this.#next = this.#clock() + AGE_MS;
    } catch (error) {
      log("warning", `the prices could not be fetched: ${said(error)}`);
    }
  }

  /** The rates of a model, if they are known. */
  rates(model: string, provider: string | undefined): Rates | undefined {
    return ratesOf(this.book(), model, provider);
  }

  /** A bound of what a usage cost, or undefined where it cannot be told. */
  costNano(usage: Usage, model: string, provider: string | undefined): bigint | undefined {
    const rates = this.rates(model, provider);
    return rates === undefined ? undefined : priced(rates, countsOf(usage));
  }
}

/** A usage as a price's bound takes it. */
export function countsOf(usage: Usage): Counts {
  return {
    inputTokens: usage.inputTokens ?? 0,
    maxOutputTokens: usage.outputTokens ?? 0,
    toolCalls: usage.toolCalls ?? {},
    serviceTier: usage.serviceTier ?? null,
  };
}

/** What counts cost at most, or undefined where something has no price. */
export function priced(rates: Rates, counts: Counts): bigint | undefined {
  try {
    return boundNano(rates, counts);
  } catch (error) {
    if (error instanceof UnpricedError) return undefined;
    throw error;
  }
}

function ratesOf(
  book: JsonObject | undefined,
  model: string,
  provider: string | undefined,
): Rates | undefined {
  if (book === undefined) return undefined;
  for (const name of provider === undefined ? [undefined] : [provider, undefined]) {
    try {
      return ratesFrom(book, model, name);
    } catch (error) {
      if (!(error instanceof InvalidRequestError)) throw error;
    }
  }
  return undefined;
}

/** The most that a call can cost in nano-USD, by the prices held here; undefined where they do not say. */
export function boundNanoOf(
  prices: PriceCache | undefined,
  found: Estimate,
  provider: string | undefined,
  cap: number,
): bigint | undefined {
  const rates = prices?.rates(found.model, provider);
  if (rates === undefined) return undefined;
  const counts = found.counts();
  const uncapped = found.hasOutput && found.maxOutputTokens === null;
  return priced(rates, uncapped ? { ...counts, maxOutputTokens: cap } : counts);
}

/** The output of all answers that a hold pays for; undefined where it pays for the cap, or nobody knows. */
export function tokensWithin(
  book: JsonObject | undefined,
  found: Estimate,
  allowed: Allowed,
  provider: string | undefined,
): number | undefined {
  const rates = ratesOf(book, allowed.model || found.model, provider);
  const held = readNano(allowed.amountUsd);
  if (rates === undefined || held === null) return undefined;
  const counts = found.counts();
  const fixed = priced(rates, { ...counts, maxOutputTokens: 0 });
  const probed = priced(rates, { ...counts, maxOutputTokens: PROBE, n: 1 });
  if (fixed === undefined || probed === undefined || probed <= fixed) return undefined;
  const left = held > fixed ? held - fixed : 0n;
  const tokens = Number((left * BigInt(PROBE)) / (probed - fixed));
  const cap = allowed.maxOutputTokens;
  return cap === null || tokens < cap * found.n ? tokens : undefined;
}
