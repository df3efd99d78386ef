/** Nano-USD (10⁻⁹ USD) as bigint, and their one way of being written. */

import { InvalidRequestError } from "./errors.js";

export const NANO_PER_USD = 1_000_000_000n;

/** The largest amount on the wire: 2⁵³ nano-USD. */
export const NANO_MAX = 9_007_199_254_740_992n;

/** USD, exactly: a text such as "0.25", or a whole number of dollars. Never a fraction as a number. */
export type Amount = string | number | bigint;

const AMOUNT = /^(-?)(0|[1-9][0-9]*)(?:\.([0-9]{1,9}))?$/;
const DIGITS_MAX = 18;

/** Reads a decimal text of USD, or returns null where it is none. At most nine places, no exponent, no sign but minus. */
export function readNano(usd: unknown): bigint | null {
  const found = typeof usd === "string" && usd.length <= DIGITS_MAX + 2 ? AMOUNT.exec(usd) : null;
  // A "$" also matches before a line's end in no mode that is used here; the length of the match is the text's.
  if (found === null) return null;
  const [, sign, whole = "0", part = ""] = found;
  const nano = BigInt(whole) * NANO_PER_USD + BigInt(part.padEnd(9, "0"));
  if (nano > NANO_MAX) return null;
  return sign ? -nano : nano;
}

/** Returns USD as nano-USD. Throws InvalidRequestError for what is no amount. */
export function toNano(usd: Amount): bigint {
  const found = readAmount(usd);
  if (found === null) {
    throw new InvalidRequestError("Not an amount", {
      errors: {
        usd: "must be an amount in USD with at most nine places; a fraction as a number is not exact",
      },
    });
  }
  return found;
}

/** Reads an amount as callers give it; null where it is none. */
export function readAmount(usd: unknown): bigint | null {
  if (typeof usd === "bigint") return readNano(usd.toString());
  if (typeof usd === "number") return Number.isSafeInteger(usd) ? readNano(String(usd)) : null;
  return readNano(usd);
}

/** Returns nano-USD as a decimal text of USD, without zeros at its end. */
export function toUsd(nano: bigint): string {
  const positive = nano < 0n ? -nano : nano;
  const whole = positive / NANO_PER_USD;
  const part = (positive % NANO_PER_USD).toString().padStart(9, "0").replace(/0+$/, "");
  return `${nano < 0n ? "-" : ""}${whole}${part ? `.${part}` : ""}`;
}

/** Returns the least of decimal texts of USD, of however many places; null of none. */
export function leastUsd(amounts: readonly string[]): string | null {
  let least: string | null = null;
  for (const usd of amounts) if (least === null || scaled(usd) < scaled(least)) least = usd;
  return least;
}

const PLACES = 24;

function scaled(usd: string): bigint {
  const [whole = "0", part = ""] = usd.replace("-", "").split(".");
  const value = BigInt(whole + part.slice(0, PLACES).padEnd(PLACES, "0"));
  return usd.startsWith("-") ? -value : value;
}
