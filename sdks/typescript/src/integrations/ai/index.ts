/**
 * For Vercel's AI SDK, ai 6 and ai 7:
 *
 *     import { wrapProvider } from "@noburn/sdk/ai";
 *
 *     const openai = wrapProvider(createOpenAI(), { customer: "acme" });
 *     const { text } = await generateText({ model: openai("gpt-4o-mini"), prompt: "A haiku, please." });
 */

export { isBudgetExceeded, noburnErrorOf } from "../../errors.js";
export type { NoburnModelOptions } from "./calls.js";
export { inLoop, Loop, type LoopSettings, startLoop } from "./loops.js";
export {
  type EmbeddingMiddleware,
  type ImageMiddleware,
  type LanguageMiddleware,
  noburn,
  noburnEmbedding,
  noburnImage,
} from "./middleware.js";
export { wrapModel } from "./models.js";
export type { NoburnOptions } from "./options.js";
export { useDefaultProvider, wrapProvider } from "./provider.js";
