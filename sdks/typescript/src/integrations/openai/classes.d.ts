export { AzureOpenAI, default, OpenAI } from "openai";
