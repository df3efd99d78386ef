/**
 * Tokens of an image by model, size and detail, by the formulas that the providers publish.
 *
 * Sources, checked 2026-11-22: OpenAI's guide "Images and vision" and its table of costs, with the multipliers that users
 * measured where those were higher; Anthropic's guide "Vision"; Google's "Understand and count tokens" and "Media
 * resolution".
 */

import type { Family } from "./families.js";
import type { How } from "./types.js";
import { ceilDiv } from "./values.js";

/** The dearest image of any family: gpt-4o-mini's at eight tiles. Assumed where nothing is known. */
export const UNKNOWN_MAX = 48_169;

const FIT = 2_048;
const SHORT = 768;
const TILE = 512;
/** Of an image of 2,048 by 768, the largest that is left after fitting. */
const TILES_MAX = 8;
const PATCH = 32;
const PATCHES = 1_536;
/** What was billed where the guide says 100, and patches above 1,536: measured by users, not published. */
const BILLED_PERCENT = 120;

const CLAUDE_PATCH = 28;
const CLAUDE_CAP = 1_568;
const CLAUDE_LATE_CAP = 4_784;
const CLAUDE_3_CAP = 1_600;
const GEMINI_TILE = 768;
const GEMINI_SMALL = 384;
const GEMINI_TOKENS = 258;
const GEMINI_SIDE = 3_072;
const GEMINI_TILES_MAX = 24;
const GEMINI_3_HIGH = 1_120;
const GEMINI_3_ULTRA = 2_240;
/** Tokens of an image by media resolution, from Gemini 3 on; 1,120 unless told otherwise. */
const GEMINI_3 = new Map([
  ["low", 280],
  ["medium", 560],
  ["high", GEMINI_3_HIGH],
  ["ultra_high", GEMINI_3_ULTRA],
]);

/** Width and height in pixels. */
export type Size = readonly [width: number, height: number];

/** `base` and so much for each tile of 512 pixels; `base` alone at low detail. */
interface Tiles {
  readonly base: number;
  readonly tile: number;
}

/** A token for each 32 pixels square, times `percent`; at most so many patches by detail. */
interface Patches {
  readonly percent: number;
  readonly high: number;
  readonly automatic: number;
}

function patches(percent: number, high = PATCHES, automatic = high): Patches {
  return { percent, high, automatic };
}

const RULES: readonly (readonly [RegExp, Tiles | Patches])[] = [
  [/^gpt-4o-mini/, { base: 2_833, tile: 5_667 }],
  [/^gpt-4\.1-mini/, patches(162)],
  [/^gpt-4\.1-nano/, patches(246)],
  [/^(?:o4-mini|codex-mini)/, patches(172)],
  [/^gpt-5-mini/, patches(162)],
  [/^gpt-5-nano/, patches(246)],
  // The guide says 1,536 patches of these; 2,500 were billed.
  [/^gpt-5\.\d+.*-nano/, patches(246, 2_500)],
  [/^gpt-5\.\d+.*-mini/, patches(162, 2_500)],
  [/^gpt-5\.[01](?!\d)/, { base: 70, tile: 140 }],
  // The guide says one token a patch from 5.2 on; 1.2 were billed.
  [/^gpt-5\.[23](?!\d)/, patches(BILLED_PERCENT)],
  [/^gpt-5\.[45](?!\d)/, patches(BILLED_PERCENT, 2_500, 10_000)],
  // From 5.6 on an image without a detail keeps its size, and one of more than 30,000 patches is refused.
  [/^gpt-(?:5\.\d|[6-9])/, patches(BILLED_PERCENT, 2_500, 30_000)],
  [/^gpt-5/, { base: 70, tile: 140 }],
  [/^(?:gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4\.5|gpt-4-turbo|gpt-4-vision|gpt-4-1106)/, { base: 85, tile: 170 }],
  [/^o[13](?:-|$)/, { base: 75, tile: 150 }],
  [/^computer-use/, { base: 65, tile: 129 }],
];
const GEMINI_VERSION = /^gemini-(?:[a-z-]+-)?(\d+)/;

