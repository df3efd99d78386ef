export { AzureOpenAI, BedrockOpenAI, default, OpenAI } from "openai";
