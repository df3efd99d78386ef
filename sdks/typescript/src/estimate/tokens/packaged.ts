/**
 * Ranks out of the package `js-tiktoken`, which carries them; nothing is ever downloaded.
 *
 * Only its ranks are used. Its own splitting takes the blanks of JavaScript for those of Unicode, and its merging takes the
 * square of a word's length.
 */

import { BytePairs } from "../bpe.js";
import type { Tokenizer } from "../ranks.js";

// As OpenAI's tiktoken has them: Unicode's blanks, and the long s, which is an s in a contraction whose case is ignored.
const BLANK = "\\p{White_Space}";
const SIGN = `[^${BLANK}\\p{L}\\p{N}]`;
const LEAD = "[^\\r\\n\\p{L}\\p{N}]?";
const SHORT = "'(?:[sS\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])";
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";

export const O200K_BASE = new RegExp(
  [
    `${LEAD}${UPPER}*${LOWER}+(?:${SHORT})?`,
    `${LEAD}${UPPER}+${LOWER}*(?:${SHORT})?`,
    "\\p{N}{1,3}",
    ` ?${SIGN}+[\\r\\n/]*`,
    `${BLANK}*[\\r\\n]+`,
    `${BLANK}+(?!\\P{White_Space})`,
    `${BLANK}+`,
  ].join("|"),
  "u",
);

export const CL100K_BASE = new RegExp(
  [
    SHORT,
    `${LEAD}\\p{L}+`,
    "\\p{N}{1,3}",
    ` ?${SIGN}+[\\r\\n]*`,
    `${BLANK}+$`,
    `${BLANK}*[\\r\\n]`,
    `${BLANK}+(?!\\P{White_Space})`,
    BLANK,
  ].join("|"),
  "u",
);

/** Returns a tokenizer that reads its ranks when something is first counted. */
export function fromPackage(pattern: RegExp, packed: string): Tokenizer {
  let own: BytePairs | null = null;
  return {
    count(text, limit) {
      own ??= new BytePairs(pattern, unpacked(packed));
      return own.count(text, limit);
    },
  };
}

/** Reads lines of `! FIRST TOKEN TOKEN …`: a token's bytes in base64, their ranks in a row from the first on. */
export function unpacked(packed: string): Map<string, number> {
  const ranks = new Map<string, number>();
  for (const line of packed.split("\n")) {
    const [, first, ...tokens] = line.split(" ");
    if (first === undefined) continue;
    let rank = Number(first);
    for (const token of tokens) ranks.set(atob(token), rank++);
  }
  return ranks;
}
