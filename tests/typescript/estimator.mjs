// Estimates what stands on each line of standard input, by the built package in DIST, and prints a line for each.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const dist = pathToFileURL(`${process.argv[2]}/`);
const { countText, estimate, explain, prepare, shapeOf, useTokenizer } = await import(new URL("estimate.mjs", dist));
await import(new URL("tokens.mjs", dist));
const tokenizers = globalThis[Symbol.for("@noburn/sdk.tokenizers")];
const kept = { ...tokenizers };

function units(wire) {
  return Object.fromEntries(
    Object.entries(wire).map(([unit, pairs]) => [unit, pairs.map(([start, pico]) => [start, BigInt(pico)])]),
  );
}

function ratesOf(wire) {
  const variants = Object.entries(wire.variants).map(([name, one]) => [name, units(one)]);
  return { ...wire, units: units(wire.units), variants: Object.fromEntries(variants) };
}

function answered({ body, options, ranks, allowed }) {
  countBy(ranks);
  try {
    const rates = options.rates && ratesOf(options.rates);
    const found = estimate(body, { ...options, rates });
    return {
      found: { ...found, outputTokens: found.outputTokens, complete: found.complete, how: found.how },
      options: optionsOf(found),
      counts: found.counts(),
      prepared: prepare(found, body),
      allowed: prepare(found, body, allowed),
      explained: explain(found),
      shape: shapeOf(options.api, body),
    };
  } catch (error) {
    return { error: error.name, fields: Object.keys(error.errors ?? {}) };
  }
}

function countBy(ranks) {
  for (const encoding of ["o200k_base", "cl100k_base"]) useTokenizer(encoding, ranks ? kept[encoding] : null);
}

function counted({ text, models }) {
  countBy(true);
  return models.map((model) => countText(text, model));
}

function optionsOf(found) {
  try {
    return found.options();
  } catch (error) {
    return Object.keys(error.errors);
  }
}

function written(_, value) {
  return typeof value === "bigint" ? Number(value) : value;
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const said = "text" in asked ? counted(asked) : answered(asked);
  process.stdout.write(`${JSON.stringify(said, written)}\n`);
}
