/** OpenAI's clients, gated: `import OpenAI from "@noburn/sdk/openai"` instead of `from "openai"`. */

export * from "openai";
export type { WrapOptions } from "../clients.js";
export { AzureOpenAI, BedrockOpenAI, default, OpenAI } from "./classes.js";
export { wrap } from "./wrap.js";
