export { Anthropic, default } from "@anthropic-ai/sdk";
