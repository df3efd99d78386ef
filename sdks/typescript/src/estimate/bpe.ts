/**
 * Byte pair encoding by public ranks, which only counts.
 *
 * A word is merged in time by its length and that length's logarithm, since a request may consist of one word: the usual
 * way takes the square of it, minutes for a page of Chinese without a sign between.
 */

import { TOKEN_BYTES_MAX, type Tokenizer } from "./ranks.js";
import { isPair } from "./values.js";

const POSITIONS = 2 ** 20;

/** Counts by ranks that are keyed by a token's bytes, each as one character. */
export class BytePairs implements Tokenizer {
  readonly #pattern: RegExp;
  readonly #ranks: ReadonlyMap<string, number>;

  /** `pattern` splits a text into words, all of it: sticky and for Unicode. */
  constructor(pattern: RegExp, ranks: ReadonlyMap<string, number>) {
    this.#pattern = new RegExp(pattern.source, "gu");
    this.#ranks = ranks;
  }

  count(text: string, limit: number | null): number | null {
    const most = limit ?? Number.POSITIVE_INFINITY;
    let total = 0;
    this.#pattern.lastIndex = 0;
    for (let found = this.#pattern.exec(text); found !== null; found = this.#pattern.exec(text)) {
      const bytes = byteText(found[0]);
      total += this.#ranks.has(bytes) ? 1 : this.#merged(bytes);
      if (total > most) return null;
    }
    return total > most ? null : total;
  }

  /** The tokens that are left when no two neighbours make a token; the lowest rank first, from the left. */
  #merged(bytes: string): number {
    const size = bytes.length;
    const next = new Int32Array(size + 1);
    const before = new Int32Array(size + 1);
    const rank = new Int32Array(size + 1);
    const heap = new Heap();
    const look = (at: number): void => {
      const second = next[at] as number;
      const end = second < size ? (next[second] as number) : -1;
      const found = end < 0 || end - at > TOKEN_BYTES_MAX ? undefined : this.#ranks.get(bytes.slice(at, end));
      rank[at] = found ?? -1;
      if (found !== undefined) heap.push(found * POSITIONS + at);
    };
    for (let at = 0; at <= size; at++) {
      next[at] = at + 1;
      before[at] = at - 1;
    }
    for (let at = 0; at < size; at++) look(at);
    let left = size;
    for (let key = heap.pop(); key >= 0; key = heap.pop()) {
      const at = key % POSITIONS;
      // One of its halves has merged with something else since.
      if (rank[at] !== (key - at) / POSITIONS) continue;
      const second = next[at] as number;
      const third = next[second] as number;
      rank[second] = -1;
      next[at] = third;
      before[third] = at;
      left--;
      look(at);
      if (at > 0) look(before[at] as number);
    }
    return left;
  }
}

/** A heap of numbers, the least on top. */
class Heap {
  readonly #kept: number[] = [];

  push(value: number): void {
    const kept = this.#kept;
    let at = kept.length;
    kept.push(value);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if ((kept[above] as number) <= value) break;
      kept[at] = kept[above] as number;
      at = above;
    }
    kept[at] = value;
  }

  /** Takes the least; -1 where there is none. */
  pop(): number {
    const kept = this.#kept;
    const least = kept[0];
    const last = kept.pop();
    if (least === undefined || last === undefined) return -1;
    if (kept.length === 0) return least;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= kept.length) break;
      if (below + 1 < kept.length && (kept[below + 1] as number) < (kept[below] as number)) below++;
      if ((kept[below] as number) >= last) break;
      kept[at] = kept[below] as number;
      at = below;
    }
    kept[at] = last;
    return least;
  }
}

/** Returns a text's UTF-8 bytes, each as one character; half a surrogate pair as the replacement character. */
export function byteText(text: string): string {
  let bytes = "";
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x80) continue;
    bytes += text.slice(from, at);
    if (code < 0x800) {
      bytes += String.fromCharCode(0xc0 | (code >> 6), 0x80 | (code & 63));
    } else if (isPair(text, at)) {
      const letter = text.codePointAt(at) as number;
      const tail = [0x80 | ((letter >> 12) & 63), 0x80 | ((letter >> 6) & 63), 0x80 | (letter & 63)];
      bytes += String.fromCharCode(0xf0 | (letter >> 18), ...tail);
      at++;
    } else {
      const sent = (code & 0xf800) === 0xd800 ? 0xfffd : code;
      bytes += String.fromCharCode(0xe0 | (sent >> 12), 0x80 | ((sent >> 6) & 63), 0x80 | (sent & 63));
    }
    from = at + 1;
  }
  return from === 0 ? text : bytes + text.slice(from);
}