/** Returns the tokens of one image of this size in pixels; null: unknown, so the family's largest. */
export function imageTokens(family: Family, size: Size | null, detail: string | null = null): [number, How] {
  if (family.vendor === "anthropic") return claude(family, size);
  if (family.vendor === "google") return gemini(family, size, detail);
  const rule =
    family.vendor === "openai" ? RULES.find(([pattern]) => pattern.test(family.name))?.[1] : undefined;
  if (rule === undefined) return [UNKNOWN_MAX, "maximum"];
  if ("tile" in rule) {
    if (detail === "low") return [rule.base, "exact"];
    if (size === null) return [rule.base + rule.tile * TILES_MAX, "maximum"];
    return [rule.base + rule.tile * tiles(size), "exact"];
  }
  // Low detail was seen to make no difference to these.
  const budget = detail === "high" || detail === "low" ? rule.high : rule.automatic;
  const seen = size === null ? budget : Math.min(budget, squares(size, PATCH));
  let how: How = size === null || seen === budget ? "maximum" : "exact";
  if (how === "exact" && (rule.percent === BILLED_PERCENT || rule.high !== PATCHES)) how = "measured";
  return [ceilDiv(seen * rule.percent, 100), how];
}

/** Returns the most tokens of a PDF's page seen as an image. */
export function pageTokens(family: Family): number {
  return family.vendor === "google" ? GEMINI_3_HIGH : imageTokens(family, null, "high")[0];
}

function squares([width, height]: Size, side: number): number {
  return ceilDiv(width, side) * ceilDiv(height, side);
}

/**
 * Tiles after fitting into 2,048 pixels square and then to a short side of 768, never enlarging.
 *
 * Whichever way the sizes between are rounded, not fewer than that.
 */
function tiles(size: Size): number {
  let long = Math.max(...size);
  const short = Math.min(...size);
  let shorts = [short];
  if (long > FIT) {
    shorts = [Math.max(1, Math.floor((short * FIT) / long)), ceilDiv(short * FIT, long)];
    long = FIT;
  }
  const most = shorts.map((side) =>
    side > SHORT
      ? ceilDiv(long * SHORT, side * TILE) * ceilDiv(SHORT, TILE)
      : ceilDiv(long, TILE) * ceilDiv(side, TILE),
  );
  return Math.max(...most);
}

function claude(family: Family, size: Size | null): [number, How] {
  let cap = family.late ? CLAUDE_LATE_CAP : CLAUDE_CAP;
  if (family.name.includes("claude-3")) {
    // These were documented by their area instead, which comes to a little more.
    cap = CLAUDE_3_CAP;
    if (size !== null) {
      const seen = Math.max(squares(size, CLAUDE_PATCH), ceilDiv(size[0] * size[1], 750));
      return [Math.min(cap, seen), seen < cap ? "exact" : "maximum"];
    }
  }
  if (size === null) return [cap, "maximum"];
  const seen = squares(size, CLAUDE_PATCH);
  return [Math.min(cap, seen), seen <= cap ? "exact" : "maximum"];
}

function gemini(family: Family, size: Size | null, detail: string | null): [number, How] {
  const level = (detail ?? "").toLowerCase().replace(/^media_resolution_/, "");
  const version = GEMINI_VERSION.exec(family.name);
  const generation = version === null ? null : Number(version[1]);
  if (generation !== null && generation >= 3) return [GEMINI_3.get(level) ?? GEMINI_3_HIGH, "exact"];
  if (size === null) return [GEMINI_TOKENS * GEMINI_TILES_MAX, "maximum"];
  let [width, height] = size;
  const longest = Math.max(width, height);
  if (longest > GEMINI_SIDE) {
    width = ceilDiv(width * GEMINI_SIDE, longest);
    height = ceilDiv(height * GEMINI_SIDE, longest);
  }
  let tokens = GEMINI_TOKENS;
  if (Math.max(width, height) > GEMINI_SMALL) {
    // A tile's side is two thirds of the short side, within 256 and 768.
    const side = Math.min(GEMINI_TILE, Math.max(256, Math.floor(Math.min(width, height) / 1.5)));
    tokens *= Math.min(GEMINI_TILES_MAX, ceilDiv(width, side) * ceilDiv(height, side));
  }
  return generation === null ? [Math.max(tokens, GEMINI_3_ULTRA), "maximum"] : [tokens, "exact"];
}
