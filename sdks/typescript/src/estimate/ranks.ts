/**
 * The public ranks of OpenAI's tokenizers, where an entry `@noburn/sdk/tokens` brought them; bytes where not.
 *
 * Long texts are counted in slices, so that a pasted document costs memory and time by the slice, and a count that may stop
 * stops early.
 */

import { isPair, points } from "./values.js";

/** The longest token of either ranks: a text of more than 128 n characters has more than n tokens. */
export const TOKEN_BYTES_MAX = 128;

export const SLICE_CHARS = 65_536;
export const SEARCH_CHARS = 2_048;

/** What is added for a cut through the middle of something. Measured, it hides 1; 5 among lone surrogates. */
export const CUT_TOKENS = 16;

export type Encoding = "o200k_base" | "cl100k_base";

/** Counts a text's tokens; null as soon as they are seen to be more than `limit`. */
export interface Tokenizer {
  count(text: string, limit: number | null): number | null;
}

const VENDORS =
  /^(?:ft:|(?:openai|azure|azure_ai|anthropic|google|gemini|models|vertex_ai|bedrock|openrouter)\/)/;
const O200K = /^(?:chatgpt-4o|gpt-(?:4o|4\.1|4\.5|5|oss)|o[134](?:-|$)|codex|computer-use)/;
const CL100K = /^(?:gpt-4(?:-|$)|gpt-3\.5|gpt-35|text-embedding-|(?:davinci|babbage)-002|ft-gpt-3\.5)/;

// A program may hold this package twice, as ESM and as CommonJS: whichever brings the ranks brings them for both.
const KEY = Symbol.for("@noburn/sdk.tokenizers");
type Registry = Partial<Record<Encoding, Tokenizer>>;

function registry(): Registry {
  const home = globalThis as { [KEY]?: Registry };
  home[KEY] ??= {};
  return home[KEY];
}

/** Counts tokens of an encoding by this tokenizer from now on; null: by bytes again. */
export function useTokenizer(encoding: Encoding, tokenizer: Tokenizer | null): void {
  if (tokenizer === null) delete registry()[encoding];
  else registry()[encoding] = tokenizer;
}

/** Returns a model's name in small letters, without the vendor before it or the mark of a fine-tune. */
export function bare(model: string): string {
  let name = model.trim().toLowerCase();
  for (let found = VENDORS.exec(name); found !== null; found = VENDORS.exec(name)) {
    name = name.slice(found[0].length);
  }
  return name;
}

/** Returns the name of the ranks that an OpenAI model is billed by; null for a model that is not known. */
export function encodingFor(model: string): Encoding | null {
  const name = bare(model);
  if (O200K.test(name)) return "o200k_base";
  return CL100K.test(name) ? "cl100k_base" : null;
}

/** Returns the length of a text in UTF-8, which no byte-level tokenizer exceeds in tokens. */
export function utf8Bytes(text: string): number {
  let bytes = text.length;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x80) continue;
    if (code < 0x800) bytes += 1;
    else if (isPair(text, at)) {
      bytes += 2;
      at++;
    } else bytes += 2;
  }
  return bytes;
}

/** Returns the most bytes that a tokenizer may see which normalises first, as some open ones do (NFKC). */
export function widestBytes(text: string): number {
  const size = utf8Bytes(text);
  // As many bytes as letters: all of it is ASCII, which nothing normalises.
  return size === text.length ? size : Math.max(size, utf8Bytes(text.normalize("NFKC")));
}

/** Says whether tokens of this encoding can be counted here. */
export function hasRanks(encoding: Encoding | null): boolean {
  return encoding !== null && registry()[encoding] !== undefined;
}

/** Returns the tokens of a text under these ranks; its UTF-8 bytes where there are none. */
export function count(text: string, encoding: Encoding | null): number {
  return countUntil(text, encoding, null) ?? 0;
}

/**
 * Returns the tokens of a text, or null as soon as they are seen to be more than `limit`.
 *
 * Exact for texts of up to 65,536 characters, and for longer ones wherever two words meet often enough to be cut between
 * them; else a bound, at most 18 tokens higher for each 65,536 characters.
 */
export function countUntil(
  text: string,
  encoding: Encoding | null,
  limit: number | null,
  slice: number = SLICE_CHARS,
  search: number = SEARCH_CHARS,
): number | null {
  const tokenizer = encoding === null ? undefined : registry()[encoding];
  if (limit !== null && (limit < 0 || text.length > limit * TOKEN_BYTES_MAX)) {
    return limit >= 0 && text === "" ? 0 : null;
  }
  if (tokenizer === undefined) {
    const size = utf8Bytes(text);
    return limit === null || size <= limit ? size : null;
  }
  if (!isLong(text, slice)) return tokenizer.count(text, limit);
  let total = 0;
  for (let start = 0; start < text.length; ) {
    const [end, slack] = cut(text, start, slice, search);
    const found = tokenizer.count(text.slice(start, end), limit === null ? null : limit - total);
    if (found === null) return null;
    total += found + slack;
    start = end;
    if (limit !== null && total > limit) return null;
  }
  return total;
}

/** Whether a text is of more letters than a slice. */
export function isLong(text: string, slice: number = SLICE_CHARS): boolean {
  return text.length > slice && (text.length > 2 * slice || points(text) > slice);
}

/** Where a slice ends, and what the cut may hide: nothing before the space between two words. */
function cut(text: string, start: number, slice: number, search: number): [number, number] {
  const end = moved(text, start, slice);
  if (end >= text.length) return [text.length, 0];
  const first = Math.max(start + 1, movedBack(text, end, search));
  for (let at = text.lastIndexOf(" ", end - 1); at >= first; at = text.lastIndexOf(" ", at - 1)) {
    // Both tokenizers end a word at a space and begin the next one with it.
    if (isLetter(text.charCodeAt(at - 1)) && isLetter(text.charCodeAt(at + 1))) return [at, 0];
  }
  return [inThrees(text, start, end), CUT_TOKENS];
}

function isLetter(code: number): boolean {
  return (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
}

/** Moves a cut within digits, which both tokenizers take by three from where the digits begin. */
function inThrees(text: string, start: number, end: number): number {
  let first = end;
  let digits = 0;
  while (first > start) {
    const before = first - (first >= 2 && isPair(text, first - 2) ? 2 : 1);
    if (!/^\p{N}$/u.test(text.slice(before, first))) break;
    first = before;
    digits++;
  }
  // Digits that fill the slice begin where the last cut kept to their threes.
  return movedBack(text, end, digits % 3);
}

function moved(text: string, from: number, letters: number): number {
  let at = from;
  for (let left = letters; left > 0 && at < text.length; left--) at += isPair(text, at) ? 2 : 1;
  return at;
}

function movedBack(text: string, from: number, letters: number): number {
  let at = from;
  for (let left = letters; left > 0 && at > 0; left--) at -= at >= 2 && isPair(text, at - 2) ? 2 : 1;
  return at;
}
