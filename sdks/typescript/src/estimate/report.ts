/** An estimate in words, for people who want to see what a bound is made of. */

import type { Estimate, How } from "./types.js";

const HOW: Readonly<Record<How, string>> = {
  exact: "counted, or by a published formula",
  bytes: "UTF-8 bytes, which no byte-level tokenizer exceeds",
  measured: "a bound that held in every measured case",
  maximum: "the most that is documented",
  unknown: "known to the provider alone",
};

/** Returns a table of an estimate's parts, and lines on output, caching, tools, cost and warnings. */
export function explain(found: Estimate): string {
  const rows: [string, string, string, string][] = [["input", "tokens", "how", ""]];
  for (const part of [...found.parts].sort((one, other) => other.tokens - one.tokens)) {
    const name = part.count === 1 ? part.kind : `${part.kind} (${part.count})`;
    rows.push([name, grouped(part.tokens), part.how, part.note || HOW[part.how]]);
  }
  rows.push(["at most", grouped(found.inputTokens), found.how, found.complete ? "" : "partly assumed"]);
  const width = (column: 0 | 1 | 2): number => Math.max(...rows.map((row) => row[column].length));
  const widths = [width(0), width(1), width(2)] as const;
  const lines = [`${found.api}  ${found.model}`, ""];
  for (const [name, tokens, how, note] of rows) {
    const line = [name.padEnd(widths[0]), tokens.padStart(widths[1]), how.padEnd(widths[2]), note];
    lines.push(line.join("  ").trimEnd());
  }
  return [...lines, "", ...facts(found)].join("\n");
}

function facts(found: Estimate): string[] {
  const lines: string[] = [];
  if (found.hasOutput) lines.push(`output: ${output(found)}`);
  if (found.cachedInputTokens === null) lines.push("cache: any of the input may be written");
  else if (found.cachedInputTokens) {
    lines.push(`cache: at most ${grouped(found.cachedInputTokens)} of the input are written`);
  }
  const seen = found.images ? [`images (${found.images})`] : [];
  if (found.audio) seen.push(found.complete ? "audio" : "perhaps audio");
  if (seen.length) lines.push(`beside text: ${seen.join(", ")}`);
  const fees = Object.entries(found.tools).sort(([one], [other]) => (one < other ? -1 : 1));
  if (fees.length) lines.push(`fees: ${fees.map(([name, uses]) => `${name} x ${uses}`).join(", ")}`);
  if (found.serviceTier) lines.push(`service tier: ${found.serviceTier}`);
  if (found.costNano !== null) lines.push(`cost: at most ${usd(found.costNano)} USD`);
  if (found.exceedsLimit) lines.push("limit: exceeded");
  return [...lines, ...found.warnings.map((warning) => `note: ${warning}`)];
}

function output(found: Estimate): string {
  if (found.maxOutputTokens === null || found.outputTokens === null) {
    return "no cap; the tenant's default is held, and must be put into the request";
  }
  const many = found.n > 1 ? `${found.n} x ${grouped(found.maxOutputTokens)} = ` : "";
  const injected = found.injectCap ? ", to be put into the request, which has no cap" : "";
  return `at most ${many}${grouped(found.outputTokens)} tokens${injected}`;
}

function grouped(value: number): string {
  return String(value).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** Returns an amount of nano-USD as a decimal string. */
export function usd(nano: bigint): string {
  const part = (nano % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  const whole = nano / 1_000_000_000n;
  return part ? `${whole}.${part}` : `${whole}`;
}
