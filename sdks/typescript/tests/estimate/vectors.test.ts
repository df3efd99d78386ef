/** The shared vectors of estimates and of prices' bounds: what every language holds to. */

import { readdirSync, readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import "../../src/estimate/tokens/index.js";
import { InvalidRequestError } from "../../src/errors.js";
import {
  type Api,
  boundNano,
  type Counts,
  type Estimate,
  type EstimateOptions,
  estimate,
  prepare,
  type Rates,
  type Units,
  UnpricedError,
} from "../../src/estimate/index.js";
import { withoutRanks } from "./ranks.js";

const VECTORS = new URL("../../../../tests/vectors/", import.meta.url);

type Json = Record<string, unknown>;
type WireUnits = Record<string, [number, number][]>;
interface Case {
  readonly name: string;
  readonly api: Api;
  readonly body: unknown;
  readonly options?: Json;
  readonly ranks?: boolean;
  readonly expected: Json;
}

function cases<T>(file: string): T[] {
  return (JSON.parse(readFileSync(new URL(file, VECTORS), "utf-8")) as { cases: T[] }).cases;
}

/** Returns a body with its repeated texts written out. */
function expanded(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(expanded);
  if (typeof value !== "object" || value === null) return value;
  if ("$repeat" in value) {
    const { $repeat, before = "" } = value as { $repeat: [string, number]; before?: string };
    return before + $repeat[0].repeat($repeat[1]);
  }
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, expanded(one)]));
}

function units(wire: WireUnits): Units {
  return Object.fromEntries(
    Object.entries(wire).map(([unit, pairs]) => [unit, pairs.map(([start, pico]) => [start, BigInt(pico)])]),
  );
}

function ratesOf(wire: { units: WireUnits; variants?: Record<string, WireUnits> }): Rates {
  const variants = Object.entries(wire.variants ?? {}).map(([name, one]) => [name, units(one)]);
  return {
    model: "m",
    units: units(wire.units),
    variants: Object.fromEntries(variants),
    contextWindow: null,
  };
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function asked({ api, options = {} }: Case): EstimateOptions {
  const named = Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value]));
  if (named.rates) named.rates = ratesOf(named.rates as { units: WireUnits });
  return { ...named, api };
}

/** Returns what an estimate says, under the names of the vectors. */
function told(found: Estimate, name: string): unknown {
  if (name !== "parts") {
    const value = found[camel(name) as keyof Estimate];
    return typeof value === "bigint" ? Number(value) : value;
  }
  const sums: Record<string, number> = {};
  for (const part of found.parts) sums[part.kind] = (sums[part.kind] ?? 0) + part.tokens;
  return sums;
}

function differences(found: Estimate, expected: Json): string[] {
  const wrong: string[] = [];
  for (const [name, wanted] of Object.entries(expected)) {
    const [, field = name, edge = ""] = /^(.*)_(min|max)$/.exec(name) ?? [];
    const said = told(found, field);
    const pairs =
      field === "parts"
        ? Object.entries(wanted as Json).map(([kind, one]) => [(said as Json)[kind] ?? 0, one])
        : [[said, wanted]];
    for (const [value, one] of pairs) {
      const same = JSON.stringify(value) === JSON.stringify(one);
      const holds =
        edge === "min" ? Number(value) >= Number(one) : edge === "max" ? Number(value) <= Number(one) : same;
      if (!holds || value === undefined)
        wrong.push(`${name}: ${JSON.stringify(value)}, not ${JSON.stringify(one)}`);
    }
  }
  return wrong;
}

const FILES = readdirSync(VECTORS).filter((file) => /^estimates-.*\.json$/.test(file));
const ALL = FILES.flatMap((file) =>
  cases<Case>(file).map((one) => ({ ...one, name: `${file}: ${one.name}` })),
);

describe("the vectors of estimates", () => {
  let back: (() => void) | null = null;
  afterEach(() => {
    back?.();
    back = null;
  });

  test("are all of them", () => {
    expect(FILES).toHaveLength(6);
    expect(ALL.length).toBeGreaterThanOrEqual(300);
  });

  test.each(ALL.map((one) => [one.name, one] as const))("%s", (_, one) => {
    if (one.ranks === false) back = withoutRanks();
    const body = expanded(one.body);
    const { error, unpriced, prepared, ...expected } = one.expected;
    const find = (): Estimate => estimate(body, asked(one));
    if (error !== undefined) {
      const names = (): string[] => {
        try {
          find();
        } catch (refused) {
          if (refused instanceof InvalidRequestError) return Object.keys(refused.errors).sort();
          throw refused;
        }
        return [];
      };
      expect(names()).toEqual([...(error as string[])].sort());
      return;
    }
    if (unpriced) {
      expect(find).toThrow(UnpricedError);
      return;
    }
    const found = find();
    if (prepared !== undefined) expect(prepare(found, body as Json)).toMatchObject(prepared as Json);
    expect(differences(found, expected)).toEqual([]);
  });
});

interface PriceCase {
  readonly name: string;
  readonly units: WireUnits;
  readonly variants?: Record<string, WireUnits>;
  readonly bound?: Json;
  readonly bound_nano?: number;
}

describe("the vectors of prices", () => {
  const bounded = cases<PriceCase>("pricing.json").filter((one) => one.bound !== undefined);

  test("are many", () => expect(bounded.length).toBeGreaterThanOrEqual(50));

  test.each(bounded.map((one) => [one.name, one] as const))("%s", (_, one) => {
    const named = Object.entries(one.bound ?? {}).map(([name, value]) => [camel(name), value]);
    const bound = (): bigint => boundNano(ratesOf(one), Object.fromEntries(named) as Counts);
    if (one.bound_nano === undefined) expect(bound).toThrow(UnpricedError);
    else expect(bound()).toBe(BigInt(one.bound_nano));
  });
});
