/** Families of models: whose ranks count their text, how their chats are framed, how much they can read. */

import { bare, type Encoding, encodingFor } from "./ranks.js";

export type Frame = "published" | "channels" | "open" | "claude" | "gemini" | "other";
export type Vendor = "openai" | "anthropic" | "google" | "other";

export const CLAUDE_TO_4_6_PERCENT = 135;
/** cl100k times this bounded Claude in every case of 89 languages; the tokenizer changed with 4.7. */
export const CLAUDE_PERCENT = 185;

/** The longest context that a model is sold with; assumed for a model of which nothing is known. */
export const CONTEXT_MAX = 10_000_000;

const FAMILIES_MAX = 1_024;
const CLAUDE_VERSION = /-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)/;
const PUBLISHED = /^(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-4(?:-|$)|gpt-3\.5|gpt-35)/;
const OPENAI = /^(?:gpt-(?!oss)|chatgpt|o\d(?:-|$)|codex|computer-use|text-embedding-|davinci|babbage)/;
const CONTEXTS: readonly (readonly [RegExp, number])[] = [
  [/^gpt-4\.1/, 1_047_576],
  [/^(?:gpt-4o|chatgpt-4o|gpt-4-turbo|gpt-4-vision|gpt-oss)/, 131_072],
  [/^gpt-4-32k/, 32_768],
  [/^gpt-4(?:-\d|$)/, 8_192],
  [/^gpt-3/, 16_385],
  [/^o\d/, 200_000],
  [/^text-embedding-/, 300_000],
];

/** What is known of a model. `percent` is what its tokens are at most, in hundredths of `encoding`'s. */
export interface Family {
  readonly name: string;
  readonly vendor: Vendor;
  readonly frame: Frame;
  readonly encoding: Encoding | null;
  readonly percent: number;
  /** The longest input, used where nothing else bounds a part. */
  readonly context: number;
  /** A Claude after 4.6. */
  readonly late: boolean;
}

const known = new Map<string, Family>();

/** Returns the family of a model; anything not known belongs to the one with the widest bounds. */
export function familyOf(model: string): Family {
  let family = known.get(model);
  if (family === undefined) {
    if (known.size >= FAMILIES_MAX) known.clear();
    family = found(model);
    known.set(model, family);
  }
  return family;
}

function found(model: string): Family {
  const name = bare(model);
  if (name.includes("claude")) {
    const late = !isClaudeTo46(name);
    const percent = late ? CLAUDE_PERCENT : CLAUDE_TO_4_6_PERCENT;
    const encoding = "cl100k_base";
    return { name, vendor: "anthropic", frame: "claude", encoding, percent, context: 1_000_000, late };
  }
  const common = { name, percent: 100, late: false } as const;
  if (name.startsWith("gemini") || name.startsWith("gemma")) {
    return { ...common, vendor: "google", frame: "gemini", encoding: null, context: 2_097_152 };
  }
  const encoding = encodingFor(model);
  if (name.startsWith("gpt-oss")) {
    return { ...common, vendor: "other", frame: "open", encoding, context: 131_072 };
  }
  if (OPENAI.test(name)) {
    const frame = PUBLISHED.test(name) ? "published" : "channels";
    const context = CONTEXTS.find(([pattern]) => pattern.test(name))?.[1] ?? 1_050_000;
    return { ...common, vendor: "openai", frame, encoding, context };
  }
  return { ...common, vendor: "other", frame: "other", encoding, context: CONTEXT_MAX };
}

/** Says whether this is a Claude with the older tokenizer; not for a name without a version. */
export function isClaudeTo46(model: string): boolean {
  // A region or an account before the name, as in a cloud's address, may look like a version.
  const version = CLAUDE_VERSION.exec(model.slice(Math.max(0, model.indexOf("claude"))));
  if (version === null) return false;
  const major = Number(version[1]);
  return major < 4 || (major === 4 && Number(version[2] ?? 0) <= 6);
}
