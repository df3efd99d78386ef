/** Anthropic's clients, gated: `import Anthropic from "@noburn/sdk/anthropic"` instead of `from "@anthropic-ai/sdk"`. */

export * from "@anthropic-ai/sdk";
export type { WrapOptions } from "../clients.js";
export { Anthropic, default } from "./classes.js";
export { wrap } from "./wrap.js";
