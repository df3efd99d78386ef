/** Output caps: where each API keeps its own, and how one is put into a request that has none. */

import { type Family, familyOf } from "./families.js";
import { configOf, either } from "./gemini.js";
import { prompts } from "./openai.js";
import { type Api, type Estimate, N_MAX } from "./types.js";
import { full, isMapping, isWhole, type Mapping, plain, read } from "./values.js";

/** What OpenAI's Completions produce where the request does not say; others may go on for ever. */
export const COMPLETIONS_CAP = 16;
const CHAT_CAPS = ["max_completion_tokens", "max_tokens"] as const;

/** The output that a request asks for: its cap for one answer, if it has one, and how many answers. */
export interface Output {
  readonly cap: number | null;
  readonly n: number;
}

/** Reads the cap and the number of answers. Reasoning and thinking count inside the cap of every API. */
export function outputOf(api: Api, body: Mapping, family: Family): Output {
  switch (api) {
    case "openai.chat": {
      // OpenAI refuses both at once; whoever else takes them may heed either.
      const caps = CHAT_CAPS.map((name) => count(read(body, name))).filter((cap) => cap !== null);
      return { cap: caps.length ? Math.max(...caps) : null, n: least(read(body, "n")) };
    }
    case "openai.responses":
      return { cap: count(read(body, "max_output_tokens")), n: 1 };
    case "openai.completions": {
      const best = Math.max(least(read(body, "n")), least(read(body, "best_of")));
      const many = Math.max(1, prompts(read(body, "prompt")).length);
      const cap = count(read(body, "max_tokens"));
      return { cap: cap ?? (family.vendor === "openai" ? COMPLETIONS_CAP : null), n: best * many };
    }
    case "anthropic.messages":
      return { cap: count(read(body, "max_tokens")), n: 1 };
    case "gemini.generate_content": {
      const config = configOf(body);
      return {
        cap: count(either(config, "max_output_tokens")),
        n: least(either(config, "candidate_count")),
      };
    }
    case "openai.embeddings":
      return { cap: 0, n: 1 };
  }
}

/** What a pre-flight allowed. */
export interface Allowance {
  readonly model?: string | null | undefined;
  readonly maxOutputTokens?: number | null | undefined;
}

/**
 * Returns a copy of the request with the model and the cap that were allowed.
 *
 * The cap goes where the request had one, else where its API keeps it. Without `maxOutputTokens` it is the estimate's. Pass
 * what the pre-flight answered: `prepare(found, body, call)`.
 */
export function prepare<Body extends object>(estimate: Estimate, body: Body, allowed: Allowance = {}): Body {
  const { model = null, maxOutputTokens = null } = allowed;
  const made: Record<string, unknown> = { ...(body as Mapping) };
  if (model !== null && Object.hasOwn(body, "model")) made.model = model;
  let cap = maxOutputTokens ?? estimate.maxOutputTokens;
  if (cap === null || !estimate.hasOutput) return made as Body;
  if (estimate.n > N_MAX && maxOutputTokens !== null) cap = Math.floor(cap / estimate.n);
  cap = Math.max(1, cap - estimate.outputExtra);
  if (estimate.api === "gemini.generate_content") putGeminiCap(made, cap);
  else for (const name of capFields(estimate, made)) made[name] = cap;
  return made as Body;
}

function capFields(estimate: Estimate, body: Mapping): readonly string[] {
  if (estimate.api === "openai.responses") return ["max_output_tokens"];
  if (estimate.api === "openai.chat") {
    const given = CHAT_CAPS.filter((name) => read(body, name) !== null);
    if (given.length) return given;
    if (familyOf(estimate.model).vendor === "openai") return ["max_completion_tokens"];
  }
  return ["max_tokens"];
}

function putGeminiCap(made: Record<string, unknown>, cap: number): void {
  const names = ["generationConfig", "generation_config", "config"];
  const name = names.find((one) => full(read(made, one))) ?? "generationConfig";
  const before = plain(read(made, name));
  const config = isMapping(before) ? { ...before } : {};
  const snake = name !== "generationConfig" && !Object.hasOwn(config, "maxOutputTokens");
  made[name] = { ...config, [snake ? "max_output_tokens" : "maxOutputTokens"]: cap };
}

function count(value: unknown): number | null {
  return isWhole(value) && value >= 0 ? value : null;
}

function least(value: unknown): number {
  return Math.max(1, count(value) ?? 1);
}
