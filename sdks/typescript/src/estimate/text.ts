/** Counting texts and messages alone, without the rest of a request. */

import * as anthropic from "./anthropic.js";
import { familyOf } from "./families.js";
import * as openai from "./openai.js";
import { count, hasRanks } from "./ranks.js";
import { sized, Tally } from "./tally.js";
import { ceilDiv } from "./values.js";

/** Returns the tokens of a text: exact for OpenAI's models, else an upper bound. */
export function countText(text: string, model: string): number {
  const family = familyOf(model);
  const counted = hasRanks(family.encoding) ? count(text, family.encoding) : sized(text, family);
  return ceilDiv(counted * family.percent, 100);
}

/**
 * Returns the input tokens of a chat: 3 a message and its role, 1 beside a name, 3 to prime the answer.
 *
 * Exact for texts to OpenAI's models before GPT-5, else a bound. Throws RangeError for files and whatever else the messages
 * do not tell the size of: pass `inputTokens` yourself.
 */
export function countChat(messages: Iterable<object>, model: string): number {
  const tally = new Tally(familyOf(model));
  openai.chat(tally, { messages: [...messages] });
  return known(tally);
}

/**
 * Returns a bound of what Claude bills as input for these messages.
 *
 * cl100k times 1.35 up to Claude 4.6 and times 1.85 later (and for a name without a version), plus 12, plus 5 for every
 * message after the first. Throws RangeError as `countChat` does.
 */
export function boundAnthropic(
  messages: Iterable<object>,
  model: string,
  options: { readonly system?: unknown } = {},
): number {
  const family = familyOf(model);
  const tally = new Tally(family.vendor === "anthropic" ? family : familyOf("claude"));
  anthropic.messages(tally, { messages: [...messages], system: options.system ?? null });
  return known(tally);
}

function known(tally: Tally): number {
  const total = tally.finish();
  const part = total.parts.find((one) => one.how === "unknown");
  if (part === undefined) return total.tokens;
  throw new RangeError(`the request does not tell the size of ${part.note}; pass inputTokens yourself`);
}
