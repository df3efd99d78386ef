import { hasRanks, type Tokenizer, useTokenizer } from "../../src/estimate/ranks.js";

const KEY = Symbol.for("@noburn/sdk.tokenizers");
const ENCODINGS = ["o200k_base", "cl100k_base"] as const;

/** Takes the ranks away, as where no package of them is installed; returns what puts them back. */
export function withoutRanks(): () => void {
  const kept = { ...(globalThis as { [KEY]?: Record<string, Tokenizer> })[KEY] };
  for (const encoding of ENCODINGS) {
    useTokenizer(encoding, null);
    if (hasRanks(encoding)) throw new Error("the ranks are still there");
  }
  return () => {
    for (const encoding of ENCODINGS) useTokenizer(encoding, kept[encoding] ?? null);
  };
}
