import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { leastUsd, NANO_MAX, readNano, toNano, toUsd } from "../src/money.js";

interface Vectors {
  readonly amounts: readonly (readonly [number, string])[];
  readonly read_only: readonly (readonly [string, number])[];
  readonly refused: readonly string[];
}

const vectors = JSON.parse(
  readFileSync(new URL("../../../tests/vectors/money.json", import.meta.url), "utf8"),
) as Vectors;

describe("amounts as all languages share them", () => {
  it.each(vectors.amounts)("%s nano-USD are written %j, and read back", (nano, usd) => {
    expect(toUsd(BigInt(nano))).toBe(usd);
    expect(readNano(usd)).toBe(BigInt(nano));
  });

  it.each(vectors.read_only)("%j is read as %s nano-USD", (usd, nano) => {
    expect(readNano(usd)).toBe(BigInt(nano));
  });

  it.each(vectors.refused)("%j is no amount", (usd) => {
    expect(readNano(usd)).toBeNull();
  });
});

describe("toNano", () => {
  it("takes whole dollars as numbers, and no fraction", () => {
    expect(toNano(2)).toBe(2_000_000_000n);
    expect(toNano(3n)).toBe(3_000_000_000n);
    expect(() => toNano(0.1)).toThrow(/not exact/);
    expect(() => toNano(Number.NaN)).toThrow();
  });

  it("takes the largest amount, and nothing beyond it", () => {
    expect(toNano("9007199.254740992")).toBe(NANO_MAX);
    expect(() => toNano("9007199.254740993")).toThrow();
  });
});

describe("leastUsd", () => {
  it("compares amounts of different lengths, and of more places than nano-USD", () => {
    expect(leastUsd(["10", "9.99952", "9.9995200000001"])).toBe("9.99952");
    expect(leastUsd(["0", "-0.5", "-0.4"])).toBe("-0.5");
    expect(leastUsd([])).toBeNull();
  });
});
