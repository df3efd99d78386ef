import { defineConfig } from "tsdown";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    context: "src/context.ts",
    "outbox-node": "src/settling/outbox-node.ts",
    testing: "src/testing/index.ts",
    estimate: "src/estimate/index.ts",
    tokens: "src/estimate/tokens/index.ts",
    "tokens/o200k_base": "src/estimate/tokens/o200k_base.ts",
    "tokens/cl100k_base": "src/estimate/tokens/cl100k_base.ts",
    openai: "src/integrations/openai/index.ts",
    anthropic: "src/integrations/anthropic/index.ts",
    instrument: "src/integrations/fetch/index.ts",
    ai: "src/integrations/ai/index.ts",
    langchain: "src/integrations/langchain/index.ts",
  },
  format: ["esm", "cjs"],
  dts: true,
  clean: true,
  // What a runtime offers is asked for while it runs, never by an import that a bundler would follow.
  platform: "neutral",
  target: "es2022",
  fixedExtension: true,
  external: [/^node:/, /^js-tiktoken/],
});
