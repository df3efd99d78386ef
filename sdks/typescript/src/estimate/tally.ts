/** Adding up a request: the cheap bound first, and tokens counted only where that does not settle it. */

import type { Family } from "./families.js";
import { countUntil, hasRanks, isLong, utf8Bytes, widestBytes } from "./ranks.js";
import { type How, type Part, worse } from "./types.js";
import { ceilDiv, full, renderings, written } from "./values.js";

/** A text and the tokens that it may need beside its own. */
export type Rendering = readonly [text: string, more: number];

interface Item {
  readonly kind: string;
  /** Renderings of one thing: the longest counts. None for a number. */
  readonly texts: readonly Rendering[];
  readonly tokens: number;
  readonly how: How;
  readonly note: string;
}

/** Items of one kind: tokens in the ranks' own, and those that need no factor. */
interface Group {
  readonly kind: string;
  readonly how: How;
  readonly note: string;
  raw: number;
  fixed: number;
  count: number;
}

/** What a tally came to. `cached` is the bound of what lies before the last mark. */
export interface Total {
  readonly tokens: number;
  readonly parts: readonly Part[];
  readonly cached: number;
  readonly exceeds: boolean;
}

export interface Finish {
  readonly limit?: number | null | undefined;
  /** The model's, in the caller's words. */
  readonly context?: number | null | undefined;
  /** A price list's, which is now and then behind, so that it is believed only where nothing else is known. */
  readonly listed?: number | null | undefined;
  readonly maxInputTokens?: number | null | undefined;
}

/** Collects what a request consists of. Texts wait until the end, where it is decided how to count them. */
export class Tally {
  readonly #items: Item[] = [];
  #marked: number | null = null;
  images = 0;
  audio = false;
  readonly tools = new Map<string, number>();
  readonly warnings: string[] = [];
  /** How often the provider may read the whole context within one call. */
  rounds = 1;

  constructor(readonly family: Family) {}

  /** Adds a text that reaches the model as it is. */
  text(kind: string, text: unknown): void {
    if (full(text)) this.#push({ kind, texts: [[written(text), 0]], tokens: 0, how: "exact", note: "" });
  }

  /** Adds something whose rendering is not published: the longest of the likely ones, and `extra`. */
  rendered(kind: string, texts: readonly Rendering[], extra: number): void {
    this.#push({ kind, texts, tokens: extra, how: "measured", note: "" });
  }

  /** Adds a value that reaches the model as JSON, however it is spaced. */
  json(kind: string, value: unknown, extra = 0): void {
    const texts = renderings(value).map((text): Rendering => [text, 0]);
    this.rendered(kind, texts, extra);
  }

  /** Adds a number that needs no counting. */
  add(kind: string, tokens: number, how: How, note = ""): void {
    if (tokens) this.#push({ kind, texts: [], tokens, how, note });
  }

  /** Notes something whose size only the provider knows; `media`: it may be more than text. */
  unknown(what: string, media = false): void {
    this.audio ||= media;
    this.#push({ kind: "unknown", texts: [], tokens: 0, how: "unknown", note: what });
  }

  /** Says that everything so far may be written into a cache. */
  mark(): void {
    this.#marked = this.#items.length;
  }

  /** Whether anything may be written into a cache. */
  get hasMark(): boolean {
    return this.#marked !== null;
  }

  /** Counts. Without a `limit` texts are counted to the end; with one, only where their bytes exceed it. */
  finish({ limit = null, context = null, listed = null, maxInputTokens = null }: Finish = {}): Total {
    const [counted, hows] = this.#count(limit);
    const { percent } = this.family;
    const groups = new Map<string, Group>();
    let before = 0;
    this.#items.forEach((item, place) => {
      const tokens = counted[place] as number;
      const how = worse(hows[place] as How, item.how);
      const key = `${item.kind}\0${how}\0${item.note}`;
      let group = groups.get(key);
      if (group === undefined) {
        group = { kind: item.kind, how, note: item.note, raw: 0, fixed: 0, count: 0 };
        groups.set(key, group);
      }
      group.raw += tokens;
      group.fixed += item.tokens;
      group.count += 1;
      if (this.#marked !== null && place < this.#marked)
        before += ceilDiv(tokens * percent, 100) + item.tokens;
    });
    const parts = [...groups.values()].map(({ kind, how, note, raw, fixed, count }): Part => {
      return { kind, tokens: ceilDiv(raw * percent, 100) + fixed, how, count, note };
    });
    let total = parts.reduce((sum, part) => sum + part.tokens, 0);
    const assumed = parts.filter((part) => part.how === "unknown" && !part.tokens);
    const [first] = assumed;
    if (first !== undefined) {
      const most = (context || this.#context(listed)) * this.rounds;
      const rest = Math.max(0, most - total);
      parts[parts.indexOf(first)] = { ...first, tokens: rest };
      total += rest;
      this.warnings.push(
        `only the provider knows the size of ${assumed.map((part) => part.note).join(", ")}` +
          ": its whole context is assumed; pass maxInputTokens where you know better",
      );
    } else if (context !== null && total > context * this.rounds) {
      // The provider refuses a longer input, and bills nothing for it.
      total = context * this.rounds;
      this.warnings.push("the input may be longer than the model's context, beyond which it is refused");
    }
    if (maxInputTokens !== null && total > maxInputTokens) total = maxInputTokens;
    const exceeds = limit !== null && total > limit;
    return { tokens: total, parts, cached: Math.min(before, total), exceeds };
  }

  #push(item: Item): void {
    this.#items.push(item);
  }

  #context(listed: number | null): number {
    if (this.family.vendor === "other") return listed || this.family.context;
    return Math.max(listed ?? 0, this.family.context);
  }

  /** Returns, item by item, the tokens of its texts in the ranks' own tokens, and how they were found. */
  #count(limit: number | null): [number[], How[]] {
    const { encoding, percent } = this.family;
    const cheap = this.#items.map((item) =>
      item.texts.reduce((most, [text, more]) => Math.max(most, sized(text, this.family) + more), 0),
    );
    const hows = this.#items.map((item): How => (item.texts.length ? "bytes" : "exact"));
    const fixed = this.#items.reduce((sum, item) => sum + item.tokens, 0);
    if (!hasRanks(encoding)) return [cheap, hows];
    const bytes = cheap.reduce((sum, size) => sum + size, 0);
    if (limit !== null && fixed + ceilDiv(bytes * percent, 100) <= limit) return [cheap, hows];
    let room = limit === null ? null : Math.floor(((limit - fixed) * 100) / percent);
    const found = [...cheap];
    const way: How = percent === 100 ? "exact" : "measured";
    for (const [place, item] of this.#items.entries()) {
      let most = 0;
      for (const [text, more] of item.texts) {
        const tokens = countUntil(text, encoding, room === null ? null : room - more);
        // The rest is not worth counting: it does not fit already.
        if (tokens === null) return [found, hows];
        most = Math.max(most, tokens + more);
      }
      if (item.texts.length) {
        found[place] = most;
        hows[place] = way;
        if (way === "exact" && item.texts.some(([text]) => isLong(text))) hows[place] = "measured";
      }
      if (room !== null) room -= most;
    }
    return [found, hows];
  }
}

/** Returns the cheap bound of a text: its bytes, for a model of which nothing is known as it may read them. */
export function sized(text: string, family: Family): number {
  return family.vendor === "other" ? widestBytes(text) : utf8Bytes(text);
}
